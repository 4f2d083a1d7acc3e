// PostgreSQL stops, is made read-only, cuts connections, and has no room: no request fails because of
// it, every row is there once, and the rollups are their sums.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

process.env.STORE = 'postgres'; // before the harness looks
const { postgresPrograms, PostgresServer } = await import('./database.mjs');
const { readSums } = await import('./audit.mjs');
const { load, run, startGateway, until } = await import('./harness.mjs');

const OUTAGE_S = Number(process.env.OUTAGE_SECONDS ?? 10);
const skip = postgresPrograms() ? false : 'no PostgreSQL server is installed';
const INSIDE = 'PROMPTGATE_TEST_NAMESPACE';
const DISK_MIB = 320; // a cluster, its log of 64 MiB, and the rows of some seconds
const FULL = 'a full disk under PostgreSQL: away, and back by itself';

let gateway;
let traffic;

afterEach(async () => {
    await traffic?.end();
    await gateway?.stop();
    gateway = traffic = null;
});

/** Requests without a pause, until it is told to end. */
class Traffic {
    sent = 0;
    #going = true;
    #failed = [];

    constructor(body = 'Hi') {
        this.body = body;
        this.done = this.#run();
    }

    async #run() {
        while (this.#going) {
            const report = await load(gateway, { requests: 200, connections: 8,
                                                 body: { message: this.body } });
            this.sent += 200;
            if (report.broken || report.by_status[200] !== 200) {
                this.#failed.push(JSON.stringify(report));
            }
        }
    }

    async end() {
        this.#going = false;
        await this.done;
        assert.deepEqual(this.#failed, [], 'no request fails');
    }
}

async function dbStatus() {
    const { status, stdout } = await run('db', 'status', '--json', '--config', gateway.config);
    return { code: status, ...JSON.parse(stdout) };
}

const count = (pattern) => gateway.stderr.match(pattern)?.length ?? 0;
const AWAY = /the store is away/g;
const BACK = /the store is back/g;

/** Everything that was sent is stored, once; one line told of each change. */
async function settle(t, changes) {
    await traffic.end();
    const { sent } = traffic;
    traffic = null;
    await gateway.rowsReach(sent, 60 + sent / 5000); // a long outage leaves millions in the spool
    // A logger that was killed may have said that the store is away, and nothing after that.
    await until('the lines', () => changes === null || count(BACK) === count(AWAY));
    await until('a healthy status', async () => (await dbStatus()).code === 0);
    await gateway.stop();
    assert.equal(gateway.rowCount(), sent);
    const { inserted } = gateway.database.prepare(
        'SELECT sum(requests) AS inserted FROM gateway_usage_hourly').get();
    assert.equal(inserted, sent);
    assert.deepEqual(readSums(gateway.database), { refused: 0, cost: 0, wrong: [] });
    assert.deepEqual(fs.readdirSync(path.join(gateway.directory, 'state/spool')), []);
    if (changes !== null) {
        assert.equal(count(AWAY), changes, gateway.stderr);
    }
    t.diagnostic(`${sent} requests, away ${count(AWAY)} times`);
    gateway = null;
}

async function begin() {
    gateway = await startGateway({ workers: 2 });
    traffic = new Traffic();
    await gateway.rowsReach(200);
}

test(`the server stopped for ${OUTAGE_S} s and started again`, { skip }, async (t) => {
    await begin();
    const { server } = gateway.database;
    server.stop('fast');
    await until('the store to be away', async () => {
        const { store } = await dbStatus();
        return store.state === 'away' && store.reason === 'unreachable';
    });
    const before = traffic.sent;
    await sleep(OUTAGE_S * 1000);
    assert.ok(traffic.sent > before, 'requests are served meanwhile');
    const ready = await fetch(`${gateway.base}/readyz`, { headers: { connection: 'close' } });
    assert.equal(ready.status, 200, '"a store outage does not make it 503"');
    server.start();
    await until('the store to be back', () => count(BACK) === 1);
    await settle(t, 1);
});

