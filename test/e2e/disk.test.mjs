// A full disk, for real: state_dir is a small tmpfs in a mount namespace of the test's own.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { fillDisk } from './disk.mjs';
import { assertError, load, run, startGateway, until } from './harness.mjs';

const TMPFS_MIB = 32;
const INSIDE = 'PROMPTGATE_TEST_NAMESPACE';
const NAME = '"a full disk: alarm, wait, 503, and on by itself when there is room; nothing is dropped"';

/** By the superuser, or by whoever may become one in a user namespace. */
const unshare = [[], ['--user', '--map-root-user']].map((user) =>
    [...user, '--mount', '--propagation', 'private', '--']).find((options) =>
    spawnSync('unshare', [...options, 'mount', '-t', 'tmpfs', 'tmpfs', os.tmpdir()]).status === 0);

/** Runs this file again in a mount namespace of its own: what it mounts there goes with it. */
function runInside() {
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    return new Promise((resolve, reject) => {
        const inner = spawn('unshare', [...unshare, process.execPath, ...process.execArgv,
                                        fileURLToPath(import.meta.url)],
                            { env: { ...env, [INSIDE]: '1' }, stdio: ['ignore', 'pipe', 'pipe'] });
        process.once('exit', () => inner.kill());
        let output = '';
        for (const stream of [inner.stdout, inner.stderr]) {
            stream.setEncoding('utf8').on('data', (text) => {
                output += text;
            });
        }
        inner.once('error', reject);
        inner.once('close', (status) => resolve({ status, output }));
    });
}

async function start() {
    const gateway = await startGateway({
        workers: 2,
        service: { gateway_logs: { queue: '64KiB' } },
        prepare: ({ directory }) => {
            execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${TMPFS_MIB}m,mode=0750`, 'tmpfs',
                                   path.join(directory, 'state')]);
        },
    });
    gateway.state = path.join(gateway.directory, 'state');
    return gateway;
}

async function dbStatus(gateway) {
    const { status, stdout } = await run('db', 'status', '--json', '--config', gateway.config);
    return { code: status, ...JSON.parse(stdout) };
}

async function fillAndFree(t) {
    const gateway = await start();
    t.after(() => spawnSync('umount', ['--lazy', gateway.state]));
    let answered = 0;
    let away = 0;
    const send = async (requests) => {
        const report = await load(gateway, { requests, connections: 16 });
        assert.equal(report.broken, 0, JSON.stringify(report));
        const { 200: good = 0, 503: refused = 0, ...others } = report.by_status;
        assert.deepEqual(others, {}, JSON.stringify(report));
        assert.equal(good + refused, requests);
        answered += good;
        return { good, refused };
    };

    // One worker's pipe may be full before the other's, and a logger that has just begun takes from
    // the pipes what its segments have room for.
    const everyWorkerRefuses = () => until('every worker refuses', async () => {
        const answers = [];
        while (answers.length < 12 && answers.every(({ status }) => status === 503)) {
            answers.push(await gateway.post('hello', { message: 'Hi' }));
        }
        answered += answers.filter(({ status }) => status === 200).length;
        return answers.at(-1).status === 503 && answers;
    });

    for (let round = 0; round < 2; round++) {
        assert.deepEqual(await send(200), { good: 200, refused: 0 });
        await gateway.rowsReach(answered);
        assert.equal((await dbStatus(gateway)).code, 0);
        const free = fillDisk(gateway.state);

        const { good, refused } = await send(20_000);
        t.diagnostic(`${good} requests were taken by pipes and queues, ${refused} refused`);
        assert.ok(good > 1000, 'the pipes held some');
        assert.ok(refused > 1000, 'the rest was refused');
        const refusals = await everyWorkerRefuses();
        assert.equal(assertError(refusals[0], 503, 'overloaded').type, 'api_error');
        assert.ok(gateway.rowCount() < answered);
        assert.equal(gateway.stderr.match(/the pipes wait/g)?.length, round + 1);
        const full = await dbStatus(gateway);
        assert.equal(full.code, 1);
        assert.ok(Date.parse(full.spool.disk_full_since) > Date.now() - 600_000);
        // The -wal file may have room for what was in the spool.
        away += full.store.state === 'away' ? 1 : 0;
        assert.equal(gateway.stderr.match(/the store is away/g)?.length ?? 0, away);
        if (full.store.state === 'away') {
            assert.equal(full.store.reason, 'full');
            assert.ok(full.spool.pending_bytes > 0);
            assert.ok(Date.parse(full.spool.oldest) > Date.now() - 600_000);
        }

        if (round === 1) { // a logger that begins on a full disk
            const victim = gateway.logger();
            process.kill(victim.pid, 'SIGKILL');
            await until('another logger', () => (gateway.logger()?.pid ?? victim.pid) !== victim.pid);
            assertError((await everyWorkerRefuses()).at(-1), 503, 'overloaded');
        }

        free();
        await gateway.rowsReach(answered);
        await until('requests again', async () => {
            const answer = await gateway.post('hello', { message: 'Hi' });
            answered += answer.status === 200 ? 1 : 0;
            return answer.status === 200;
        });
        await gateway.rowsReach(answered);
        await until('a healthy status', async () => (await dbStatus(gateway)).code === 0);
    }
    await gateway.stop();
    const rows = gateway.rows();
    assert.equal(rows.length, answered);
    assert.ok(rows.every(({ status, http_status: http }) => status === 'ok' && http === 200));
    assert.deepEqual(fs.readdirSync(`${gateway.state}/spool`), []);
    const stopped = await dbStatus(gateway);
    assert.deepEqual([stopped.code, stopped.running, stopped.store.rows], [0, false, answered]);
}

if (process.env[INSIDE]) {
    test(NAME, { timeout: 600_000 }, fillAndFree);
} else {
    test(NAME, { timeout: 600_000 }, async (t) => {
        if (!unshare) {
            t.skip('no mount namespace can be made here: that takes the superuser, or user namespaces');
            return;
        }
        const { status, output } = await runInside();
        t.diagnostic(output.match(/\d+ requests were taken.*/g)?.join('; ') ?? output);
        assert.equal(status, 0, output);
    });
}
