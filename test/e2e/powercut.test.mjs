// Power cuts: all processes stopped at a random moment under load, state_dir copied, each file of
// the copy put back to what its last sync made durable, and a gateway started on it. The build
// (STEPS=1) keeps account of the syncs: sync_note.h, sqlite_undo.h.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { POSTGRES } from './database.mjs';
import { PATIENCE, PROJECT_ID, SANITIZE, startGateway, until } from './harness.mjs';
import { lives } from './proc.mjs';

const CUTS = Number(process.env.POWERCUTS || 5);
const CONNECTIONS = 12;
const SEGMENT_BYTES = 65536;

// ---- load that remembers when each answer came

class Load {
    constructor(gateway) {
        this.gateway = gateway;
        this.answers = new Map(); // request id -> when it was answered
        this.going = true;
        this.agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });
        this.lines = Array.from({ length: CONNECTIONS }, () => this.#line());
    }

    async #line() {
        while (this.going) {
            const { status, id } = await this.#ask();
            assert.equal(status, 200);
            this.answers.set(id, Date.now());
            if (SANITIZE) { // else the workers leave the logger no time
                await sleep(5);
            }
        }
    }

    #ask() {
        return new Promise((resolve, reject) => {
            const body = JSON.stringify({ message: 'x'.repeat(Math.random() * 200) });
            const request = http.request({
                host: '127.0.0.1', port: this.gateway.port, method: 'POST', agent: this.agent,
                path: `/api/${PROJECT_ID}/hello`,
                headers: { authorization: `Bearer ${this.gateway.token}`,
                           'content-type': 'application/json', 'content-length': body.length },
            }, (response) => {
                response.resume();
                response.on('error', reject);
                response.on('end', () => resolve({ status: response.statusCode,
                                                   id: response.headers['x-request-id'] }));
            });
            request.on('error', reject);
            request.end(body);
        });
    }

    async end() {
        this.going = false;
        await Promise.all(this.lines);
        this.agent.destroy();
    }
}

// ---- how long this machine takes for one small sync

/** Where others keep disk and processors busy, nobody can promise a second. */
class Probe {
    constructor(directory) {
        this.took = []; // { end, ms }
        this.going = true;
        this.ended = this.#run(path.join(directory, 'probe'));
    }

    async #run(file) {
        const handle = await fs.promises.open(file, 'w');
        while (this.going) {
            const began = Date.now();
            await handle.write('x'.repeat(4096), 0);
            await handle.datasync();
            this.took.push({ end: Date.now(), ms: Date.now() - began });
            await sleep(20);
        }
        await handle.close();
    }

    /** The longest of those that ended in the three seconds before `at`, if it is long at all. */
    worst(at) {
        const ms = Math.max(0, ...this.took.filter(({ end }) => end > at - 3000 && end <= at)
            .map((one) => one.ms));
        return ms > 100 ? ms : 0;
    }
}

// ---- the cut

const state = (pid) => fs.readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '')[0];

/** Copies state_dir while nothing moves; when that was, and the copy. */
async function copyAtOnce(gateway, target) {
    gateway.children();
    const members = [...gateway.family.values()].filter(lives);
    const at = Date.now();
    for (const { pid } of members) {
        process.kill(pid, 'SIGSTOP');
    }
    try {
        await until('all processes stopped', () => members.every(({ pid }) => state(pid) === 'T'));
        // By another process: SQLite's locks of this one go when it closes such a file.
        execFileSync('cp', ['-r', path.join(gateway.directory, 'state'), target]);
    } finally {
        for (const { pid } of members) {
            process.kill(pid, 'SIGCONT');
        }
    }
    return at;
}

/** Undoes, from the last to the first, what was changed since the last sync. */
function undo(file) {
    const log = fs.readFileSync(`${file}.undo`);
    const entries = [];
    for (let at = 0; at < log.length;) {
        const [size, offset, len] = [0, 8, 16].map((more) => Number(log.readBigUInt64LE(at + more)));
        assert.ok(at + 24 + len <= log.length, 'the log is whole');
        entries.push({ size, offset, bytes: log.subarray(at + 24, at + 24 + len) });
        at += 24 + len;
    }
    const target = fs.openSync(file, 'r+');
    for (const { size, offset, bytes } of entries.reverse()) {
        fs.ftruncateSync(target, size);
        fs.writeSync(target, bytes, 0, bytes.length, offset);
    }
    fs.closeSync(target);
    fs.rmSync(`${file}.undo`);
    return entries.length;
}

/** Cuts a segment back to its last fdatasync; `ragged`: the disk has got somewhat further. */
function cutSegment(spool, name, ragged) {
    const file = path.join(spool, name);
    const note = path.join(spool, `.${name}.synced`);
    const { size } = fs.statSync(file);
    if (!fs.existsSync(note)) {
        fs.rmSync(file);
        return size;
    }
    const synced = Number(fs.readFileSync(note, 'utf8'));
    assert.ok(synced <= size);
    const left = synced + (ragged ? Math.floor(Math.random() * (size - synced)) : 0);
    fs.truncateSync(file, left);
    fs.rmSync(note);
    return size - left;
}