test('the server crashes, and a logger begins while it is away', { skip }, async (t) => {
    await begin();
    const { server } = gateway.database;
    server.stop('immediate');
    const victim = gateway.logger();
    process.kill(victim.pid, 'SIGKILL');
    await until('another logger', () => (gateway.logger()?.pid ?? victim.pid) !== victim.pid);
    await until('the store to be away', async () => (await dbStatus()).store.state === 'away');
    server.start();
    await until('the store to be back', () => count(BACK) >= 1);
    await settle(t, null);
});

test('the database made read-only for a while', { skip }, async (t) => {
    await begin();
    const { database } = gateway;
    // From another database, whose sessions may write.
    const set = (what) => database.server.sql('postgres', `ALTER DATABASE ${database.name} ${what}`);
    set('SET default_transaction_read_only = on');
    database.disconnectOthers();
    await until('read_only', async () => (await dbStatus()).store.reason === 'read_only');
    await sleep(500);
    set('RESET default_transaction_read_only');
    await until('the store to be back', () => count(BACK) >= 1);
    assert.equal(count(BACK), 1);
    await settle(t, null);
});

test('connections cut again and again, in the middle of batches', { skip }, async (t) => {
    await begin();
    for (let cuts = 0; cuts < 40; cuts++) {
        gateway.database.disconnectOthers();
        await sleep(Math.random() * 120);
    }
    await settle(t, null);
});

/** Out of room for its own log, it ends. */
function startIfItEnded(server) {
    if (!fs.existsSync(path.join(server.data, 'postmaster.pid'))) {
        try {
            server.start();
        } catch {
            // the next time, then
        }
    }
}

async function fullDisk(t) {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'promptgate-pg-'));
    let server;
    t.after(() => {
        server?.remove();
        spawnSync('umount', ['--lazy', directory]);
        fs.rmSync(directory, { recursive: true, force: true });
    });
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MIB}m,mode=0755`, 'tmpfs', directory]);
    server = new PostgresServer(directory);
    const database = server.createDatabase();
    gateway = await startGateway({ workers: 2, service: { store: { driver: 'postgres', dsn: database.dsn } },
                                   prepare: (one) => { one.database = database; } });
    traffic = new Traffic();
    await gateway.rowsReach(200);
    // As the server itself finds it: the superuser's files may use what is kept for him.
    const ballast = path.join(directory, 'ballast');
    spawnSync('dd', ['if=/dev/zero', `of=${ballast}`, 'bs=64k'], { stdio: 'ignore' });
    await until('the store to be away', async () => (await dbStatus()).store.state === 'away');
    await sleep(1000);
    t.diagnostic(`away: ${(await dbStatus()).store.reason}`);
    fs.rmSync(ballast);
    await until('the store to be back', () => {
        startIfItEnded(server);
        return count(BACK) >= 1;
    });
    await settle(t, null);
}

if (process.env[INSIDE]) {
    test(FULL, { timeout: 300_000 }, fullDisk);
} else {
    test(FULL, { skip, timeout: 300_000 }, async (t) => {
        const unshare = ['--mount', '--propagation', 'private', '--'];
        const probe = [...unshare, 'mount', '-t', 'tmpfs', 'tmpfs', os.tmpdir()];
        if (process.getuid() !== 0 || spawnSync('unshare', probe).status !== 0) {
            t.skip('only the superuser can make a small disk for another user');
            return;
        }
        const { NODE_TEST_CONTEXT: _, ...env } = process.env;
        const inner = spawn('unshare', [...unshare, process.execPath, ...process.execArgv,
                                        '--test-name-pattern', FULL,
                                        fileURLToPath(import.meta.url)],
                            { env: { ...env, [INSIDE]: '1' }, stdio: ['ignore', 'pipe', 'pipe'] });
        let output = '';
        for (const stream of [inner.stdout, inner.stderr]) {
            stream.setEncoding('utf8').on('data', (text) => {
                output += text;
            });
        }
        const status = await new Promise((resolve) => inner.once('close', resolve));
        t.diagnostic(output.match(/away: \w+|\d+ requests, away.*/g)?.join('; ') ?? output);
        assert.equal(status, 0, output);
    });
}
