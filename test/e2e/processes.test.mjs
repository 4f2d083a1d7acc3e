// Masters, workers and loggers that are stopped and killed.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { demo, load, PATIENCE, PROJECT_ID, SANITIZE, startGateway, until, UUID7 } from './harness.mjs';
import { mockCredential, startMock } from './mock.mjs';
import { lives, look } from './proc.mjs';

const BURST = SANITIZE ? 4_000 : 20_000;

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

async function start(options = {}) {
    const target = { provider: 'openai', credential: 'mock', timeout: '20s' };
    gateway = await startGateway({
        credentials: { mock: mockCredential(mock) },
        projects: demo({
            hello: { provider: 'echo', model: 'echo' },
            held: { ...target, model: 'held', timeout: '10m' },
            never: { ...target, model: 'never-answers' },
        }),
        ...options,
    });
    return gateway;
}

/** One connection that is kept: ask() sends a request on it, and fails when it was closed. */
class Line {
    constructor(gateway_) {
        this.gateway = gateway_;
        this.agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
        this.sockets = new Set();
    }

    ask(slug = 'hello') {
        return new Promise((resolve, reject) => {
            const body = '{"message":"Hi"}';
            const request = http.request({
                host: '127.0.0.1', port: this.gateway.port, method: 'POST', agent: this.agent,
                path: `/api/${PROJECT_ID}/${slug}`,
                headers: { authorization: `Bearer ${this.gateway.token}`,
                           'content-type': 'application/json', 'content-length': body.length },
            }, (response) => {
                let text = '';
                response.setEncoding('utf8').on('data', (chunk) => {
                    text += chunk;
                });
                response.on('error', reject);
                response.on('end', () => resolve({ status: response.statusCode, text,
                                                   headers: response.headers,
                                                   id: response.headers['x-request-id'] }));
            });
            request.on('socket', (socket) => this.sockets.add(socket));
            request.on('error', reject);
            request.end(body);
        });
    }

    close() {
        this.agent.destroy();
    }
}

/** Whoever comes is told that the gateway stops; then the held requests go, and nobody listens. */
async function drains(idle = null) {
    const ask = (path) => fetch(`${gateway.base}${path}`, { headers: { connection: 'close' } });
    await until('the drain', async () => (await ask('/readyz')).status === 503);
    assert.equal((await ask('/healthz')).status, 200);
    for (const line of [new Line(gateway), new Line(gateway), ...(idle ? [idle] : [])]) {
        const answer = await line.ask();
        assert.deepEqual([answer.status, JSON.parse(answer.text).error.code], [503, 'draining']);
        assert.equal(answer.headers.connection, 'close');
    }
    mock.release();
    await until('a refusal', () => new Promise((resolve) => {
        const socket = net.connect(gateway.port, '127.0.0.1');
        socket.on('connect', () => socket.destroy()).on('error', ({ code }) =>
            resolve(code === 'ECONNREFUSED')).on('close', () => resolve(false));
    }));
}

/** What every row must be, whatever was killed when. Rows of the worker `died` that it could not write
 * any more are the master's, who does not know how many bytes the answer had. */
function assertWhole(rows, died = null) {
    for (const row of rows) {
        assert.match(row.request_id, UUID7);
        assert.equal(row.project, 'demo');
        const isMasters = row.worker === died && row.bytes_out === null;
        if (isMasters && row.status === 'worker_died') {
            assert.equal(row.http_status, null);
            continue;
        }
        assert.equal(row.status, 'ok', JSON.stringify(row));
        assert.equal(row.http_status, 200);
        assert.equal(JSON.parse(row.attempts).length, 1);
        assert.ok(row.bytes_in > 0 && (isMasters || row.bytes_out > 0), JSON.stringify(row));
        assert.ok(row.latency_ms >= 0);
        assert.ok(row.total_tokens > 0 && row.total_tokens === row.prompt_tokens + row.completion_tokens);
    }
    assert.equal(new Set(rows.map((row) => row.request_id)).size, rows.length);
}

test('"ps shows the roles: promptgate: master, promptgate: worker 0 (gen 3), promptgate: logger"', async () => {
    await start({ workers: 2 });
    assert.equal(look(gateway.pid).title, 'promptgate: master');
    assert.deepEqual(gateway.children().map(({ title }) => title).sort(), [
        'promptgate: keeper', 'promptgate: logger', 'promptgate: worker 0 (gen 1)', 'promptgate: worker 1 (gen 1)']);
    assert.equal(gateway.children()[0].title, 'promptgate: logger', 'the logger is forked first');
});

