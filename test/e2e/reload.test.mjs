// A new configuration while clients are served; one master for a runtime directory.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { afterEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { demo, load, makeToken, PATIENCE, PROJECT_ID, run, SANITIZE, startGateway, until, writeFiles,
         yaml } from './harness.mjs';
import { children, descriptors, lives, look, resident } from './proc.mjs';

const RELOAD_SECONDS = Number(process.env.RELOAD_SECONDS ?? 10);

let gateway;

afterEach(async () => {
    if (gateway && gateway.child.exitCode === null && gateway.child.signalCode === null) {
        await gateway.stop();
    }
    gateway = null;
});

async function start(options = {}) {
    gateway = await startGateway({
        projects: demo({
            hello: { provider: 'echo', model: 'echo' },
            late: { provider: 'echo', model: 'echo/slow-2000' },
            never: { provider: 'echo', model: 'echo/never', timeout: '10m' },
        }),
        ...options,
    });
    return gateway;
}

function rewrite(file, change) {
    const full = path.join(gateway.config, file);
    fs.writeFileSync(full, change(fs.readFileSync(full, 'utf8')));
}

const serving = () => (gateway.stderr.match(/generation \d+ serves/g) ?? []).length;

/** SIGHUP, and the new generation serves. */
async function reload() {
    const before = serving();
    gateway.child.kill('SIGHUP');
    await until('a new generation', () => serving() > before);
}

/** The same, and no kept connection of ours leads to the old one any more. */
async function reloadAndGoOver() {
    await reload();
    for (let isNew = false; !isNew;) {
        isNew = (await fetch(`${gateway.base}/healthz`)).headers.get('connection') !== 'close';
    }
}

const generations = () =>
    new Set(gateway.workers().map(({ title }) => /gen (\d+)/.exec(title)[1])).size;

const failures = () => (gateway.stderr.match(/the reload failed: nothing has changed/g) ?? []).length;

/** SIGHUP, and the reload fails. */
async function failingReload() {
    const before = failures();
    gateway.child.kill('SIGHUP');
    await until('the failure', () => failures() > before);
}

async function status() {
    const answer = await run('status', '--config', gateway.config, '--json');
    assert.equal(answer.status, 0, answer.stderr);
    return JSON.parse(answer.stdout);
}

/** A client that keeps its one connection as long as the server lets it. A connection that breaks
 * is a failure: nothing is sent again. */
class Line {
    constructor() {
        this.agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
        this.connections = 0;
    }

    ask(route = 'hello') {
        return new Promise((resolve, reject) => {
            const body = '{"message":"Hi"}';
            const servedBefore = serving();
            http.request({
                host: '127.0.0.1', port: gateway.port, method: 'POST', agent: this.agent,
                path: `/api/${PROJECT_ID}/${route}`,
                headers: { authorization: `Bearer ${gateway.token}`,
                           'content-type': 'application/json', 'content-length': body.length },
            }, (answer) => {
                let text = '';
                answer.setEncoding('utf8').on('data', (chunk) => {
                    text += chunk;
                });
                answer.on('error', reject).on('end', () => resolve({
                    status: answer.statusCode, text, closes: answer.headers.connection === 'close',
                    id: answer.headers['x-request-id'], servedBefore,
                    servedAtConnect: this.servedAtConnect }));
            }).on('socket', (socket) => {
                if (socket !== this.socket) {
                    this.socket = socket;
                    this.connections++;
                    this.servedAtConnect = servedBefore;
                }
            }).on('error', reject).end(body);
        });
    }

    close() {
        this.agent.destroy();
    }
}

/** New connections, one after the other in quick succession; each must be answered. */
async function newConnections(count = 40) {
    const answers = await Promise.all(Array.from({ length: count }, () =>
        new Promise((resolve, reject) => {
            http.get({ host: '127.0.0.1', port: gateway.port, path: '/healthz', agent: false,
                       timeout: 30_000 * PATIENCE }, (answer) => {
                answer.resume();
                resolve(answer.statusCode);
            }).on('timeout', () => reject(new Error('a connection hangs'))).on('error', reject);
        })));
    assert.deepEqual(answers.filter((code) => code !== 200), []);
}

