// The auditor itself: it says nothing of what agrees, and names each thing that does not.
import assert from 'node:assert/strict';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Audit, readCounters, readSums, RowReader } from './audit.mjs';
import { openStore } from './database.mjs';
import { demo, startGateway } from './harness.mjs';

const id = (n) => `019a0000-0000-7000-8000-${String(n).padStart(12, '0')}`;

let audit;
beforeEach(() => {
    audit = new Audit();
});

function request(n, fields = {}) {
    return audit.request({ marker: `m-${n}-`, ip: `127.1.0.${n}`, endpoint: 'plain', upstream: true,
                           ...fields });
}

function answer(n, { status = 200, code } = {}) {
    const error = code && { code, message: 'no' };
    return { status, id: id(n), text: `m-${n}-`, json: { ...(error && { error }),
                                                        meta: { request_id: id(n) } } };
}

function row(n, fields = {}) {
    return { request_id: id(n), client_ip: `127.1.0.${n}`, endpoint: 'plain', status: 'ok',
             http_status: 200, attempts: '[{}]', ...fields };
}

/** Slots' counters as they are after so many requests that left their rows. */
function counters(rows, fields = {}) {
    return { logged_rows: rows, accounts: [],
             slots: [{ requests: rows, rows, refused: 0, in_flight: 0, ...fields }] };
}

/** A request with its call, answer and row. */
function whole(n) {
    const one = request(n);
    audit.call(`m-${n}-`);
    one.answered(answer(n));
    audit.row(row(n));
}

function finds(kind, options) {
    audit.finish(options);
    assert.deepEqual(Object.keys(audit.kinds), [kind], audit.disagreements.join('\n'));
}

test('what agrees is not mentioned', () => {
    whole(1);
    const early = request(2);
    audit.call('m-2-');
    audit.row(row(2)); // before the client has read its answer
    early.answered(answer(2));
    request(3, { row: 'never' }).answered(answer(3, { status: 401, code: 'unauthorized' }));
    request(4, { leaves: true }).broke('left');
    audit.row(row(4, { status: 'client_closed', http_status: null }));
    request(5, { leaves: true, row: 'may' }).broke('left');
    request(6, { upstream: false }).answered(answer(6, { status: 503, code: 'overloaded' }));
    assert.deepEqual(audit.finish({ counters: counters(3, { refused: 2 }) }), []);
});

test('an answer without a row', () => {
    const one = request(1);
    audit.call('m-1-');
    one.answered(answer(1));
    finds('an answer without a row');
});

test('a row twice', () => {
    request(1, { leaves: true }).broke('left', id(1));
    audit.row(row(1));
    audit.row(row(1));
    finds('a row twice');
});

test('a row without a request', () => {
    whole(1);
    audit.row(row(1, { request_id: id(9) }));
    finds('a row without a request');
});

test('a row for a request that was refused before it was accepted', () => {
    request(1, { row: 'never' }).answered(answer(1, { status: 401, code: 'unauthorized' }));
    audit.row(row(1, { status: 'unauthorized' }));
    finds('a row without a request');
});

test('a row of a client that left before its head was whole', () => {
    request(1, { row: 'never', leaves: true }).broke('left');
    audit.row(row(1, { status: 'client_closed' }));
    finds('a row without a request');
});

for (const [what, fields] of [['status', { status: 'provider_error' }], ['http_status', { http_status: 502 }],
                              ['endpoint', { endpoint: 'other' }], ['address', { client_ip: '127.0.0.1' }],
                              ['attempts', { attempts: '[]' }]]) {
    test(`a row whose ${what} contradicts the answer`, () => {
        const one = request(1);
        audit.call('m-1-');
        one.answered(answer(1));
        audit.row(row(1, fields));
        finds('a row that contradicts the answer');
    });
}

test('a call without a row, though the client left so that it might have none', () => {
    const one = request(1, { row: 'may', leaves: true });
    audit.call('m-1-');
    one.broke('left');
    finds('a call without a row');
});

test('a request without a row', () => {
    request(1, { leaves: true }).broke('left');
    finds('a request without a row');
});

test('a request that the upstream saw too often', () => {
    const one = request(1);
    audit.call('m-1-');
    audit.call('m-1-');
    one.answered(answer(1));
    audit.row(row(1, { attempts: '[{},{}]' }));
    finds('a request that the upstream saw too often');
});

test('a call after the request was over', () => {
    whole(1);
    audit.call('m-1-');
    finds('a call that no open request explains');
});

test('an answer without a call', () => {
    request(1).answered(answer(1));
    audit.row(row(1));
    finds('an answer without a call');
});

test('an id twice', () => {
    for (const n of [1, 2]) {
        request(n, { upstream: false }).answered(answer(1));
    }
    audit.row(row(1, { client_ip: '127.1.0.2' }));
    finds('an id twice');
});

