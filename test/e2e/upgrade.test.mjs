// Another binary takes over from the running one; whatever is wrong with it, nobody notices.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { afterEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { createToken, demo, PATIENCE, PROJECT_ID, PROMPTGATE, run, SANITIZE, startGateway, until } from './harness.mjs';
import { children, lives, look } from './proc.mjs';
import { RECORDINGS } from './recordings.mjs';
import { StreamUpstream } from './stream-upstream.mjs';

const KEY = 'sk-mock-key-0123456789';
const STREAMS = SANITIZE ? 100 : 1000;

let gateway;
let upstream;

afterEach(async () => {
    if (gateway && look(gateway.pid)) {
        await gateway.stop();
    }
    gateway = null;
    upstream?.stop();
    upstream = null;
});

/** A gateway whose binary is a file of its own, which tests replace. */
async function start(options = {}) {
    upstream = await new StreamUpstream().start();
    const bin = fs.mkdtempSync('/tmp/promptgate-e2e-bin-');
    process.once('exit', () => fs.rmSync(bin, { recursive: true, force: true }));
    const binary = path.join(bin, 'promptgate');
    fs.symlinkSync(PROMPTGATE, binary);
    gateway = await startGateway({
        binary,
        service: { shutdown_timeout: '30s', ...options.service },
        credentials: { mock: { provider: 'openai', base_url: `${upstream.base}/v1`, api_key: KEY } },
        projects: demo({
            hello: { provider: 'echo', model: 'echo' },
            late: { provider: 'echo', model: 'echo/slow-1500' },
            never: { provider: 'echo', model: 'echo/never', timeout: '10m' },
            talk: { provider: 'echo', model: 'echo', session: { max_messages: 100 } },
            stream: { provider: 'openai', credential: 'mock', model: 'm', streaming_enabled: true, timeout: '60s' },
        }),
        ...options.gateway,
    });
    return gateway;
}

/** The file that the next upgrade runs. */
function install(script) {
    fs.rmSync(gateway.binary);
    if (script === undefined) {
        fs.symlinkSync(PROMPTGATE, gateway.binary);
    } else {
        fs.writeFileSync(gateway.binary, script, { mode: 0o755 });
    }
}

const masters = () => [gateway.pid, ...children(gateway.pid).map(({ pid }) => pid)];

async function status() {
    const answer = await run('status', '--config', gateway.config, '--json');
    assert.equal(answer.status, 0, answer.stderr);
    return JSON.parse(answer.stdout);
}

/** Clients that ask one thing after the other until they are told to stop: each must be answered. */
class Clients {
    answers = [];
    #going = true;

    constructor(count = 8) {
        this.ends = Array.from({ length: count }, (_, n) => this.#client(n % 2 ? 'hello' : 'late'));
    }

    async #client(route) {
        while (this.#going) {
            this.answers.push(await gateway.post(route, { message: 'Hi' }).catch((error) => ({ error })));
        }
    }

    async stop() {
        this.#going = false;
        await Promise.all(this.ends);
        const bad = this.answers.filter(({ status: code }) => code !== 200);
        assert.deepEqual(bad.map(({ error, text }) => error?.cause ?? error ?? text), []);
        return this.answers;
    }
}

/** Every answer has its row, once. */
async function assertRows(answers) {
    await gateway.rowsReach(answers.length);
    const ids = gateway.ids();
    assert.equal(ids.length, new Set(ids).size);
    const stored = new Set(ids);
    assert.deepEqual(answers.filter(({ id }) => !stored.has(id)), []);
    assert.equal(ids.length, answers.length);
}