function connects(port) {
    return new Promise((resolve) => {
        const socket = net.connect(port, '127.0.0.1');
        const end = (found) => {
            socket.destroy();
            resolve(found);
        };
        socket.on('connect', () => end(true)).on('error', () => end(false));
    });
}

async function freePort() {
    const server = net.createServer();
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address();
    await new Promise((resolve) => server.close(resolve));
    return port;
}

test('reload under load: no request fails; afterwards one generation is left', async () => {
    await start({ workers: 2, service: { shutdown_timeout: '5s' } });
    const requests = SANITIZE ? 10_000 : 100_000;
    const quick = load(gateway, { requests, connections: 16 });
    const slow = load(gateway, { requests: 40, connections: 20, route: 'late' });
    for (const workers of [2, 3, 1, 2]) {
        rewrite('promptgate.yaml', (text) => text.replace(/workers: \d/, `workers: ${workers}`));
        await reload();
        await sleep(100);
    }
    for (const { requests: asked, ok, broken } of await Promise.all([quick, slow])) {
        assert.equal(ok, asked);
        assert.equal(broken, 0);
    }
    await until('one generation', () => generations() === 1);
    assert.equal(gateway.workers().length, 2);
    await gateway.rowsReach(requests + 40);
    await gateway.stop();
    assert.equal(gateway.rowCount(), requests + 40);
});

test('an idle connection of the old generation is answered once more, and told to close', async () => {
    await start({ workers: 1 });
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const ask = () => new Promise((resolve, reject) => {
        http.get({ host: '127.0.0.1', port: gateway.port, path: '/healthz', agent }, (answer) => {
            answer.resume().on('end', () => resolve(answer));
        }).on('error', reject);
    });
    assert.notEqual((await ask()).headers.connection, 'close');
    const socket = Object.values(agent.freeSockets)[0][0];
    await reload();
    const answer = await ask();
    assert.equal(answer.statusCode, 200);
    assert.equal(answer.headers.connection, 'close');
    assert.ok(answer.socket === socket || answer.req.reusedSocket, 'it was the old connection');
    agent.destroy();
});

test('"on any error every error is reported and nothing changes"', async () => {
    await start();
    rewrite('promptgate.yaml', (text) => `${text}bogus: 1\nwrokers: 2\n`);
    gateway.child.kill('SIGHUP');
    await until('the refusal', () => /the reload failed: nothing has changed/.test(gateway.stderr));
    assert.match(gateway.stderr, /promptgate\.yaml:\d+:1: bogus: unknown key/);
    assert.match(gateway.stderr, /promptgate\.yaml:\d+:1: wrokers: unknown key; did you mean workers\?/);
    assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
    rewrite('promptgate.yaml', (text) => text.replace('bogus: 1\nwrokers: 2\n', ''));
    await reload();
});

test('"KEY cannot change by reload: restart needed"', async () => {
    await start();
    rewrite('promptgate.yaml', (text) => text.replace(/state_dir: .*/, 'state_dir: /tmp/elsewhere'));
    gateway.child.kill('SIGHUP');
    await until('the refusal', () => /the reload failed/.test(gateway.stderr));
    assert.match(gateway.stderr, /state_dir cannot change by reload: restart needed/);
    assert.equal(fs.existsSync('/tmp/elsewhere'), false);
});