test('kill -9 of a worker under load: "other connections go on, a new worker serves at once, ' +
     'no row is torn or doubled"', async () => {
    await start({ workers: 2 });
    // Lines whose worker is known by the row of their first request.
    const lines = Array.from({ length: 12 }, () => new Line(gateway));
    for (const line of lines) {
        line.worker = (await gateway.row((await line.ask()).id)).worker;
    }
    const spared = lines.filter(({ worker }) => worker === 1);
    assert.ok(spared.length > 0 && spared.length < lines.length, 'both workers have connections');

    const victim = gateway.worker(0);
    const other = gateway.worker(1);
    let stopped = false;
    const answered = [];
    const busy = spared.map(async (line) => {
        while (!stopped) {
            const answer = await line.ask();
            assert.equal(answer.status, 200);
            answered.push(answer.id);
        }
    });
    const background = load(gateway, { requests: BURST, connections: 16 });
    // New connections under this load, the slowest of them.
    const slowest = async () => {
        let most = 0;
        for (let i = 0; i < 20; i++) {
            const line = new Line(gateway);
            const began = Date.now();
            assert.equal((await line.ask()).status, 200);
            most = Math.max(most, Date.now() - began);
            line.close();
        }
        return most;
    };
    const usual = await slowest();
    process.kill(victim.pid, 'SIGKILL');

    const fresh = await until('a new worker 0', () => {
        const found = gateway.worker(0);
        return found && found.pid !== victim.pid && found;
    });
    // New connections land on both workers, and all are served.
    const afterwards = await slowest();
    assert.ok(afterwards < 1000 * PATIENCE + 10 * usual,
              `served at once: ${afterwards} ms, and before ${usual} ms`);
    stopped = true;
    await Promise.all(busy);
    for (const line of spared) {
        assert.equal(line.sockets.size, 1, 'the spared connections were never opened anew');
    }
    const report = await background;
    assert.ok(!lives(victim));
    assert.ok(lives(fresh) && lives(other), 'the others were not replaced');

    for (const line of lines) {
        line.close();
    }
    await gateway.stop();
    const rows = gateway.rows();
    assertWhole(rows, 0);
    const there = new Set(rows.map((row) => row.request_id));
    assert.deepEqual(answered.filter((id) => !there.has(id)), [], 'rows of the other worker');
    const most = lines.length + answered.length + 40 + BURST;
    assert.ok(rows.length <= most, `${rows.length} rows of at most ${most} requests`);
    assert.ok(report, 'the load ended by itself');
});

test('"a dead child is replaced at once": a worker that dies three times', async () => {
    await start({ workers: 1 });
    for (let i = 0; i < 3; i++) {
        const victim = gateway.worker(0);
        process.kill(victim.pid, 'SIGKILL');
        await until('a new worker', () => (gateway.worker(0)?.pid ?? victim.pid) !== victim.pid);
        const answer = await gateway.post('hello', { message: 'Hi' });
        assert.equal(answer.status, 200);
        await gateway.row(answer.id);
    }
    assert.equal(gateway.workers().length, 1);
});

test('kill -9 of the logger under load: no request fails, nothing is lost', async () => {
    await start({ workers: 2 });
    const workers = gateway.workers().map(({ pid }) => pid);
    const background = load(gateway, { requests: BURST, connections: 16 });
    for (let i = 0; i < 3; i++) {
        const victim = await until('a logger', () => gateway.logger());
        await sleep(100);
        process.kill(victim.pid, 'SIGKILL');
        await until('another logger', () => (gateway.logger()?.pid ?? victim.pid) !== victim.pid);
    }
    const report = await background;
    assert.equal(report.ok, BURST, JSON.stringify(report));
    assert.equal(report.broken, 0, JSON.stringify(report));
    await gateway.rowsReach(BURST);
    assert.deepEqual(gateway.workers().map(({ pid }) => pid), workers, 'workers are not touched');
    await gateway.stop();
    const rows = gateway.rows();
    assert.equal(rows.length, BURST);
    assertWhole(rows);
});

test('SIGTERM drains: the request in flight is answered, its row committed, whoever comes is told 503 draining, exit 0', async () => {
    await start();
    mock.clear();
    const idle = new Line(gateway);
    await idle.ask();
    const line = new Line(gateway);
    const slow = line.ask('held');
    await until('the call at the mock', () => mock.requests.length === 1);
    const began = Date.now();
    const stopping = gateway.stop();
    await drains(idle);
    const answer = await slow;
    assert.equal(answer.status, 200, answer.text);
    assert.equal(answer.headers.connection, 'close', 'no further request on this connection');
    await stopping;
    assert.deepEqual(gateway.refused().map(({ code, count }) => [code, Number(count)]), [['draining', 3]]);
    assert.ok(Date.now() - began < 25_000, 'idle connections hold nothing up until shutdown_timeout');
    assert.equal(gateway.rows('endpoint = ?', 'held')[0]?.request_id, answer.id);
    assert.equal(gateway.rowCount(), 2);
    idle.close();
    line.close();
});