test(`with ${STREAMS} streams open: none of them fails, nor anybody who comes`, { timeout: 300_000 * PATIENCE }, async () => {
    await start();
    const { pieces, type } = RECORDINGS.openai;
    let letGo;
    upstream.play({ pieces, type, gap: 100, held: new Promise((resolve) => {
        letGo = resolve;
    }) });
    const streams = Array.from({ length: STREAMS }, () =>
        gateway.post('stream', { messages: [{ role: 'user', content: 'Hi' }], stream: true }));
    const clients = new Clients();
    await until('all calls', () => upstream.calls.length === STREAMS);
    const old = gateway.pid;
    const workers = gateway.workers();
    const said = await gateway.upgrade();
    assert.equal(said.status, 0, said.stderr);
    assert.match(said.stdout, /^process \d+, version \S+, has taken over\n$/);
    assert.notEqual(gateway.pid, old);
    assert.ok(workers.every(lives), 'the old workers have streams to end');
    const whole = pieces.reduce((sum, piece) => sum + piece.length, 0);
    assert.equal(upstream.calls.filter(({ sent }) => sent < whole).length, STREAMS, 'all are open');
    const { replaces_pid: replaces, generations, pid } = await status();
    assert.deepEqual([replaces, pid, generations.map(({ number, state }) => [number, state])],
                     [old, gateway.pid, [[2, 'serving']]]);
    letGo();
    const told = await Promise.all(streams);
    assert.deepEqual(told.filter(({ status: code, text }) => code !== 200 || !text.includes('data: [DONE]')), []);
    await until('the end of the old one', () => !look(old));
    await until('nothing of it', async () => (await status()).replaces_pid === undefined);
    assert.deepEqual(workers.filter(lives), []);
    await assertRows([...await clients.stop(), ...told]);
    assert.doesNotMatch(gateway.stderr, / error: /);
});

test('three upgrades, one after the other, and a reload between: sessions and counters go on', { timeout: 120_000 * PATIENCE }, async () => {
    await start();
    const clients = new Clients(4);
    let session;
    const turns = [];
    for (let i = 0; i < 3; i++) {
        for (let turn = 0; turn < 3; turn++) {
            const answer = await gateway.post('talk', { message: `turn ${turns.length}`, ...(session && { session_id: session }) });
            assert.equal(answer.status, 200, answer.text);
            session = answer.json.meta.session_id;
            turns.push(answer);
        }
        const said = await gateway.upgrade();
        assert.equal(said.status, 0, said.stderr);
        await until('the end of the old one', async () => (await status()).replaces_pid === undefined);
        const token = await createToken(gateway.config);
        assert.equal((await gateway.post('hello', { message: 'Hi' }, { token }).then((it) => (turns.push(it), it))).status, 200);
        assert.equal((await run('reload', '--config', gateway.config)).status, 0);
    }
    const shown = await run('session', 'show', session, '--config', gateway.config);
    assert.equal((shown.stdout.match(/turn \d/g) ?? []).length >= 9, true, shown.stdout + shown.stderr);
    await assertRows([...await clients.stop(), ...turns]);
});

const BROKEN = [
    ['ends with status 1', '#!/bin/sh\nexit 1\n', /ended with status 1/],
    ['crashes at its start', '#!/bin/sh\nkill -SEGV $$\n', /was killed by signal 11/],
    ['is no program', 'nothing of use\n', /cannot run .*Exec format error/],
];

/** One that fails: the same processes go on. */
async function assertFails(pattern) {
    const clients = new Clients();
    await sleep(100);
    const before = masters();
    const said = await gateway.upgrade();
    assert.equal(said.status, 1, said.stdout);
    assert.match(said.stderr, pattern);
    assert.deepEqual(masters(), before);
    assert.equal((await status()).upgrading_to_pid, undefined);
    const answers = await clients.stop();
    assert.ok(answers.length > 8);
    await assertRows(answers);
}

for (const [what, script, pattern] of BROKEN) {
    test(`a binary that ${what}: the old one goes on, and the caller is told`, async () => {
        await start();
        install(script);
        await assertFails(pattern);
    });
}

test('a binary that never becomes ready: the old one goes on', { timeout: 120_000 * PATIENCE }, async () => {
    await start();
    install('#!/bin/sh\nexec sleep 600\n');
    await assertFails(/was not ready in time/);
});

/** A binary that finds something else in what is handed over. */
const reading = (change) => `#!/bin/bash
memory=\${PROMPTGATE_HANDOVER%%:*}
sed '${change}' "/proc/self/fd/$memory" > "$0.text"
eval "exec $memory<'$0.text'"
exec ${PROMPTGATE} "$@"
`;