test('"a template used by many endpoints changes them all at reload"', async () => {
    const slugs = ['one', 'two', 'three'];
    await start({
        projects: demo({ ...Object.fromEntries(slugs.map((slug) => [slug, { template: 'fast' }])), own: { template: 'fast', model: 'echo-own' } }),
        files: { 'templates.d/fast.yaml': { provider: 'echo', model: 'echo-a' } },
    });
    const models = () => Promise.all([...slugs, 'own'].map(async (slug) => (await gateway.post(slug, { message: 'x' })).json?.model));
    assert.deepEqual(await models(), ['echo-a', 'echo-a', 'echo-a', 'echo-own']);
    rewrite('templates.d/fast.yaml', (text) => text.replace('echo-a', 'echo-b'));
    await reloadAndGoOver();
    assert.deepEqual(await models(), ['echo-b', 'echo-b', 'echo-b', 'echo-own']);
    rewrite('templates.d/fast.yaml', (text) => text.replace('provider: echo', 'provider: nobody'));
    gateway.child.kill('SIGHUP');
    await until('the mistake', () => /templates\.d\/fast\.yaml:1:\d+: provider: must be one of/.test(gateway.stderr));
    assert.deepEqual(await models(), ['echo-b', 'echo-b', 'echo-b', 'echo-own']);
});

test('endpoints, tokens and addresses change by reload', async () => {
    await start();
    const { token: late, entry } = makeToken();
    writeFiles(gateway.config, { 'tokens.d/late.yaml': entry });
    assert.equal((await gateway.post('hello', { message: 'Hi' }, { token: late })).status, 401);
    const second = path.join(gateway.directory, 'http.sock');
    rewrite('promptgate.yaml', (text) =>
        text.replace(/listen: .*/, `listen: [ "127.0.0.1:0", "unix:${second}" ]`));
    rewrite('projects.d/demo.yaml', () => yaml(demo({
        renamed: { provider: 'echo', model: 'echo' },
    }).demo));
    await reloadAndGoOver();
    const asLate = { token: late };
    assert.equal((await gateway.post('renamed', { message: 'Hi' }, asLate)).status, 200);
    assert.equal((await gateway.post('hello', { message: 'Hi' }, asLate)).status, 404);
    assert.ok(fs.statSync(second).isSocket());
    rewrite('tokens.d/late.yaml', (text) => `${text}active: false\n`);
    rewrite('promptgate.yaml', (text) => text.replace(/listen: .*/, 'listen: "127.0.0.1:0"'));
    await reloadAndGoOver();
    assert.equal((await gateway.post('renamed', { message: 'Hi' }, asLate)).status, 401);
    await until('the address is given up', () => !fs.existsSync(second));
});

test('a request longer than shutdown_timeout is answered 503 draining and has its row', async () => {
    await start({
        workers: 1, service: { shutdown_timeout: '500ms' },
        projects: demo({ never: { provider: 'echo', model: 'echo/never', timeout: '20s' } }),
    });
    const pending = await gateway.begin('never', { message: 'Hi' });
    await reload();
    const answer = await pending.answer;
    assert.equal(answer.status, 503);
    assert.equal(answer.json.error.code, 'draining');
    assert.equal((await gateway.row(answer.id)).status, 'draining');
});

test('"one instance": a second serve says so and exits 1 at once; after kill -9 the next one goes on', async () => {
    await start({ service: { shutdown_timeout: '40s' } });
    const began = Date.now();
    const second = await run('serve', '--config', gateway.config);
    assert.equal(second.status, 1);
    assert.match(second.stderr, /already running \(pid \d+\)/);
    assert.ok(Date.now() - began < 30_000, 'it does not wait for shutdown_timeout');
    assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
    const pending = await gateway.begin('late', { message: 'Hi' });
    gateway.child.kill('SIGKILL');
    await gateway.end();
    await gateway.restart();
    assert.equal((await pending.answer).status, 200, 'orphans end what they have in hand');
    assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
});