function cut(directory, ragged) {
    const spool = path.join(directory, 'spool');
    const seen = { segments: 0, bytes: 0, pages: 0 };
    for (const name of fs.readdirSync(spool).filter((entry) => entry.endsWith('.seg'))) {
        seen.segments++;
        seen.bytes += cutSegment(spool, name, ragged);
    }
    // Notes of segments that were deleted while their sync was under way.
    for (const name of fs.readdirSync(spool).filter((entry) => entry.endsWith('.seg.synced'))) {
        fs.rmSync(path.join(spool, name));
    }
    for (const name of ['promptgate.db', 'promptgate.db-wal']) {
        const file = path.join(directory, name);
        if (fs.existsSync(file)) {
            seen.pages += undo(file);
        }
    }
    fs.rmSync(path.join(directory, 'promptgate.db-shm'), { force: true });
    return seen;
}

// ---- afterwards

/** The rows of a gateway that is started on what the cut left. */
async function rowsAfter(left) {
    const gateway = await startGateway({
        workers: 2,
        prepare: ({ directory }) => {
            fs.rmdirSync(path.join(directory, 'state'));
            fs.renameSync(left, path.join(directory, 'state'));
        },
    });
    await gateway.stop();
    const there = new Set(gateway.ids());
    const bad = gateway.rows("status <> 'ok' OR bytes_out <= 0 OR bytes_out IS NULL");
    const store = new DatabaseSync(gateway.database, { readOnly: true });
    assert.equal(store.prepare('PRAGMA integrity_check').get().integrity_check, 'ok');
    store.close();
    assert.deepEqual(fs.readdirSync(path.join(gateway.directory, 'state/spool')), []);
    fs.rmSync(gateway.directory, { recursive: true });
    return { there, bad };
}

async function killLogger(gateway) {
    const victim = gateway.logger();
    process.kill(victim.pid, 'SIGKILL');
    await until('another logger', () => (gateway.logger()?.pid ?? victim.pid) !== victim.pid);
}

test(`power cut, ${CUTS} times: "it starts by itself, every row older than 1 s is there"`, {
    timeout: (60_000 + CUTS * 30_000) * PATIENCE,
    skip: process.env.STEPS ? POSTGRES && "PostgreSQL's disk is another's"
        : 'the syncs are counted in builds with STEPS=1: make e2e-steps',
}, async (t) => {
    const gateway = await startGateway({
        workers: 2,
        prepare: (made) => {
            made.env = { PROMPTGATE_POWERCUT: '1', PROMPTGATE_SEGMENT_BYTES: String(SEGMENT_BYTES) };
        },
    });
    // Never closed before the gateway is: a checkpoint by this process would not be accounted for.
    const other = new DatabaseSync(gateway.database);
    other.exec('PRAGMA busy_timeout = 10000');
    const load = new Load(gateway);
    const probe = new Probe(gateway.directory);
    t.after(() => { // or a failed test would never end
        load.going = probe.going = false;
        load.agent.destroy();
    });
    const cuts = [];
    await sleep(2500);
    for (let i = 0; i < CUTS; i++) {
        const away = i % 3 > 0; // the store is locked, rows wait in the spool
        await sleep(1200 + Math.random() * 1200);
        if (away) {
            other.exec('BEGIN IMMEDIATE');
        }
        if (i % 3 === 2) { // and another logger goes on with what the first one didn't sync
            await sleep(Math.random() * 500);
            await killLogger(gateway);
        }
        if (away) {
            await sleep(1500 + Math.random() * 1500);
        }
        const left = path.join(gateway.directory, `left-${i}`);
        const at = await copyAtOnce(gateway, left);
        const seen = cut(left, i % 2 === 1);
        cuts.push({ at, left, seen, away });
        if (away) {
            other.exec('ROLLBACK');
        }
    }
    await load.end();
    probe.going = false;
    await probe.ended;
    other.close();
    await gateway.stop();
    assert.equal(gateway.rowCount(), load.answers.size, 'no row is lost without a cut');

    for (const { at, left, seen, away } of cuts) {
        const { there, bad } = await rowsAfter(left);
        const slack = 3 * probe.worst(at);
        const owed = [...load.answers].filter(([, when]) => when < at - 1000 - slack);
        const answered = [...load.answers].filter(([, when]) => when < at).length;
        t.diagnostic(`${away ? 'store away' : 'store there'}: ${seen.segments} segments and ` +
                     `${seen.bytes} bytes, ${seen.pages} database writes cut; ${answered} answered, ` +
                     `${owed.length} owed (slack ${slack} ms), ${there.size} there`);
        const lost = owed.filter(([id]) => !there.has(id));
        const ages = lost.map(([, when]) => at - when);
        assert.equal(lost.length, 0, `${lost.length} lost, answered ${Math.min(...ages)} to ` +
                     `${Math.max(...ages)} ms before the cut`);
        assert.deepEqual([...there].filter((id) => !load.answers.has(id)), [], 'rows of nobody');
        assert.deepEqual(bad, []);
        assert.ok(owed.length > 50, 'there was something to lose');
    }
});