test('a binary of another layout of the shared memory: restart needed', async () => {
    await start();
    install(reading('s/"layout":/"layout":9/'));
    await assertFails(/the shared memory has layout 9\d+, and this binary needs \d+: restart needed/);
});

test('a binary that is handed over what it does not know: restart needed', async () => {
    await start();
    install(reading('s/"version":1/"version":99/'));
    await assertFails(/what is handed over has version 99, and this binary reads up to 1: restart needed/);
});

test('a configuration that is wrong, or cannot be taken over: the caller is told what', async () => {
    await start();
    const file = path.join(gateway.config, 'promptgate.yaml');
    const good = fs.readFileSync(file, 'utf8');
    fs.writeFileSync(file, `${good}unknown: 1\n`);
    await assertFails(/promptgate\.yaml:\d+:1: .*unknown/);
    fs.writeFileSync(file, good.replace(/^state_dir: .*$/m, `state_dir: ${gateway.directory}/other`));
    gateway.rows(); // the store is where it was
    const said = await gateway.upgrade();
    assert.equal(said.status, 1);
    assert.match(said.stderr, /state_dir cannot change by an upgrade: restart needed/);
    fs.writeFileSync(file, good);
    assert.equal((await gateway.upgrade()).status, 0);
});

for (const [how, seconds] of [['a second SIGTERM', 30], ['a shorter shutdown_timeout of the new one', 1]]) {
    test(`${how} while the old one drains: what it has in hand is answered, and has its row`, { timeout: 120_000 * PATIENCE }, async () => {
        await start();
        const held = await gateway.begin('never', { message: 'Hi' });
        const file = path.join(gateway.config, 'promptgate.yaml');
        fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(/^shutdown_timeout: .*$/m, `shutdown_timeout: ${seconds}s`));
        assert.equal((await gateway.upgrade()).status, 0);
        const token = await createToken(gateway.config); // the old workers have heard of something already
        assert.equal((await gateway.post('hello', { message: 'Hi' }, { token })).status, 200);
        process.kill(gateway.pid, 'SIGTERM');
        if (seconds === 30) {
            await until('the first signal', () => /stopping: requests/.test(gateway.stderr));
            process.kill(gateway.pid, 'SIGTERM');
        }
        const { status: code, json } = await held.answer;
        assert.deepEqual([code, json.error.code], [503, 'draining']);
        await gateway.exited;
        assert.deepEqual(gateway.rows().map((row) => row.status).sort(), ['draining', 'ok']);
        assert.doesNotMatch(gateway.stderr, / error: /);
    });
}

/** A new binary that does what is written here, and then what the real one does. */
const first = (script) => `#!/bin/bash\n${script}\nexec ${PROMPTGATE} "$@"\n`;

for (const [signal, done] of [['SIGTERM', 'the gateway is stopping'], ['SIGHUP', 'has taken over']]) {
    test(`${signal} while the new binary starts is not lost`, { timeout: 120_000 * PATIENCE }, async () => {
        await start();
        install(first('sleep 1'));
        const asked = gateway.upgrade();
        await until('the new binary', () => /upgrade: .* is process/.test(gateway.stderr));
        process.kill(gateway.pid, signal);
        const { status: code, stdout, stderr } = await asked;
        assert.match(stdout + stderr, new RegExp(done));
        assert.equal(code, signal === 'SIGTERM' ? 1 : 0);
        if (signal === 'SIGTERM') {
            await gateway.exited;
            assert.deepEqual(gateway.children(), []);
        } else {
            await until('the reload', () => /generation 3 serves/.test(gateway.stderr), 10).catch((error) => assert.fail(error.message + gateway.stderr));
        }
    });
}

