// Each named step (shared/base/step.h) in turn, under load: who reaches it is killed, or everything
// is killed at once, or it is stopped for a while. Afterwards the load goes on, and everything that
// clients and upstream saw must agree with the rows and counters.
//
//   STEP=name[,name] restricts a run; LANES=n gateways work side by side (3).
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Addresses, Connection, post } from '../soak/client.mjs';
import { Upstream } from '../soak/upstream.mjs';
import { Audit, readCounters, RowReader } from './audit.mjs';
import { configFiles, demo, makeToken, PATIENCE, PROJECT_ID, PROMPTGATE, startGateway, until,
         writeFiles } from './harness.mjs';
import { KEY } from './mock.mjs';
import { lives } from './proc.mjs';

const STEPS = Boolean(process.env.STEPS);
const LANES = Number(process.env.LANES || 3);
const ONLY = process.env.STEP?.split(',');
const PACE_MS = 1050; // ten deaths of one place in ten seconds would throttle it

const skip = STEPS ? false : 'the steps have names in builds with STEPS=1: make e2e-steps';

// ---- what has to happen for a step to be reached; what is not here the load reaches

const NEEDS = {
    // a start on nothing
    fresh: ['counters_allocated', 'counters_header_written', 'counters_carried_over',
            'counters_renamed', 'counters_room_allocated', 'counters_grown', 'store_created',
            'schema_step_run'],
    // a start after everything was killed
    start: ['lock_opened', 'lock_taken', 'lock_signed', 'socket_cleared', 'socket_bound',
            'counters_opened', 'counters_taken_over', 'accounts_started',
            'recovery_row_taken_back'],
    // the death of a worker
    worker: ['slot_taken', 'worker_forked', 'child_published', 'worker_starting', 'worker_ready',
             'child_reaped', 'slot_left', 'slot_unused', 'slot_without_pid', 'slot_freed',
             'requests_counted_right', 'recovery_row_in_pipe', 'recovery_row_written',
             'recovery_row_freed'],
    // and of the logger
    logger: ['logger_forked', 'store_with_wal', 'schema_begun', 'schema_to_commit',
             'schema_committed', 'store_reached', 'store_reason_published'],
    reload: ['generation_published', 'worker_accepts_no_more', 'worker_draining', 'worker_leaving',
             'worker_left', 'account_caps_set', 'account_filled', 'account_taken', 'account_freed'],
    stop: ['workers_gone', 'socket_removed'],
    // tests of their own below
    own: ['orphans_outstayed', 'orphans_killed', 'store_left', 'wal_left', 'wal_rescued',
          'rejected_folder_made', 'rejected_written', 'rejected_renamed', 'row_set_aside',
          'segment_renamed', 'file_written', 'file_synced', 'file_linked', 'file_made',
          'file_replaced'],
};

const needOf = (name) => Object.keys(NEEDS).find((need) => NEEDS[need].includes(name)) ?? 'load';

function definedSteps() {
    const list = path.join(path.dirname(PROMPTGATE), 'steps/list');
    return [...new Set(execFileSync(list, { encoding: 'utf8' }).trim().split('\n'))].sort();
}

const wanted = (names) => names.filter((name) => !ONLY || ONLY.includes(name));

// ---- orders

/** A struct step_order in a file that the processes have mapped. */
class Orders {
    static #STATE = 0;
    static #PID = 8;

    constructor(file) {
        this.file = file;
        fs.writeFileSync(file, Buffer.alloc(4096));
        this.fd = fs.openSync(file, 'r+');
    }

    #write(value, at) {
        const word = Buffer.alloc(4);
        word.writeInt32LE(value);
        fs.writeSync(this.fd, word, 0, 4, at);
    }

    #read(at) {
        const word = Buffer.alloc(4);
        fs.readSync(this.fd, word, 0, 4, at);
        return word.readInt32LE();
    }

    give(name, action, times = 1) {
        const order = Buffer.alloc(84);
        order.writeInt32LE(times, 4);
        order.write(action, 12, 'latin1');
        order.write(name, 20, 'latin1');
        this.#write(0, Orders.#STATE);
        fs.writeSync(this.fd, order, 4, order.length - 4, 4);
        this.#write(1, Orders.#STATE);
    }

    take() {
        this.#write(0, Orders.#STATE);
    }

    get taken() {
        return this.#read(Orders.#STATE) === 2;
    }

    get pid() {
        return this.#read(Orders.#PID);
    }
}

// ---- load

const STRANGER = makeToken().token;

/** Clients that go on through everything, each request told to the auditor. */
class Load {
    #markers = 0;
    #going = true;