test('a gateway with another runtime_dir is refused the state_dir of one that runs', async () => {
    await start();
    const config = path.join(gateway.directory, 'other');
    fs.cpSync(gateway.config, config, { recursive: true });
    const file = path.join(config, 'promptgate.yaml');
    fs.writeFileSync(file, fs.readFileSync(file, 'utf8')
        .replace(/^runtime_dir: .*$/m, `runtime_dir: ${gateway.directory}/other-run`));
    const second = await run('serve', '--config', config);
    assert.equal(second.status, 1);
    assert.match(second.stderr, /state_dir: another gateway uses .*\/state/);
    assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
});

test('a stopped worker is aborted after 5 s and replaced; its neighbour takes over meanwhile', async () => {
    await start({ workers: 2 });
    let isSeen = false;
    for (let tries = 0; tries < 5 && !isSeen; tries++) {
        const victim = await until('worker 0', () => gateway.worker(0));
        process.kill(victim.pid, 'SIGSTOP');
        const stopped = Date.now();
        await sleep(1500);
        await newConnections();
        isSeen = lives(victim); // else it was too late to tell: others were busy
        await until('a new worker', () => (gateway.worker(0)?.pid ?? victim.pid) !== victim.pid);
        assert.ok(Date.now() - stopped >= 4000, 'not before its last sign of life is five seconds old');
    }
    assert.ok(isSeen, 'its neighbour answered while it was still there');
    assert.match(gateway.stderr, /worker 0 \(gen 1\) \(pid \d+\) gives no sign of life/);
    assert.match(gateway.stderr, /worker 0 \(gen 1\) \(pid \d+\) was killed by signal \d+/);
    await newConnections();
    assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
});

test('"ten deaths of a slot in 10 s throttle it"; its neighbour takes over', async () => {
    await start({ workers: 2 });
    const deaths = [];
    // On a machine that is slow it takes more of them until ten lie within so short a time.
    const throttledMs = () => 10_000 - (Date.now() - deaths.at(-10));
    while (deaths.length < 10 || throttledMs() < 3000) {
        assert.ok(deaths.length < 200, 'killed quickly enough');
        const victim = await until('worker 0', () => gateway.worker(0));
        deaths.push(Date.now());
        process.kill(victim.pid, 'SIGKILL');
        await until('its end', () => gateway.worker(0)?.pid !== victim.pid);
    }
    await sleep(1000);
    const isAway = !gateway.worker(0);
    assert.ok(isAway || throttledMs() < 500, 'throttled');
    await newConnections();
    await until('worker 0 again', () => gateway.worker(0));
    assert.ok(throttledMs() < 500, 'not before');
    await newConnections();
});

test('"20 reloads with 200 slow requests open and clients that keep idle connections and send at ' +
     'random moments, without retries: 0 failed"', { timeout: 300_000 }, async (t) => {
    await start({ workers: 2, projects: demo({
        hello: { provider: 'echo', model: 'echo' },
        late: { provider: 'echo', model: 'echo/slow-800' },
    }) });
    let ended = false;
    let answered = 0;
    const lines = [];
    const busy = async (route, pause) => {
        const line = new Line();
        const told = { closes: 0, asked: 0, line };
        lines.push(told);
        for (let last = false; !last;) {
            await sleep(pause());
            last = ended;
            told.asked++;
            const answer = await line.ask(route);
            assert.equal(answer.status, 200, answer.text);
            answered++;
            if (answer.closes) {
                told.closes++;
            } else {
                assert.ok(answer.servedBefore < answer.servedAtConnect + 2, 'an old worker says close');
            }
        }
        line.close();
    };
    const clients = [
        ...Array.from({ length: SANITIZE ? 100 : 200 }, () => busy('late', () => 0)),
        ...Array.from({ length: 50 }, () => busy('hello', () => Math.random() * 1500)),
    ];
    const failed = Promise.all(clients); // ends early only when one fails
    failed.catch(() => {});
    await Promise.race([failed, until('all are connected', () => lines.every(({ asked }) => asked > 1))]);
    for (let i = 0; i < 20; i++) {
        await Promise.race([reload(), failed]);
        assert.ok(generations() <= 4);
    }
    ended = true;
    await failed;
    // "closes idle ones only at …": but for its last, each connection was told to close, and then ended.
    assert.deepEqual(lines.filter(({ closes, line }) =>
        closes < 1 || line.connections > closes + 1 || line.connections < closes), []);
    const closed = lines.reduce((sum, { closes }) => sum + closes, 0);
    t.diagnostic(`${answered} requests, ${closed} of them told to close`);
    await until('one generation', () => generations() === 1);
    await gateway.rowsReach(answered);
    await gateway.stop();
    assert.equal(gateway.rowCount(), answered);
    assert.equal(gateway.rows("status <> 'ok'").length, 0);
});