test('a token that is revoked: no worker of the old one takes it on a connection that is open', async () => {
    await start();
    const token = await createToken(gateway.config, 'demo', '--name', 'short');
    const held = await gateway.begin('never', { message: 'Hi' });
    held.answer.catch(() => {});
    const bytes = `POST /api/${PROJECT_ID}/hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\n` +
        'Content-Type: application/json\r\nContent-Length: 16\r\n\r\n{"message":"Hi"}';
    const socket = net.connect(gateway.port, '127.0.0.1').setEncoding('utf8').on('error', () => {});
    let told = '';
    socket.on('data', (text) => {
        told += text;
    });
    socket.write(bytes);
    await until('an answer', () => /^HTTP\/1.1 200/.test(told));
    assert.equal((await gateway.upgrade()).status, 0);
    assert.ok((await status()).replaces_workers > 0);
    assert.equal((await run('token', 'revoke', 'short', '--config', gateway.config)).status, 0);
    await until('the end of the connection', () => socket.readableEnded || socket.destroyed);
    assert.equal(told.match(/HTTP\/1.1 200/g).length, 1);
    held.leave();
});

test('other addresses and another number of workers: whoever comes is answered', { timeout: 120_000 * PATIENCE }, async () => {
    await start();
    const clients = new Clients();
    const file = path.join(gateway.config, 'promptgate.yaml');
    const good = fs.readFileSync(file, 'utf8');
    const more = path.join(gateway.directory, 'run/more.sock');
    fs.writeFileSync(file, good.replace(/^workers: .*$/m, 'workers: 3')
        .replace(/^listen:.*$/m, `listen: ['127.0.0.1:0', 'unix:${more}']`));
    assert.match(fs.readFileSync(file, 'utf8'), /unix:/);
    const said = await gateway.upgrade();
    assert.equal(said.status, 0, said.stderr);
    const local = await new Promise((resolve, reject) => {
        http.get({ socketPath: more, path: '/readyz', agent: false }, resolve).on('error', reject);
    });
    assert.equal(local.resume().statusCode, 200);
    assert.equal((await status()).generations.at(-1).workers.length, 3);
    fs.writeFileSync(file, good.replace(/^workers: .*$/m, 'workers: 1'));
    assert.equal((await gateway.upgrade()).status, 0);
    await until('nobody there', () => new Promise((resolve) => {
        const socket = net.connect(more).on('error', () => resolve(true)).on('connect', () => {
            socket.destroy();
            resolve(false);
        });
    }));
    assert.equal((await status()).generations.at(-1).workers.length, 1);
    await assertRows(await clients.stop());
    assert.doesNotMatch(gateway.stderr, / error: /);
});

test('two who ask at once have the same answer, or one after the other', { timeout: 120_000 * PATIENCE }, async () => {
    await start();
    const clients = new Clients();
    install(first('sleep 1'));
    const ask = () => run('upgrade', '--config', gateway.config);
    const asked = [ask(), ask()];
    const told = await Promise.all(asked);
    assert.deepEqual(told.map(({ status: code, stderr }) => [code, stderr]), [[0, ''], [0, '']]);
    const pids = told.map(({ stdout }) => Number(/^process (\d+), version \S+, has taken over\n$/.exec(stdout)?.[1]));
    gateway.follow((await status()).pid);
    assert.ok(pids.includes(gateway.pid));
    await until('the end of all others', () => pids.every((pid) => pid === gateway.pid || !look(pid)));
    await assertRows(await clients.stop());
});

test('the master of a container, process 1: restart needed', { skip: process.getuid() !== 0 && 'needs root' }, async () => {
    gateway = await startGateway({ launcher: ['unshare', '--pid', '--fork'] });
    const [master] = children(gateway.pid);
    const said = await run('upgrade', '--config', gateway.config);
    assert.equal(said.status, 1);
    assert.match(said.stderr, /the master is process 1, with whose end all others end: restart needed/);
    assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
    process.kill(master.pid, 'SIGTERM');
    assert.deepEqual(await gateway.end(), { code: 0, signal: null });
    assert.equal(gateway.rowCount(), 1);
});

