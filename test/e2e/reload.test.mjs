// A new configuration while clients are served; one master for a runtime directory.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { afterEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { createToken, demo, load, run, SANITIZE, startGateway, until,
         yaml } from './harness.mjs';

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
    await until('one generation', () => generations() === 1, 15);
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

test('endpoints, tokens and addresses change by reload', async () => {
    await start();
    const late = await createToken(gateway.config, 'demo', '--name', 'late');
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
    assert.equal((await run('token', 'revoke', '--config', gateway.config, 'late')).status, 0);
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
    const pending = gateway.post('never', { message: 'Hi' });
    await sleep(200);
    await reload();
    const answer = await pending;
    assert.equal(answer.status, 503);
    assert.equal(answer.json.error.code, 'draining');
    assert.equal((await gateway.row(answer.id)).status, 'draining');
});

test('"one instance": a second serve says so and exits 1 at once; after kill -9 the next one goes on', async () => {
    await start({ service: { shutdown_timeout: '2s' } });
    const began = Date.now();
    const second = await run('serve', '--config', gateway.config);
    assert.equal(second.status, 1);
    assert.match(second.stderr, /already running \(pid \d+\)/);
    assert.ok(Date.now() - began < 2000);
    assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
    const pending = gateway.post('late', { message: 'Hi' });
    await sleep(200);
    gateway.child.kill('SIGKILL');
    await gateway.end();
    await gateway.restart();
    assert.equal((await pending).status, 200, 'orphans end what they have in hand');
    assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
});

test('a stopped worker is aborted after 5 s and replaced; its neighbour takes over meanwhile', async () => {
    await start({ workers: 2 });
    const victim = gateway.worker(0);
    process.kill(victim.pid, 'SIGSTOP');
    await until('a new worker', () => (gateway.worker(0)?.pid ?? victim.pid) !== victim.pid, 15);
    assert.match(gateway.stderr, /worker 0 \(gen 1\) \(pid \d+\) gives no sign of life/);
    assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
});

test('a worker that dies again and again: new connections are served by the other one', async () => {
    await start({ workers: 2 });
    for (let i = 0; i < 10; i++) {
        const victim = await until('worker 0', () => gateway.worker(0));
        process.kill(victim.pid, 'SIGKILL');
        await until('its end', () => gateway.worker(0)?.pid !== victim.pid);
    }
    await sleep(1500);
    assert.equal(gateway.worker(0), undefined, 'throttled');
    const answers = await Promise.all(Array.from({ length: 40 }, () =>
        new Promise((resolve, reject) => {
            http.get({ host: '127.0.0.1', port: gateway.port, path: '/healthz', agent: false,
                       timeout: 3000 }, (answer) => resolve(answer.statusCode))
                .on('timeout', () => reject(new Error('a connection hangs')))
                .on('error', reject);
        })));
    assert.ok(answers.every((status) => status === 200));
});