test("another request's answer", () => {
    const one = request(1, { echoes: true });
    audit.call('m-1-');
    one.answered({ ...answer(1), text: 'm-2-' });
    audit.row(row(1));
    finds("another request's answer");
});

test('two ids in one answer', () => {
    const one = request(1, { upstream: false });
    one.answered({ ...answer(1), json: { meta: { request_id: id(2) } } });
    audit.row(row(1));
    finds('two ids in one answer');
});

test('an answer that is not the right one', () => {
    const one = request(1, { expect: ['ok'], upstream: false });
    one.answered(answer(1, { status: 503, code: 'draining' }));
    audit.row(row(1, { status: 'draining', http_status: 503 }));
    finds('unexpected answer');
});

test('a connection that broke though nobody meant it', () => {
    request(1).broke('ECONNRESET');
    audit.row(row(1));
    finds('a connection broke');
});

test('a request that never ended', () => {
    request(1, { row: 'may' });
    finds('a request without an end');
});

test('a killed process: connections may break, and what nobody had read yet has no row', () => {
    const recorded = request(1);
    const unread = request(2);
    audit.call('m-1-');
    audit.row(row(1, { status: 'worker_died', http_status: null }));
    audit.killed(performance.now(), performance.now() + 1);
    recorded.broke('ECONNRESET');
    unread.broke('ECONNRESET');
    assert.deepEqual(audit.finish({ counters: counters(1), killed: { worker: 1 } }), []);
    assert.equal(audit.counts.excused, 1);
});

test('a killed process: what called the upstream must have its row', () => {
    const called = request(1);
    audit.call('m-1-');
    audit.killed(performance.now(), performance.now() + 1);
    called.broke('ECONNRESET');
    finds('a call without a row', { killed: { worker: 1 } });
});

test('a killed process: the call of a message is not that of who could not say it again', () => {
    const called = request(1);
    audit.killed(performance.now(), performance.now() + 1);
    called.broke('ECONNRESET');
    const again = request(2, { said: 'm-1-' });
    audit.call('m-1-'); // what the dead worker had sent is read only now
    again.broke('ECONNREFUSED');
    audit.row(row(1, { status: 'worker_died', http_status: null }));
    assert.deepEqual(audit.finish({ counters: counters(1), killed: { worker: 1 } }), []);
});

test('a message said again: one of them has made the call', () => {
    const [first, again] = [request(1), request(2, { said: 'm-1-' })];
    audit.killed(performance.now(), performance.now() + 1);
    first.broke('ECONNRESET');
    audit.row(row(1, { status: 'worker_died', http_status: null, attempts: null }));
    audit.call('m-1-');
    again.answered({ ...answer(2), text: 'm-1-' });
    audit.row(row(2));
    assert.deepEqual(audit.finish({ counters: counters(2), killed: { worker: 1 } }), []);
});

test('a message said three times: calls that are read late are in the rows of all of them', () => {
    const first = request(1);
    const all = [first, request(2, { said: 'm-1-' }), request(3, { said: 'm-1-' })];
    audit.killed(performance.now(), performance.now() + 1);
    all.slice(0, 2).forEach((one) => one.broke('ECONNRESET'));
    for (let i = 0; i < 3; i++) {
        audit.call('m-1-');
    }
    [1, 2].forEach((n) => audit.row(row(n, { status: 'worker_died', http_status: null })));
    all[2].answered({ ...answer(3), text: 'm-1-' });
    audit.row(row(3));
    assert.deepEqual(audit.finish({ counters: counters(3), killed: { worker: 2 } }), []);
});

test('a message said again: a call too many is in nobody\'s row', () => {
    whole(1);
    const again = request(2, { said: 'm-1-' });
    audit.call('m-1-'); // its answer was there already
    again.answered({ ...answer(2), headers: { 'idempotent-replayed': 'true' }, json: { meta: { request_id: id(1) } } });
    audit.row(row(2, { status: 'replayed', attempts: null }));
    finds('a call without a row', { counters: counters(2) });
});

test('a killed process: what was answered must have its row', () => {
    const one = request(1, { upstream: false });
    audit.killed(performance.now(), performance.now() + 1);
    one.answered(answer(1));
    finds('an answer without a row', { killed: { worker: 1, logger: 1, master: 1 } });
});

test('a killed process: the counters are exact all the same', () => {
    whole(1);
    finds('a counter', { counters: counters(1, { requests: 2 }), killed: { worker: 1 } });
});

test('a killed process: its workers may refuse, and leave no row then', () => {
    const one = request(1, { expect: ['ok'] });
    audit.killed(performance.now(), performance.now() + 1);
    one.answered(answer(1, { status: 503, code: 'overloaded' }));
    assert.deepEqual(audit.finish(), []);
});