test('keys from the environment, where they are no more, go with it', async () => {
    const seen = [];
    upstream = await new StreamUpstream().start();
    upstream.server.prependListener('request', ({ headers }) => seen.push(headers.authorization));
    gateway = await startGateway({
        prepare: (made) => {
            made.env = { DRILL_KEY: KEY };
        },
        credentials: { mock: { provider: 'openai', base_url: `${upstream.base}/v1`, api_key: 'env:DRILL_KEY' } },
        projects: demo({ stream: { provider: 'openai', credential: 'mock', model: 'm', streaming_enabled: true } }),
    });
    const { pieces, type } = RECORDINGS.openai;
    upstream.play({ pieces, type });
    for (let i = 0; i < 2; i++) {
        assert.equal((await gateway.upgrade()).status, 0);
        const { status: code } = await gateway.post('stream', { messages: [{ role: 'user', content: 'Hi' }], stream: true });
        assert.equal(code, 200);
    }
    assert.deepEqual(seen, Array(2).fill(`Bearer ${KEY}`));
    assert.ok(!fs.readFileSync(`/proc/${gateway.pid}/environ`, 'latin1').includes(KEY));
});

test('the signal does the same; a stop ends both of them', { timeout: 120_000 * PATIENCE }, async () => {
    await start({ service: { shutdown_timeout: '2s' } });
    const old = gateway.pid;
    const held = await gateway.begin('never', { message: 'Hi' });
    held.answer.catch(() => {});
    process.kill(old, 'SIGUSR2');
    const [, pid] = await until('the new one', () => /process (\d+), version \S+, has taken over/.exec(gateway.stderr));
    gateway.follow(Number(pid));
    assert.ok(look(old), 'it has a request in flight');
    await gateway.stop();
    assert.equal(look(old), null);
    assert.deepEqual(gateway.rows().map(({ status: code }) => code), ['draining']);
});

test('whoever still has the earlier master\'s number and signals it: its requests go on', { timeout: 120_000 * PATIENCE }, async () => {
    await start();
    const old = gateway.pid;
    const held = await gateway.begin('never', { message: 'Hi' });
    let answered = false;
    held.answer.catch(() => {}).finally(() => {
        answered = true;
    });
    assert.equal((await gateway.upgrade()).status, 0);
    for (const signal of ['SIGUSR2', 'SIGUSR1', 'SIGUSR2', 'SIGHUP']) {
        assert.ok(look(old), 'it has a request in hand');
        process.kill(old, signal);
        await sleep(100);
    }
    assert.ok(look(old) && !answered, 'it has it still');
    held.leave();
    await until('the end of the old one', () => !look(old));
    assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
    assert.equal(gateway.stderr.match(/has taken over/g).length, 1);
});

test('the master is killed while a new binary hangs at its start: the next start finds nobody', { timeout: 60_000 * PATIENCE }, async () => {
    await start();
    install('#!/bin/sh\nexec sleep 600\n');
    process.kill(gateway.pid, 'SIGUSR2');
    const [, pid] = await until('the new one', () => /upgrade: .* is process (\d+)/.exec(gateway.stderr));
    const hanging = look(Number(pid));
    process.kill(gateway.pid, 'SIGKILL');
    await gateway.end();
    await until('its end', () => !lives(hanging));
    install();
    await gateway.restart();
    assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
});

test('the earlier master is killed while its workers drain: their requests have rows', { timeout: 120_000 * PATIENCE }, async () => {
    await start();
    const old = gateway.pid;
    const held = await gateway.begin('never', { message: 'Hi' });
    held.answer.catch(() => {});
    const workers = gateway.workers();
    assert.equal((await gateway.upgrade()).status, 0);
    process.kill(old, 'SIGKILL');
    for (const worker of workers.filter(lives)) {
        process.kill(worker.pid, 'SIGKILL');
    }
    await gateway.rowsReach(1);
    assert.deepEqual(gateway.rows().map(({ status: code }) => code), ['worker_died']);
    await until('its slots', async () => {
        const { slots, slots_free: free } = await status();
        return slots - free === 2;
    });
});

test('the new master is killed after it took over: the next start finds everything', { timeout: 120_000 * PATIENCE }, async () => {
    await start();
    const clients = new Clients(4);
    assert.equal((await gateway.upgrade()).status, 0);
    const answers = await clients.stop();
    process.kill(gateway.pid, 'SIGKILL');
    await gateway.exited;
    await gateway.restart();
    await assertRows(answers);
});
