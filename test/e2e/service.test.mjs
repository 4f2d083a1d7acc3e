// What the machine around it sees of a gateway: its addresses, and what the service manager is told.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { afterEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { PATIENCE, PROJECT_ID, PROMPTGATE, run, startGateway, temporaryDirectory,
         until } from './harness.mjs';

let gateway;

afterEach(async () => {
    if (gateway && gateway.child.exitCode === null && gateway.child.signalCode === null) {
        await gateway.stop();
    }
    gateway = null;
});

// ---- addresses

function post(where) {
    return new Promise((resolve, reject) => {
        http.request({ ...where, method: 'POST', path: `/api/${PROJECT_ID}/hello`, agent: false,
                       headers: { 'authorization': `Bearer ${gateway.token}`,
                                  'content-type': 'application/json' } }, (answer) => {
            answer.resume();
            resolve({ status: answer.statusCode, id: answer.headers['x-request-id'] });
        }).on('error', reject).end('{"message":"Hi"}');
    });
}

async function hasIpv6() {
    const server = net.createServer();
    const found = await new Promise((resolve) => {
        server.on('error', () => resolve(false)).listen(0, '::1', () => resolve(true));
    });
    server.close();
    return found;
}

test('several addresses: IPv4, IPv6 and a UNIX socket; all workers serve all of them, also after a ' +
     'reload and an upgrade', { skip: !await hasIpv6() && 'no IPv6 here' }, async () => {
    const local = path.join(temporaryDirectory(), 'http.sock');
    gateway = await startGateway({
        workers: 2, service: { listen: ['127.0.0.1:0', '[::1]:0', '127.0.0.2:0', `unix:${local}`] },
    });
    const portAt = (address) => Number(new RegExp(`listening on ${address}:(\\d+)`)
        .exec(gateway.stderr)[1]);
    const places = [
        { where: { host: '127.0.0.1', port: gateway.port }, ip: '127.0.0.1' },
        { where: { host: '::1', port: portAt('\\[::1\\]') }, ip: '::1' },
        { where: { host: '127.0.0.2', port: portAt('127\\.0\\.0\\.2') }, ip: '127.0.0.1' },
        { where: { socketPath: local }, ip: 'unix' },
    ];
    for (const next of ['reload', 'upgrade', 'stop']) {
        for (const { where, ip } of places) {
            const workers = new Set();
            for (let i = 0; i < 100 && workers.size < 2; i++) {
                const answer = await post(where);
                assert.equal(answer.status, 200);
                const row = await gateway.row(answer.id);
                assert.equal(row.client_ip, ip);
                workers.add(row.worker);
            }
            assert.equal(workers.size, 2, `${JSON.stringify(where)}: served by ${[...workers]} alone`);
        }
        if (next === 'reload') {
            assert.equal((await run('reload', '--config', gateway.config)).status, 0);
        } else if (next === 'upgrade') {
            assert.equal((await gateway.upgrade()).status, 0);
        }
    }
    await gateway.stop();
    assert.equal(fs.existsSync(local), false, 'its file is gone');
});

// ---- the service manager

class Manager {
    lines = [];

    async start() {
        this.path = path.join(temporaryDirectory(), 'notify');
        this.child = spawn(path.join(path.dirname(PROMPTGATE), 'notify-listen'), [this.path],
                           { stdio: ['pipe', 'pipe', 'inherit'] });
        this.child.unref();
        this.child.stdout.unref();
        let rest = '';
        this.child.stdout.setEncoding('utf8').on('data', (text) => {
            const parts = (rest + text).split('\n');
            rest = parts.pop();
            this.lines.push(...parts);
        });
        await until('the manager', () => this.lines.shift() === 'listening');
        return this;
    }

    /** All but the watchdog's, in order. */
    get told() {
        return this.lines.filter((line) => line !== 'WATCHDOG=1');
    }

    get fed() {
        return this.lines.length - this.told.length;
    }

    stop() {
        this.child.stdin.end();
    }
}

test('sd_notify: READY, RELOADING with MONOTONIC_USEC, READY; of a failed reload, too; STOPPING', async () => {
    const manager = await new Manager().start();
    gateway = await startGateway({
        workers: 2,
        prepare: (made) => {
            made.env = { NOTIFY_SOCKET: manager.path };
        },
    });
    const matches = (...patterns) => until(`${patterns}; told:\n${manager.told.join('\n')}`, () =>
        manager.told.length >= patterns.length).then(() => {
        patterns.forEach((pattern, i) => assert.match(manager.told[i], pattern));
        assert.equal(manager.told.length, patterns.length, manager.told.join('\n'));
        manager.lines = [];
    });
    await matches(/^READY=1\|/);
    gateway.child.kill('SIGHUP');
    await matches(/^RELOADING=1\|MONOTONIC_USEC=\d+\|/, /^READY=1\|STATUS=serving$/);
    const file = path.join(gateway.config, 'promptgate.yaml');
    const good = fs.readFileSync(file, 'utf8');
    for (const bad of [`${good}bogus: 1\n`, good.replace(/state_dir: .*/, 'state_dir: /nowhere')]) {
        fs.writeFileSync(file, bad);
        gateway.child.kill('SIGHUP');
        await matches(/^RELOADING=1\|MONOTONIC_USEC=\d+\|/, /^READY=1\|STATUS=.*failed/);
    }
    assert.equal(manager.fed, 0, 'nobody asked for a watchdog');
    assert.equal((await gateway.upgrade()).status, 1);
    fs.writeFileSync(file, good);
    assert.equal((await gateway.upgrade()).status, 0);
    await matches(new RegExp(`^MAINPID=${gateway.pid}$`), /^READY=1\|STATUS=serving$/);
    await gateway.stop();
    await matches(/^STOPPING=1\|/);
    manager.stop();
});

test('"the systemd watchdog is fed only while a worker is ready and beating"', async () => {
    const manager = await new Manager().start();
    gateway = await startGateway({
        workers: 1,
        prepare: (made) => {
            made.env = { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: '600000' };
        },
    });
    const fedWithin = async (ms) => {
        const before = manager.fed;
        await sleep(ms);
        return manager.fed - before;
    };
    assert.ok(await fedWithin(1500 * PATIENCE) >= 3);
    assert.equal((await gateway.upgrade()).status, 0);
    assert.ok(await fedWithin(1500 * PATIENCE) >= 3, 'by the new master, too');
    // Nobody serves while it is throttled.
    for (let i = 0; i < 10; i++) {
        const victim = await until('a worker', () => gateway.worker(0));
        process.kill(victim.pid, 'SIGKILL');
        await until('its end', () => gateway.worker(0)?.pid !== victim.pid);
    }
    await sleep(500);
    assert.equal(gateway.worker(0), undefined, 'throttled');
    assert.equal(await fedWithin(1500), 0);
    await until('worker 0 again', () => gateway.worker(0), 12);
    await until('food again', async () => await fedWithin(500) > 0);
    manager.stop();
});
