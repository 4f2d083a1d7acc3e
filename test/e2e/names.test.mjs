// A name server that never answers: glibc asks whom /etc/resolv.conf names, so each gateway here runs
// in a mount namespace of its own, where that file names a socket of this test.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import dgram from 'node:dgram';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { assertError, demo, load, PATIENCE, SANITIZE, startGateway, temporaryDirectory, until,
         writeFiles } from './harness.mjs';
import { KEY, mockCredential, startMock } from './mock.mjs';

const CONNECT_TIMEOUT_MS = 1000;
const REQUESTS = SANITIZE ? 500 : 2000;
// Nobody else's loopback address; port 53 cannot be chosen.
const NAME_SERVER = `127.53.${(process.pid >> 8) & 255}.${process.pid & 255}`;

/** Begins a command in which these files lie in the place of the system's. */
function inPlace(directory) {
    const script = 'mount --bind "$1/resolv.conf" /etc/resolv.conf && ' +
        'mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf && shift && exec "$@"';
    return ['unshare', '--mount', 'sh', '-c', script, 'sh', directory];
}

function makeLauncher() {
    const directory = temporaryDirectory();
    writeFiles(directory, {
        'resolv.conf': `nameserver ${NAME_SERVER}\noptions timeout:30 attempts:1\n`,
        'nsswitch.conf': 'hosts: files dns\n',
    });
    const [command, ...args] = inPlace(directory);
    execFileSync(command, [...args, 'true'], { stdio: 'pipe' });
    return [command, ...args];
}

let launcher;
let skip = false;
if (process.getuid() !== 0) {
    skip = 'only root can put another /etc/resolv.conf before a process';
} else {
    try {
        launcher = makeLauncher();
    } catch (error) {
        skip = `no mount namespace can be made here: ${error.stderr ?? error.message}`;
    }
}

let mock;
let server;
let questions = 0;

before(async () => {
    mock = await startMock();
    if (!skip) {
        server = dgram.createSocket('udp4').on('message', () => questions++);
        await new Promise((resolve, reject) => {
            server.once('error', reject).bind({ address: NAME_SERVER, port: 53 }, resolve);
        });
        server.unref();
    }
});

after(async () => {
    server?.close();
    await mock?.stop();
});

/** With three providers that nobody finds; the usual one has none that must be looked up. */
function start({ hosts = ['far1', 'far2', 'far3'], connectTimeoutMs = CONNECT_TIMEOUT_MS,
                 ...options } = {}) {
    const each = (make) => Object.fromEntries(hosts.map((host) => [host, make(host)]));
    return startGateway({
        service: { upstream: { connect_timeout: `${connectTimeoutMs}ms`, timeout: '20s' } },
        credentials: {
            near: mockCredential(mock),
            ...each((host) => ({ provider: 'openai', base_url: `https://${host}.example/v1`,
                                 api_key: KEY })),
        },
        projects: demo({
            near: { provider: 'openai', credential: 'near', model: 'm' },
            ...each((host) => ({ provider: 'openai', credential: host, model: 'm' })),
        }),
        launcher,
        ...options,
    });
}

function startUsual() {
    return start({ hosts: [], launcher: [] });
}

/** Keeps `count` requests to hosts that are not found under way; returns what ends that. */
function keepAsking(gateway, count) {
    let over = false;
    let ended = 0;
    const lines = Array.from({ length: count }, async (_, i) => {
        while (!over) {
            const answer = await gateway.post(`far${i % 3 + 1}`, { message: 'Hi' });
            assertError(answer, 504, 'provider_timeout');
            ended++;
        }
    });
    const all = Promise.all(lines);
    all.catch(() => {}); // told by the one who ends it
    return async () => {
        over = true;
        await all;
        return ended;
    };
}

async function p99(gateway) {
    mock.clear();
    const report = await load(gateway, { requests: REQUESTS, connections: 8, route: 'near' });
    assert.deepEqual(report.by_status, { 200: REQUESTS }, JSON.stringify(report));
    return report.p99_us;
}

async function stopMs(gateway) {
    const began = Date.now();
    await gateway.stop();
    return Date.now() - began;
}

describe('"A name server that never answers"', { skip }, () => {
    test('"other requests\' p99 unchanged", and those that wait get 504 after connect_timeout', async (t) => {
        const usual = await startUsual();
        const hanging = await start();
        await until('a question', () => questions > 0);
        const times = { usual: [], hanging: [] };
        await p99(usual);
        await p99(hanging);
        for (let round = 0; round < 3; round++) {
            times.usual.push(await p99(usual));
            const end = keepAsking(hanging, 24);
            times.hanging.push(await p99(hanging));
            assert.ok(await end() >= 24);
        }
        t.diagnostic(`p99 in µs: ${JSON.stringify(times)}`);
        const [before_, now] = [Math.min(...times.usual), Math.min(...times.hanging)];
        assert.ok(now < before_ * 3 + 10_000 * PATIENCE, `${now} µs, and ${before_} µs without`);
        await usual.stop();
        await hanging.stop();
    });

    test('504 provider_timeout after connect_timeout, and the row says why', async () => {
        const gateway = await start();
        const began = Date.now();
        const answer = await gateway.post('far1', { message: 'Hi' });
        const ms = Date.now() - began;
        assertError(answer, 504, 'provider_timeout');
        assert.ok(ms >= CONNECT_TIMEOUT_MS - 20 && ms < 15_000, `${ms} ms, not the look-up's 30 s`);
        const row = await gateway.row(answer.id);
        assert.equal(row.status, 'provider_timeout');
        assert.match(row.error_message + row.attempts, /address of far1\.example was not found in time/);
        await gateway.stop();
    });

    test('"stop and cancel unaffected"', async (t) => {
        const usual = await startUsual();
        const usualMs = await stopMs(usual);
        const gateway = await start({ workers: 1, connectTimeoutMs: 15_000 });
        const call = await gateway.begin('far1', { message: 'Hi' });
        await sleep(300);
        const began = Date.now();
        call.leave();
        await assert.rejects(call.answer);
        await until('the row', () => gateway.rows('status = ?', 'client_closed').length === 1);
        const [row] = gateway.rows('status = ?', 'client_closed');
        t.diagnostic(`noticed after ${row.latency_ms} ms, in the store ${Date.now() - began} ms later`);
        assert.ok(row.latency_ms < 10_000, `${row.latency_ms} ms, not connect_timeout's 15 s`);
        assert.ok(questions > 0);
        const ms = await stopMs(gateway);
        t.diagnostic(`stopped in ${ms} ms, usually in ${usualMs} ms`);
        assert.ok(ms < 10_000 + usualMs, `${ms} ms, usually ${usualMs} ms`);
    });

    test('a stop waits for those who wait for a name, as for all, and no longer', async (t) => {
        const gateway = await start();
        const calls = await Promise.all(['far1', 'far2', 'far3'].map((slug) =>
            gateway.begin(slug, { message: 'Hi' })));
        const ms = await stopMs(gateway);
        t.diagnostic(`stopped in ${ms} ms`);
        for (const { answer } of calls) {
            const { status, json } = await answer;
            assert.deepEqual([status, json.error.code], [504, 'provider_timeout']);
        }
        assert.ok(ms < 15_000, `${ms} ms, not the look-up's 30 s`);
    });
});
