// "No death of processes, of one or all, loses a row": what each one had in hand when it was killed.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { demo, load, SANITIZE, startGateway, until, writeFiles, configFiles } from './harness.mjs';
import { mockCredential, startMock } from './mock.mjs';
import { lives, look } from './proc.mjs';

const SLOW = 12; // requests that wait for the provider when the death comes
const BURST = SANITIZE ? 3_000 : 15_000;

let mock;
let gateway;

before(async () => {
    mock = await startMock();
});

after(async () => {
    await mock?.stop();
});

afterEach(async () => {
    if (gateway && gateway.child.exitCode === null && gateway.child.signalCode === null) {
        await gateway.stop();
    }
    gateway = null;
});

const target = { provider: 'openai', credential: 'mock', timeout: '20s' };
const projects = demo({
    hello: { provider: 'echo', model: 'echo' },
    never: { ...target, model: 'never-answers' },
});

async function start(options = {}) {
    gateway = await startGateway({ credentials: { mock: mockCredential(mock) }, projects, ...options });
    return gateway;
}

/** Requests that the provider has and never answers; `answers` when their connections have ended. */
async function hold(count) {
    const calls = mock.requests.length;
    const ends = Array.from({ length: count }, () => gateway.post('never', { message: 'Hi' })
        .then((answer) => answer, (error) => ({ broken: error.cause?.code ?? String(error) })));
    await until('the provider has them all', () => mock.requests.length >= calls + count);
    return { answers: Promise.all(ends) };
}

/** Children that see the master's end may be gone before their turn comes. */
function killAll() {
    for (const { pid } of [look(gateway.pid), ...gateway.children()]) {
        try {
            process.kill(pid, 'SIGKILL');
        } catch (error) {
            assert.equal(error.code, 'ESRCH');
        }
    }
}

async function gone() {
    const end = await gateway.end();
    assert.equal(end.signal, 'SIGKILL');
    await until('nobody is left', () => [...gateway.family.values()].every((one) => !lives(one)));
}

function assertDied(rows) {
    for (const row of rows) {
        assert.equal(row.status, 'worker_died');
        assert.equal(row.http_status, null);
        assert.equal(row.project, 'demo');
        assert.equal(row.endpoint, 'never');
        assert.ok(row.token.length > 0);
        assert.equal(row.client_ip, '127.0.0.1');
        assert.deepEqual([row.provider, row.model, row.credential],
                         ['openai', 'never-answers', 'mock']);
        assert.match(row.error_message, /died/);
        const attempts = JSON.parse(row.attempts);
        assert.equal(attempts.length, 1);
        assert.equal(attempts[0].status, 'worker_died');
        assert.equal(attempts[0].model, 'never-answers');
        assert.ok(row.worker === 0 || row.worker === 1);
    }
}

test('kill -9 of a worker: what it had in hand fails and has its row, worker_died', async () => {
    await start({ workers: 2 });
    const held = await hold(SLOW);
    for (const { pid } of gateway.workers()) {
        process.kill(pid, 'SIGKILL');
    }
    const answers = await held.answers;
    assert.ok(answers.every(({ broken }) => broken), 'their clients saw the connection break');
    await gateway.rowsReach(SLOW);
    assertDied(gateway.rows());
    const after_ = await gateway.post('hello', { message: 'Hi' });
    assert.equal(after_.status, 200);
    await gateway.row(after_.id);
    assert.equal(gateway.rowCount(), SLOW + 1);
});

test('the obituary names the oldest request in flight', async () => {
    await start({ workers: 1 });
    const held = await hold(1);
    process.kill(gateway.worker(0).pid, 'SIGABRT'); // sanitizers don't catch it
    await held.answers;
    await gateway.rowsReach(1);
    const [row] = gateway.rows();
    await until('the obituary', () => /oldest request in flight/.test(gateway.stderr));
    assert.match(gateway.stderr,
                 /worker 0 \(gen 1\).*killed by signal 6/);
    assert.match(gateway.stderr, new RegExp(
        `oldest request in flight was ${row.request_id} of demo/never, begun \\d+ ms before`));
});

for (const [what, workers] of [['as many', 2], ['more', 5], ['fewer', 1]]) {
    test(`kill -9 of all at once: the next start, with ${what} workers, makes the rows`, async () => {
        await start({ workers: 2 });
        const held = await hold(SLOW);
        killAll();
        await gone();
        const answers = await held.answers;
        assert.ok(answers.every(({ broken }) => broken));
        assert.equal(gateway.rowCount(), 0);
        writeFiles(gateway.config, configFiles(gateway.directory, {
            credentials: { mock: mockCredential(mock) }, projects, workers }));
        await gateway.restart();
        await gateway.rowsReach(SLOW);
        assertDied(gateway.rows());
        const answer = await gateway.post('hello', { message: 'Hi' });
        assert.equal(answer.status, 200);
        await gateway.stop();
        assert.equal(gateway.rows().length, SLOW + 1);
    });
}

test('kill -9 of all under load, three times: whoever got an answer has its row', async () => {
    await start({ workers: 2 });
    const answered = [];
    for (let round = 0; round < 3; round++) {
        let over = false;
        const clients = Array.from({ length: 8 }, async () => {
            while (!over) {
                try {
                    const answer = await gateway.post('hello', { message: 'Hi' });
                    assert.equal(answer.status, 200);
                    answered.push(answer.id);
                } catch {
                    over = true;
                }
            }
        });
        await sleep(200 + 150 * round);
        killAll();
        over = true;
        await Promise.all(clients);
        await gone();
        await gateway.restart();
    }
    await gateway.stop();
    const rows = new Map(gateway.rows().map((row) => [row.request_id, row]));
    assert.ok(answered.length > 0, `${answered.length} answers`);
    for (const id of answered) {
        assert.equal(rows.get(id)?.status, 'ok', `the row of ${id}`);
    }
    // At most what was in hand at a death is beyond that.
    assert.ok(rows.size - answered.length <= 3 * 8, `${rows.size} rows, ${answered.length} answers`);
});

test('kill -9 of workers under load, again and again: no answer without its row', async () => {
    await start({ workers: 2 });
    const background = load(gateway, { requests: BURST, connections: 16 });
    for (let i = 0; i < 6; i++) {
        await sleep(100);
        const victim = gateway.worker(i % 2);
        if (victim) {
            process.kill(victim.pid, 'SIGKILL');
        }
    }
    const report = await background;
    await gateway.stop();
    const rows = gateway.rows();
    const ok = rows.filter(({ status }) => status === 'ok').length;
    assert.ok(ok >= report.ok, `${ok} rows ok of ${report.ok} answers`);
    assert.ok(rows.every(({ status }) => status === 'ok' || status === 'worker_died'));
    assert.equal(new Set(rows.map(({ request_id: id }) => id)).size, rows.length);
});