test(`"ten reloads a second" for ${RELOAD_SECONDS} s: "at most four generations, and after ` +
     'shutdown_timeout one, no stray process or slot"',
     { timeout: (RELOAD_SECONDS + 120) * 1000 }, async (t) => {
    await start({ workers: 2, service: { shutdown_timeout: '2s' } });
    await reload();
    await until('one generation', () => generations() === 1);
    const before = { descriptors: descriptors(gateway.pid), resident: resident(gateway.pid),
                     worker: descriptors(gateway.worker(0).pid), slots: (await status()).slots_free };
    const idle = Array.from({ length: 4 }, () => new Line()); // hold generations to their timeout
    const until_ = Date.now() + RELOAD_SECONDS * 1000;
    let most = 0;
    let reloads = 0;
    const begun = serving();
    while (Date.now() < until_ || serving() <= begun + 2) {
        gateway.child.kill('SIGHUP');
        reloads++;
        if (reloads % 5 === 0) {
            const line = idle[(reloads / 5) % idle.length];
            assert.equal((await line.ask()).status, 200);
        }
        const next = Date.now() + 100;
        while (Date.now() < next) {
            most = Math.max(most, generations());
            await sleep(15);
        }
    }
    idle.forEach((line) => line.close());
    t.diagnostic(`${reloads} signals, ${serving() - begun} new generations, at most ${most} at once`);
    assert.ok(most <= 4, `${most} generations at once`);
    await until('the last reload', async () => {
        const { generations: found } = await status();
        return found.length === 1 && found[0].state === 'serving';
    });
    await until('every slot is free again', async () => (await status()).slots_free === before.slots);
    assert.equal(generations(), 1);
    assert.deepEqual(gateway.children().map(({ title }) => title.replace(/\d+\)/, 'N)')).sort(),
                     ['promptgate: keeper', 'promptgate: logger', 'promptgate: worker 0 (gen N)',
                      'promptgate: worker 1 (gen N)']);
    const left = await status();
    assert.equal(left.slots_free, before.slots);
    assert.equal(left.slots, left.slots_free + 2);
    assert.deepEqual(descriptors(gateway.pid), before.descriptors);
    assert.deepEqual(descriptors(gateway.worker(0).pid), before.worker);
    if (!SANITIZE) {
        const growth = resident(gateway.pid) - before.resident;
        t.diagnostic(`master: ${before.resident >> 10} KiB, ${growth >> 10} KiB more at the end`);
        assert.ok(growth < 1 << 20, `the master grew by ${growth} bytes`);
    }
});

test('the old generation\'s answers say Connection: close, those of the new one do not', async () => {
    await start({ workers: 1 });
    const pending = await gateway.begin('late', { message: 'Hi' });
    await reload();
    assert.equal((await pending.answer).closes, true);
    const line = new Line();
    const fresh = await line.ask();
    assert.equal(fresh.status, 200);
    assert.equal(fresh.closes, false);
    line.close();
    await until('one generation', () => generations() === 1);
});