    constructor(lane) {
        this.lane = lane;
        this.addresses = new Addresses();
        this.ok = 0;
        const kinds = ['plain', 'plain', 'echo', 'late', 'late', 'stranger', 'noise'];
        this.clients = kinds.map((kind) => this.#client(kind));
    }

    async stop() {
        this.#going = false;
        await Promise.all(this.clients);
    }

    async #client(kind) {
        let connection;
        while (this.#going) {
            if (!this.lane.open) {
                await sleep(5);
                continue;
            }
            connection = await this.#ask(kind, connection);
            await sleep(kind === 'stranger' || kind === 'noise' ? 60 : 4);
        }
        connection?.leave();
    }

    /** Returns the connection if it can be used again. */
    async #ask(kind, before) {
        const { gateway, audit } = this.lane;
        const connection = before ?? new Connection(gateway.port, this.addresses.next());
        const refused = kind === 'stranger' || kind === 'noise';
        const slug = refused ? 'echo' : kind;
        const request = audit.request({ marker: `m-${++this.#markers}-`, ip: connection.ip,
                                        endpoint: slug, upstream: kind === 'plain',
                                        row: refused ? 'never' : 'must', kind });
        const token = kind === 'stranger' ? STRANGER : gateway.token;
        const bytes = kind === 'noise' ? Buffer.from('SSH-2.0-OpenSSH_9.2\r\n\r\n')
            : post(`/api/${PROJECT_ID}/${slug}`, JSON.stringify({ message: request.marker }),
                   { Authorization: `Bearer ${token}` });
        try {
            await connection.connected;
            await connection.send(bytes);
            request.answered(await connection.answer(15));
            this.ok += request.outcome === 'ok';
            if (!connection.closing && !connection.over && kind !== 'noise') {
                return connection;
            }
            connection.leave();
        } catch (error) {
            // It may never have been read by anybody.
            request.row = refused ? 'never' : 'may';
            request.broke(error.message, error.id);
            connection.leave();
        }
        return undefined;
    }
}

// ---- one gateway and everything around it

const endpoints = (extra) => ({
    plain: { provider: 'openai', credential: 'mock', model: 'marker', timeout: '20s' },
    echo: { provider: 'echo', model: 'echo' },
    late: { provider: 'echo', model: 'echo/slow-60' },
    [`extra-${extra}`]: { provider: 'echo', model: 'echo' },
});

class Lane {
    open = false; // clients may ask
    reloads = 0;
    killed = false; // some process, once at least

    async start(prepare = null) {
        this.audit = new Audit();
        this.upstream = await new Upstream((marker) => this.audit.call(marker)).start();
        this.gateway = await startGateway({
            ...this.#options(), ownGroup: true,
            prepare: (gateway) => {
                this.orders = new Orders(path.join(gateway.directory, 'order'));
                gateway.env = { PROMPTGATE_STEP_ORDER: this.orders.file,
                                PROMPTGATE_SEGMENT_BYTES: '4000' };
                prepare?.(gateway);
            },
        });
        this.store = new DatabaseSync(this.gateway.database, { readOnly: true, timeout: 5000 });
        this.reader = new RowReader(this.store);
        this.load = new Load(this);
        this.open = true;
        return this;
    }