test('Ctrl-C (SIGINT to the whole process group) drains just so', async () => {
    await start({ ownGroup: true });
    mock.clear();
    const slow = new Line(gateway).ask('held');
    await until('the call at the mock', () => mock.requests.length === 1);
    process.kill(-gateway.pid, 'SIGINT');
    await drains();
    const answer = await slow;
    assert.equal(answer.status, 200, answer.text);
    await gateway.stop(0);
    assert.equal(gateway.rows('endpoint = ?', 'held')[0]?.request_id, answer.id);
});

test('a second SIGTERM does not wait: what is in flight is answered with 503, and has its row', async () => {
    await start({ service: { shutdown_timeout: '60s' } });
    mock.clear();
    const [slow, stream] = [new Line(gateway).ask('never'), new Line(gateway).ask('never')];
    await until('the calls at the mock', () => mock.requests.length === 2);
    process.kill(gateway.pid, 'SIGTERM');
    await until('the drain', () => gateway.stderr.includes('stopping: '));
    const began = Date.now();
    const stopping = gateway.stop();
    for (const answer of [await slow, await stream]) {
        assert.equal(answer.status, 503, answer.text);
        assert.match(answer.text, /"code":"draining"/);
    }
    await stopping;
    assert.ok(Date.now() - began < 30_000, `${Date.now() - began} ms, not the minute of shutdown_timeout`);
    assert.deepEqual(gateway.rows('endpoint = ?', 'never').map(({ status }) => status), ['draining', 'draining']);
});

test('two signals that come while the master looks elsewhere: it does not wait either', async () => {
    await start({ service: { shutdown_timeout: '60s' } });
    mock.clear();
    const slow = new Line(gateway).ask('never');
    await until('the call at the mock', () => mock.requests.length === 1);
    const began = Date.now();
    for (const signal of ['SIGSTOP', 'SIGTERM', 'SIGINT', 'SIGCONT']) {
        process.kill(gateway.pid, signal);
    }
    const answer = await slow;
    assert.equal(answer.status, 503, answer.text);
    assert.match(answer.text, /"code":"draining"/);
    await gateway.stop(0);
    assert.ok(Date.now() - began < 30_000);
    assert.deepEqual(gateway.rows().map(({ status }) => status), ['draining']);
});

test('SIGTERM to one worker: it alone ends, and nobody hears of a stop', async () => {
    await start({ workers: 2 });
    mock.clear();
    const slow = new Line(gateway).ask('held');
    await until('the call at the mock', () => mock.requests.length === 1);
    const victim = gateway.worker(0);
    process.kill(victim.pid, 'SIGTERM');
    for (let i = 0; i < 20; i++) { // while a request is in hand, here or there
        const line = new Line(gateway);
        assert.equal((await line.ask()).status, 200);
        line.close();
    }
    mock.release();
    assert.equal((await slow).status, 200);
    await until('another worker', () => (gateway.worker(0)?.pid ?? victim.pid) !== victim.pid);
});

test('"drain up to shutdown_timeout": a request that never ends does not hold it longer', async () => {
    await start({ service: { shutdown_timeout: '1s' } });
    mock.clear();
    const line = new Line(gateway);
    const never = line.ask('never').catch((error) => error);
    await until('the call at the mock', () => mock.requests.length === 1);
    gateway.children();
    const began = Date.now();
    process.kill(gateway.pid, 'SIGTERM');
    await gateway.end();
    const took = Date.now() - began;
    assert.ok(took >= 900 && took < 18_000, `${took} ms, not the 20 s of the endpoint`);
    await never;
    await until('no process left', () => ![...gateway.family.values()].some(lives));
});

test('SIGTERM while no logger can be started: it ends all the same, and the next start has the rows', async () => {
    await start({ service: { shutdown_timeout: '1s' } });
    const spool = path.join(gateway.directory, 'state/spool');
    fs.renameSync(spool, `${spool}.away`);
    fs.writeFileSync(spool, '');
    process.kill(gateway.logger().pid, 'SIGKILL');
    await until('a logger that cannot start', () => /can't open .*spool/.test(gateway.stderr));
    const { status, id } = await gateway.post('hello', { message: 'Hi' });
    assert.equal(status, 200);
    await gateway.stop();
    fs.rmSync(spool);
    fs.renameSync(`${spool}.away`, spool);
    await gateway.restart();
    assert.equal((await gateway.row(id)).status, 'ok');
    await gateway.stop();
});

test('started again, it goes on with the same store', async () => {
    await start();
    const first = await gateway.post('hello', { message: 'Hi' });
    await gateway.stop();
    assert.deepEqual(gateway.rows().map(({ request_id: id }) => id), [first.id]);
    await gateway.restart();
    const second = await gateway.post('hello', { message: 'Hi' });
    await gateway.row(second.id);
    await gateway.stop();
    assert.deepEqual(gateway.rows().map(({ request_id: id }) => id), [first.id, second.id]);
});