test('a changed prompt takes effect', async () => {
    const endpoint = { provider: 'echo', model: 'echo', user_prompt: 'old: {{input}}' };
    await start({ projects: demo({ hello: endpoint }) });
    const said = async () => (await gateway.post('hello', { message: 'Hi' })).text;
    assert.match(await said(), /old: Hi/);
    rewrite('projects.d/demo.yaml', (text) => text.replace('old:', 'new:'));
    await reloadAndGoOver();
    assert.match(await said(), /new: Hi/);
});

test('a TCP address that is added is served; removed, it is refused though an old generation lives on',
     async () => {
    await start({ workers: 2 });
    const port = await freePort();
    assert.equal(await connects(port), false);
    rewrite('promptgate.yaml', (text) =>
        text.replace(/listen: .*/, `listen: [ "127.0.0.1:0", "127.0.0.1:${port}" ]`));
    await reload();
    for (let i = 0; i < 10; i++) {
        const answer = await fetch(`http://127.0.0.1:${port}/healthz`,
                                   { headers: { connection: 'close' } });
        assert.equal(answer.status, 200);
    }
    const held = await gateway.begin('never', { message: 'Hi' });
    rewrite('promptgate.yaml', (text) => text.replace(/listen: .*/, 'listen: "127.0.0.1:0"'));
    await reload();
    await until('a refusal', async () => !await connects(port));
    assert.ok(generations() > 1);
    held.leave();
    await newConnections();
    // And back again.
    rewrite('promptgate.yaml', (text) =>
        text.replace(/listen: .*/, `listen: [ "127.0.0.1:0", "127.0.0.1:${port}" ]`));
    await reload();
    assert.equal((await fetch(`http://127.0.0.1:${port}/healthz`)).status, 200);
});

test('an address that cannot be had: the reload fails, says why, and changes nothing', async () => {
    await start({ workers: 2 });
    const [good, taken] = [await freePort(), net.createServer()];
    await new Promise((resolve) => taken.listen(0, '127.0.0.1', resolve));
    rewrite('promptgate.yaml', (text) => text.replace('workers: 2', 'workers: 4').replace(/listen: .*/,
        `listen: [ "127.0.0.1:0", "127.0.0.1:${good}", "127.0.0.1:${taken.address().port}" ]`));
    await failingReload();
    assert.match(gateway.stderr, /cannot listen on 127\.0\.0\.1:\d+: Address already in use/);
    assert.equal(await connects(good), false);
    assert.equal(gateway.workers().length, 2);
    await newConnections(100);
    await new Promise((resolve) => taken.close(resolve));
    await reload();
    assert.equal(gateway.workers().filter(({ title }) => /gen 2/.test(title)).length, 4);
    assert.equal(await connects(good), true);
});

// Looks at one process's children without a look at all others.
function childrenNow() {
    try {
        return fs.readFileSync(`/proc/${gateway.pid}/task/${gateway.pid}/children`, 'utf8')
            .trim().split(' ').filter(Boolean).map((pid) => look(Number(pid))).filter(Boolean);
    } catch {
        return children(gateway.pid);
    }
}

/** SIGHUP, and `signal` to the child with this title as soon as it is there. That may come too late:
 * what is waited for lasts a few milliseconds. Null when the reload is `over` and none was seen. */
async function catchProcess(title, signal, over) {
    gateway.child.kill('SIGHUP');
    for (const end = Date.now() + 60_000; Date.now() < end;) {
        const victim = childrenNow().find((child) => title.test(child.title));
        if (victim) {
            process.kill(victim.pid, signal);
            return victim;
        }
        await new Promise(setImmediate); // the gateway's log comes in
        if (over()) {
            return null;
        }
    }
    throw new Error(`no process ${title} was seen`);
}