    #options() {
        return {
            workers: 2,
            service: { shutdown_timeout: '1s' },
            credentials: { mock: { provider: 'openai', base_url: this.upstream.baseUrl, api_key: KEY } },
            projects: demo(endpoints(this.reloads)),
        };
    }

    /** Another configuration: an endpoint less and one more. The token's file stays. */
    async reload() {
        this.reloads++;
        writeFiles(this.gateway.config, configFiles(this.gateway.directory, this.#options()));
        this.gateway.child.kill('SIGHUP');
    }

    follow() {
        for (let rows = this.reader.more(); rows.length > 0; rows = this.reader.more()) {
            rows.forEach((row) => this.audit.row(row));
        }
    }

    get gone() {
        return this.gateway.child.exitCode !== null || this.gateway.child.signalCode !== null;
    }

    /** Until it serves; it may die on the way. */
    async revive() {
        for (let i = 0; i < 4; i++) {
            try {
                await this.gateway.restart();
                return;
            } catch (error) {
                if (!this.gone) {
                    await until(`readiness: ${error.message}`, async () => this.gone ||
                        (await fetch(`${this.gateway.base}/readyz`).catch(() => null))?.status === 200);
                }
                if (!this.gone) {
                    return;
                }
            }
        }
        throw new Error(`the gateway does not start:\n${this.gateway.stderr}`);
    }

    async reviveIfGone() {
        await sleep(10); // for its end to be noticed here
        if (this.gone) {
            this.open = false;
            await this.revive();
            this.open = true;
        }
    }

    killAll() {
        try {
            process.kill(-this.gateway.pid, 'SIGKILL');
        } catch {
            // it has ended
        }
    }

    /** Ten more requests are answered, all rows are there. */
    async goOn(what) {
        const { ok } = this.load;
        this.open = true;
        await until(`${what}: answers after it`, () => this.load.ok >= ok + 10, 20);
        const { audit } = this;
        this.open = false; // so that the answers awaited come to an end
        await until(`${what}: ${audit.awaited()} rows`, () => {
            this.follow();
            return audit.awaited() === 0;
        }, 20);
        this.open = true;
    }

    async cause(need) {
        const { gateway } = this;
        if (need === 'worker') {
            process.kill(gateway.workers()[0].pid, 'SIGKILL');
        } else if (need === 'logger') {
            process.kill(gateway.logger().pid, 'SIGKILL');
        } else if (need === 'reload') { // what one forgets the next but one frees
            for (let i = 0; i < 4 && !this.orders.taken; i++) {
                await this.reload();
                await until('the reload', () => this.orders.taken || this.gone, 1).catch(() => {});
            }
        } else if (need === 'stop') {
            this.open = false;
            gateway.child.kill('SIGTERM');
        } else if (need === 'start') {
            this.open = false;
            this.killAll();
            await gateway.end();
            await this.revive();
        }
    }

    async meet(name, action) {
        const what = `${action} at ${name}`;
        const need = needOf(name);
        const { gateway, orders } = this;
        const from = performance.now();
        let over = false;
        const kills = action !== 'stop' || ['worker', 'logger', 'start'].includes(need);
        gateway.children();
        const pid = gateway.pid;
        orders.give(name, action);
        const caused = this.cause(need).finally(() => {
            over = true;
        });
        await until(`${what}: it was never reached`, () => orders.taken, 12);
        if (action === 'stop') {
            await sleep(150);
            try {
                process.kill(orders.pid, 'SIGCONT');
            } catch {
                // somebody else has ended it
            }
        } else if (action === 'all' || orders.pid === pid) {
            await until(`${what}: the end of the gateway`, () => over || this.gone);
        }
        await caused;
        if (need === 'stop') {
            await gateway.end();
        }
        await this.reviveIfGone();
        await this.goOn(what);
        if (kills) {
            this.audit.workerKilled(from, performance.now());
            this.killed = true;
            const left = PACE_MS - (performance.now() - from);
            await sleep(Math.max(0, left));
        }
    }

    /** After a failure: nothing of it goes on. */
    async abandon() {
        this.open = false;
        this.killAll();
        await this.load.stop();
        this.store.close();
        await this.upstream.stop();
    }

    /** Stops; everything must agree. */
    async finish() {
        this.orders.take();
        this.open = false;
        await this.load.stop();
        await this.gateway.stop();
        this.follow();
        const counters = readCounters(path.join(this.gateway.directory, 'run/counters'));
        this.store.close();
        await this.upstream.stop();
        const { audit } = this;
        assert.deepEqual(audit.finish(), []);
        const { rows } = audit.counts;
        const sum = (field) => counters.slots.reduce((total, slot) => total + slot[field], 0);
        assert.equal(sum('requests'), rows, 'requests counted');
        assert.equal(sum('rows'), rows, 'rows counted');
        assert.equal(sum('in_flight'), 0, 'in flight');
        assert.ok(counters.logged_rows <= rows && (this.killed || counters.logged_rows === rows),
                  `${counters.logged_rows} rows counted as logged, ${rows} are there`);
        const left = path.join(this.gateway.directory, 'state/spool');
        assert.deepEqual(fs.readdirSync(left).filter((name) => name.endsWith('.seg')), []);
        return audit.counts;
    }
}

/** All the names, side by side on some gateways. */
async function meetAll(t, action, names) {
    const todo = [...names];
    const counts = [];
    const failures = [];
    /** One gateway, until it has failed or all is done. */
    async function meetSome() {
        const lane = await new Lane().start();
        const met = [];
        try {
            for (let name = todo.shift(); name; name = todo.shift()) {
                met.push(name);
                await lane.meet(name, action);
            }
            counts.push(await lane.finish());
        } catch (error) {
            failures.push(`${error.message}\nafter ${met.join(', ')}:\n${lane.gateway.stderr.slice(-2000)}`);
            await lane.abandon();
        }
    }
    await Promise.all(Array.from({ length: Math.min(LANES, todo.length) }, async () => {
        while (todo.length > 0) {
            await meetSome();
        }
    }));
    assert.deepEqual(failures, []);
    const total = (field) => counts.reduce((sum, one) => sum + one[field], 0);
    t.diagnostic(`${names.length} steps: ${total('requests')} requests, ${total('answers')} answers, ` +
                 `${total('rows')} rows, ${total('calls')} calls upstream`);
}

const inLanes = (...without) => wanted(definedSteps())
    .filter((name) => !['fresh', 'own', ...without].includes(needOf(name)));

const timeout = 300_000 * PATIENCE;

test('kill -9 of whoever comes to a step, for each step', { skip, timeout }, (t) =>
    meetAll(t, 'kill', inLanes()));

test('kill -9 of everything at once when a step is reached', { skip, timeout }, (t) =>
    meetAll(t, 'all', inLanes()));

test('SIGSTOP for a while at each step: nobody loses anything', { skip, timeout }, (t) =>
    meetAll(t, 'stop', inLanes('stop', 'start')));