test('refused though nobody was killed', () => {
    request(1, { expect: ['ok'] }).answered(answer(1, { status: 503, code: 'overloaded' }));
    finds('unexpected answer');
});

test('long after a kill nothing is excused', async () => {
    audit.killed(performance.now(), performance.now() + 1);
    await sleep(5);
    request(1, { leaves: true }).broke('left');
    finds('a request without a row', { killed: { worker: 1 } });
});

test('broken requests of one address: rows go to those of their endpoint', () => {
    const [first, second] = [request(1), request(2, { ip: '127.1.0.1', endpoint: 'late' })];
    audit.call('m-2-');
    audit.killed(performance.now(), performance.now() + 1);
    audit.row(row(2, { client_ip: '127.1.0.1', endpoint: 'late', status: 'worker_died' }));
    first.broke('ECONNRESET');
    second.broke('ECONNRESET');
    assert.deepEqual(audit.finish(), []);
});

test('worker_died, and none was', () => {
    request(1, { leaves: true }).broke('left');
    audit.row(row(1, { status: 'worker_died', http_status: null }));
    finds('worker_died, and none was killed');
});

for (const [name, fields] of [['requests', { requests: 3 }], ['rows', { rows: 1 }],
                              ['in_flight', { in_flight: 1 }], ['refused', { refused: 1 }]]) {
    test(`a counter that is wrong: ${name}`, () => {
        whole(1);
        whole(2);
        finds('a counter', { counters: counters(2, fields) });
    });
}

test('a counter that is wrong: logged_rows; less is right only when a logger was killed', () => {
    whole(1);
    whole(2);
    audit.finish({ counters: { ...counters(2), logged_rows: 1 }, killed: { logger: 1 } });
    assert.deepEqual(audit.disagreements, []);
    audit.finish({ counters: { ...counters(2), logged_rows: 1 } });
    assert.deepEqual(Object.keys(audit.kinds), ['a counter']);
});

test('rollups and refused requests that disagree with the rows and counters', () => {
    const about = (sums, killed = {}) => {
        audit = new Audit();
        return audit.finish({ counters: counters(0, { refused: 2 }), sums, killed });
    };
    assert.ok(!about({ refused: 2, wrong: [], cost: 0 }).some((one) => one.includes('money')));
    assert.ok(about({ refused: 2, wrong: [], cost: 5 })
        .some((one) => one.includes('money: the rows cost 5 nano-USD, the accounts of each token have 0')));
    const heard = (list, what) => list.some((one) => one.includes(what));
    assert.ok(heard(about({ refused: 2, wrong: ['x'], cost: 0 }), 'a rollup that is not the sum of the rows: x'));
    assert.ok(heard(about({ refused: 1, wrong: [], cost: 0 }), 'refused requests: 1 in the store, 2 counted'));
    assert.ok(!heard(about({ refused: 1, wrong: [], cost: 0 }, { worker: 1 }), 'in the store'));
    assert.ok(heard(about({ refused: 3, wrong: [], cost: 0 }, { worker: 1 }), 'in the store'));
});

let gateway;
afterEach(async () => {
    await gateway?.stop();
    gateway = null;
});

test('a real gateway: rows and counters agree with what the client saw', async () => {
    gateway = await startGateway({ projects: demo({ plain: { provider: 'echo', model: 'echo' } }) });
    for (let n = 1; n <= 20; n++) {
        const one = audit.request({ marker: `m-${n}-`, ip: '127.0.0.1', endpoint: 'plain',
                                    echoes: true, row: n % 5 ? 'must' : 'never' });
        const token = n % 5 ? gateway.token : 'nobody';
        one.answered(await gateway.post('plain', { message: `m-${n}-` }, { token }));
    }
    await gateway.rowsReach(16);
    const store = openStore(gateway.database, { readOnly: true });
    const reader = new RowReader(store);
    reader.more().forEach((one) => audit.row(one));
    assert.deepEqual(reader.more(), [], 'each row once');
    store.close();
    await gateway.stop();
    const counted = readCounters(path.join(gateway.directory, 'run/counters'));
    const sums = readSums(gateway.database);
    const told = openStore(gateway.database, { readOnly: true });
    const refused = told.prepare('SELECT code, network, sum(count) AS count FROM gateway_refused ' +
                                 'GROUP BY code, network').all();
    told.close();
    assert.deepEqual(refused.map((row) => ({ ...row })),
                     [{ code: 'unauthorized', network: '127.0.0.0/24', count: 4 }]);
    assert.deepEqual(audit.finish({ counters: counted, sums }), []);
    assert.deepEqual(audit.counts.outcomes, { ok: 16, unauthorized: 4 });
});