test('"a config that crashes the parser cannot take the master down"', async () => {
    await start();
    // Large enough that reading it takes a while.
    const entries = Array.from({ length: SANITIZE ? 1000 : 3000 }, (_, i) => [`slug-${i}`,
        { provider: 'echo', model: 'echo', system_prompt: 'x'.repeat(200) }]);
    const large = yaml(demo({ hello: { provider: 'echo', model: 'echo' },
                              ...Object.fromEntries(entries) }).demo);
    rewrite('projects.d/demo.yaml', () => large);
    for (let i = 0; i < 20 && failures() === 0; i++) {
        const over = () => failures() === 1 || serving() > i;
        await catchProcess(/reading the configuration/, 'SIGKILL', over);
        await until('an end', over);
    }
    assert.match(gateway.stderr, /the parser was killed by Killed/);
    const before = serving();
    assert.equal((await new Line().ask(before ? 'slug-1' : 'hello')).status, 200);
    assert.equal((await new Line().ask('slug-1')).status, before ? 200 : 404);
    await reload();
    assert.equal((await new Line().ask('slug-1')).status, 200);
});

test('a new generation that cannot start: the reload fails, no connection is lost, the old one goes on',
     async () => {
    const wide = Math.max(4, 2 * (await import('node:os')).availableParallelism());
    await start({ workers: wide });
    const port = await freePort();
    rewrite('promptgate.yaml', (text) =>
        text.replace(/listen: .*/, `listen: [ "127.0.0.1:0", "127.0.0.1:${port}" ]`)
            .replace(/workers: \d+/, `workers: ${wide + 2}`));
    // The last of many workers is stopped before it is ready; what it would accept is not yet its.
    let victim;
    for (let i = 0; i < 20 && failures() === 0; i++) {
        const name = new RegExp(`worker ${wide + 1} \\(gen ${2 + i}\\)`);
        victim = await catchProcess(name, 'SIGSTOP', () => serving() === i + 1);
        if (!victim) {
            continue; // too late: its generation serves
        }
        const ready = (await status()).generations.at(-1).workers
            .find(({ pid }) => pid === victim.pid)?.ready;
        if (ready !== false) {
            process.kill(victim.pid, 'SIGCONT'); // too late: it was ready
            await until('it serves', () => serving() === i + 1);
            continue;
        }
        assert.equal((await status()).generations.at(-1).state, 'starting');
        if (i === 0) {
            assert.equal(await connects(port), false, 'nothing listens there yet');
        }
        await newConnections(100);
        process.kill(victim.pid, 'SIGKILL');
        await until('the failure', () => failures() === 1);
        assert.match(gateway.stderr, /the new generation's workers could not start/);
        await until('the rest of it is gone', async () =>
            !(await status()).generations.some(({ number }) => number === 2 + i));
        await newConnections(100);
        if (i === 0) {
            await until('the address is given up', async () =>
                !(await status()).listening.includes(`127.0.0.1:${port}`));
            assert.equal(gateway.workers().length, wide);
        }
    }
    assert.equal(failures(), 1, 'caught in time');
    await reload();
    assert.equal(await connects(port), true);
    await newConnections(100);
});

test('SIGTERM at any moment of a reload stops everything', { timeout: 120_000 }, async () => {
    await start({ workers: 2 });
    for (const delay of [0, 1, 3, 5, 8, 12, 20, 40]) {
        gateway.child.kill('SIGHUP');
        for (const end = performance.now() + delay; performance.now() < end;);
        const began = Date.now();
        await gateway.stop();
        assert.ok(Date.now() - began < 25_000, 'it does not wait for shutdown_timeout');
        await gateway.restart();
    }
});

test('SIGHUP during a stop changes nothing', async () => {
    await start({ workers: 2 });
    const pending = await gateway.begin('late', { message: 'Hi' });
    gateway.children();
    gateway.child.kill('SIGTERM');
    for (let i = 0; i < 5; i++) {
        await sleep(50);
        gateway.child.kill('SIGHUP');
    }
    const answer = await pending.answer;
    assert.equal(answer.status, 200);
    await gateway.stop(0);
    assert.equal(serving(), 0);
    assert.equal(gateway.rows()[0].request_id, answer.id);
});
