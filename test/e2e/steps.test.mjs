// Each named step (shared/base/step.h) in turn, under load: who reaches it is killed, or everything
// is killed at once, or it is stopped for a while. Afterwards the load goes on, and everything that
// clients and upstream saw must agree with the rows and counters.
//
//   STEP=name[,name] restricts a run, STEP=postgres_ to the names that begin so; LANES=n gateways
//   work side by side (3). With STORE=postgres it is the other driver's steps that are met.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Addresses, Connection, post } from '../soak/client.mjs';
import { Talk } from '../soak/talk.mjs';
import { Upstream } from '../soak/upstream.mjs';
import { Audit, readCounters, readSums, RowReader } from './audit.mjs';
import { openStore, POSTGRES } from './database.mjs';
import { configFiles, demo, makeToken, PATIENCE, PROJECT_ID, PROMPTGATE, run, startGateway,
         until, writeFiles } from './harness.mjs';
import { KEY } from './mock.mjs';
import { look, lives } from './proc.mjs';

const STEPS = Boolean(process.env.STEPS);
const LANES = Number(process.env.LANES || 3);
const ONLY = process.env.STEP ? process.env.STEP.split(',') : null;
const PACE_MS = 1050; // ten deaths of one place in ten seconds would throttle it

const skip = STEPS ? false : 'the steps have names in builds with STEPS=1: make e2e-steps';
const ofFiles = skip || (POSTGRES && 'PostgreSQL has no file of ours');

// ---- whose a step is

const OF_SQLITE = ['store_created', 'store_with_wal', 'store_left', 'wal_left', 'wal_rescued',
                   'schema_begun', 'schema_step_run', 'schema_to_commit', 'schema_committed',
                   'batch_begun', 'batch_to_commit', 'batch_committed', 'row_inserted',
                   'offset_put', 'offset_forgotten', 'usage_added', 'refused_added',
                   'rows_deleted', 'slice_committed'];

const isOfThisStore = (name) =>
    (POSTGRES ? !OF_SQLITE.includes(name) : !name.startsWith('postgres_'));

// ---- what has to happen for a step to be reached; what is not here the load reaches

const NEEDS = {
    // a start on nothing
    fresh: ['counters_allocated', 'counters_header_written', 'counters_carried_over',
            'counters_renamed', 'counters_room_allocated', 'counters_grown',
            'counters_table_allocated', 'counters_table_allotted', 'store_created',
            'schema_step_run', 'postgres_to_migrate', 'cold_start_done'],
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
             'schema_committed', 'store_reached', 'store_reason_published',
             'postgres_connected'],
    keeper: ['keeper_forked'],
    reload: ['generation_published', 'worker_accepts_no_more', 'worker_draining', 'worker_leaving',
             'worker_left', 'account_caps_set', 'account_labelled', 'account_filled', 'account_taken',
             'account_freed', 'token_written', 'token_published', 'token_dropped'],
    stop: ['workers_gone', 'socket_removed'],
    upgrade: ['upgrade_forked', 'upgrade_cleared', 'takeover_ready', 'takeover_done', 'upgrade_handed_on'],
    // passed in less than a microsecond after a death in another: test/steps meets them
    scheduler: ['spend_to_look', 'spend_to_ask', 'ledger_release_known', 'ledger_releasing',
                'ledger_released', 'ledger_finished', 'window_to_look_back', 'window_to_undo'],
    // tests of their own below
    own: ['orphans_outstayed', 'orphans_killed', 'store_left', 'wal_left', 'wal_rescued',
          'rejected_folder_made', 'rejected_written', 'rejected_renamed', 'row_set_aside',
          'segment_renamed', 'file_written', 'file_synced', 'file_linked', 'file_made',
          'file_replaced', 'spend_raised'],
};

const needOf = (name) => Object.keys(NEEDS).find((need) => NEEDS[need].includes(name)) ?? 'load';

function definedSteps() {
    const list = path.join(path.dirname(PROMPTGATE), 'steps/list');
    return [...new Set(execFileSync(list, { encoding: 'utf8' }).trim().split('\n'))].sort();
}

const isAskedFor = (name) =>
    !ONLY || ONLY.some((one) => name === one || (one.endsWith('_') && name.startsWith(one)));

const wanted = (names) => names.filter((name) => isOfThisStore(name) && isAskedFor(name));

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
        this.wrong = []; // what conversations lacked, or had twice
        const kinds = ['plain', 'plain', 'talk', 'talk', 'keyed talk', 'keyed talk', 'echo', 'late', 'late', 'late', 'late', 'stranger', 'noise'];
        this.clients = kinds.map((kind) => this.#client(kind));
    }

    async stop() {
        this.#going = false;
        await Promise.all(this.clients);
    }

    async #client(kind) {
        let connection;
        const talk = kind.endsWith('talk') ? new Talk(this.wrong, { keyed: kind.startsWith('keyed') }) : null;
        while (this.#going) {
            if (!this.lane.open) {
                await sleep(5);
                continue;
            }
            connection = await this.#ask(kind, connection, talk);
            await sleep(kind === 'stranger' || kind === 'noise' ? 60 : 4);
        }
        connection?.leave();
    }

    /** Returns the connection if it can be used again. */
    async #ask(kind, before, talk) {
        const { gateway, audit } = this.lane;
        const connection = before && !before.over ? before
            : new Connection(gateway.port, this.addresses.next());
        const refused = kind === 'stranger' || kind === 'noise';
        const slug = refused ? 'echo' : talk ? 'talk' : kind;
        const marker = `m-${++this.#markers}-`;
        const next = talk?.next(marker) ?? { body: JSON.stringify({ message: marker }), headers: {}, said: marker };
        const request = audit.request({ marker, said: next.said, ip: connection.ip,
                                        endpoint: slug, upstream: slug === 'plain' || slug === 'talk',
                                        row: refused ? 'never' : 'must', kind });
        const token = kind === 'stranger' ? STRANGER : gateway.token;
        const bytes = kind === 'noise' ? Buffer.from('SSH-2.0-OpenSSH_9.2\r\n\r\n')
            : post(`/api/${PROJECT_ID}/${slug}`, next.body, { ...next.headers, Authorization: `Bearer ${token}` });
        try {
            await connection.connected;
            await connection.send(bytes);
            const answer = await connection.answer(15);
            request.answered(answer);
            talk?.answered(request.outcome, answer);
            this.ok += request.outcome === 'ok';
            if (!connection.closing && !connection.over && kind !== 'noise') {
                return connection;
            }
            connection.leave();
        } catch (error) {
            request.broke(error.message, error.id);
            talk?.broke();
            connection.leave();
        }
        return undefined;
    }
}

// ---- one gateway and everything around it

const isGone = ({ child }) => child.exitCode !== null || child.signalCode !== null;

/** Starts it, until it serves; it may die on the way. */
async function revive(gateway) {
    for (let i = 0; i < 4; i++) {
        try {
            await gateway.restart();
            return;
        } catch (error) {
            // A worker may have died with the first request.
            const serves = async () =>
                (await fetch(`${gateway.base}/readyz`).catch(() => null))?.status === 200;
            await until(`readiness: ${error.message}`, async () => isGone(gateway) || serves());
            if (!isGone(gateway)) {
                return;
            }
        }
    }
    throw new Error(`the gateway does not start:\n${gateway.stderr}`);
}

/** The gateway has a process group of its own. */
function killAll(gateway) {
    try {
        process.kill(-gateway.pid, 'SIGKILL');
    } catch {
        // it has ended
    }
}

const endpoints = (extra) => ({
    plain: { provider: 'openai', credential: 'mock', model: 'marker', timeout: '20s',
             price: { input: 0.15, output: 0.6, cached_input: 0.075 }, max_output_tokens: 100,
             budget: { monthly_usd: 1000 }, rate_limit: { per_minute: 1000000, per_hour: 10000000 } },
    talk: { provider: 'openai', credential: 'mock', model: 'marker-talk', timeout: '20s', session: { max_messages: 100 } },
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
        this.store = openStore(this.gateway.database, { readOnly: true });
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
            tokens: { extra: makeToken().entry },
        };
    }

    /** Another configuration: an endpoint and a token less, and one more of each. The clients'
     * token stays. */
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
        return isGone(this.gateway);
    }

    async reviveIfGone() {
        if (this.gone) {
            this.open = false;
            await revive(this.gateway);
            this.open = true;
        }
    }

    killAll() {
        killAll(this.gateway);
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
        if (need === 'worker') { // the oldest: it has something in hand
            for (let i = 0; i < 6 && !this.orders.taken && !this.gone; i++) {
                const [victim] = gateway.workers();
                if (victim) {
                    process.kill(victim.pid, 'SIGKILL');
                }
                await until('the step', () => this.orders.taken || this.gone, 0.5).catch(() => {});
            }
        } else if (need === 'logger') {
            process.kill(gateway.logger().pid, 'SIGKILL');
        } else if (need === 'keeper') {
            process.kill(gateway.children().find(({ title }) => title === 'promptgate: keeper').pid, 'SIGKILL');
        } else if (need === 'reload') { // what one forgets the next but one frees
            for (let i = 0; i < 4 && !this.orders.taken; i++) {
                await this.reload();
                await until('the reload', () => this.orders.taken || this.gone, 1).catch(() => {});
            }
        } else if (need === 'stop') {
            this.open = false;
            gateway.child.kill('SIGTERM');
        } else if (need === 'start') { // with rows in the pipes, or nearly so, at the death
            for (let i = 0; i < 6 && !this.orders.taken; i++) {
                const { ok } = this.load;
                this.open = true;
                await until('answers before it', () => this.load.ok >= ok + 3);
                this.open = false;
                this.killAll();
                await gateway.end();
                await revive(gateway);
                await until('the step', () => this.orders.taken || this.gone, 0.5).catch(() => {});
            }
        }
    }

    async meet(name, action) {
        const what = `${action} at ${name}`;
        const need = needOf(name);
        const { gateway, orders } = this;
        const from = performance.now();
        const kills = action !== 'stop' || ['worker', 'logger', 'keeper', 'start'].includes(need);
        gateway.children();
        const pid = gateway.pid;
        orders.give(name, action);
        const caused = this.cause(need);
        await until(`${what}: it was never reached`, () => orders.taken, 12);
        if (action === 'stop') {
            await sleep(150);
            try {
                process.kill(orders.pid, 'SIGCONT');
            } catch {
                // somebody else has ended it
            }
        } else if (action === 'spin') {
            await until(`${what}: its end`, () => !fs.existsSync(`/proc/${orders.pid}`));
        } else if (need !== 'start' && (action === 'all' || orders.pid === pid)) {
            await until(`${what}: the end of the gateway`, () => this.gone);
        }
        await caused;
        if (need === 'stop') {
            await gateway.end();
        }
        await this.reviveIfGone();
        await this.goOn(what);
        if (kills) {
            this.audit.killed(from, performance.now());
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
        if (this.store.isOpen) {
            this.store.close();
        }
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
        assert.deepEqual(this.load.wrong, []);
        const killed = this.killed ? { worker: 1, logger: 1 } : {};
        const sums = readSums(this.gateway.database);
        assert.deepEqual(audit.finish({ counters, sums, killed }), []);
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
    .filter((name) => !['fresh', 'own', 'scheduler', 'upgrade', ...without].includes(needOf(name)));

const timeout = 300_000 * PATIENCE;

test('kill -9 of whoever comes to a step, for each step', { skip, timeout }, (t) =>
    meetAll(t, 'kill', inLanes()));

test('kill -9 of everything at once when a step is reached', { skip, timeout }, (t) =>
    meetAll(t, 'all', inLanes()));

test('SIGSTOP for a while at each step: nobody loses anything', { skip, timeout }, (t) =>
    meetAll(t, 'stop', inLanes('stop', 'start')));

test('a worker that never goes on is replaced', { skip, timeout }, (t) =>
    meetAll(t, 'spin', wanted(['request_sent'])));

// ---- what needs more than a death

/** A gateway without load; each answer's id is remembered. */
async function startAlone({ segmentBytes } = {}) {
    let orders;
    const echo = { provider: 'echo', model: 'echo', price: { input: 1, output: 2 }, max_output_tokens: 100 };
    const gateway = await startGateway({
        workers: 2, ownGroup: true, service: { shutdown_timeout: '1s' },
        projects: demo({ hello: echo, poison: echo, talk: { ...echo, session: { max_messages: 500 } } }),
        prepare: (made) => {
            orders = new Orders(path.join(made.directory, 'order'));
            made.env = { PROMPTGATE_STEP_ORDER: orders.file,
                         ...(segmentBytes && { PROMPTGATE_SEGMENT_BYTES: String(segmentBytes) }) };
        },
    });
    const ids = [];
    const ask = async (count, slug = 'hello') => {
        const asked = [];
        for (let i = 0; i < count; i++) {
            const answer = await gateway.post(slug, { message: 'Hi' },
                                              { headers: { connection: 'close' } });
            assert.equal(answer.status, 200, answer.text);
            asked.push(answer.id);
        }
        ids.push(...(slug === 'hello' ? asked : []));
        return asked;
    };
    const taken = (name) => until(`${name} is reached`, () => orders.taken);
    return { gateway, orders, ids, ask, taken };
}

const idsOf = (rows) => rows.map(({ request_id: id }) => id).sort();

for (const action of ['kill', 'all']) {
    test(`a start on nothing, ${action} at each step of it`, { skip, timeout }, async () => {
        const { gateway, orders, ids, ask } = await startAlone();
        await gateway.stop();
        for (const name of wanted(NEEDS.fresh)) {
            for (const folder of ['state', 'run']) {
                fs.rmSync(path.join(gateway.directory, folder), { recursive: true });
                fs.mkdirSync(path.join(gateway.directory, folder));
            }
            if (POSTGRES) {
                gateway.database.exec('DROP SCHEMA public CASCADE; ' +
                                      'CREATE SCHEMA public AUTHORIZATION gateway');
            }
            ids.length = 0;
            orders.give(name, action);
            await revive(gateway);
            assert.ok(orders.taken, `${name} is reached`);
            await ask(3);
            await gateway.stop();
            assert.deepEqual(idsOf(gateway.rows()), ids.sort(), name);
        }
    });
}

/** Whoever is the master now; one that is started anew when all are gone. */
async function findMaster(gateway) {
    const seen = [gateway.pid, ...gateway.children().map(({ pid }) => pid)].map(look).filter(Boolean);
    const found = await until('a master, or the end of all', async () => {
        const said = await run('status', '--config', gateway.config, '--json');
        const { pid, upgrading_to_pid: under } = said.status === 0 ? JSON.parse(said.stdout) : {};
        return pid && !under ? { pid } : !pid && !seen.some(lives) && { pid: null };
    });
    if (found.pid === null) {
        await revive(gateway);
    } else if (found.pid !== gateway.pid) {
        gateway.follow(found.pid);
    }
}

for (const action of ['kill', 'stop']) {
    test(`an upgrade, ${action} at each step of it`, { skip, timeout }, async () => {
        const { gateway, orders, ids, ask, taken } = await startAlone();
        for (const name of wanted(NEEDS.upgrade)) {
            await ask(3);
            const upgrades = () => gateway.stderr.match(/has taken over/g)?.length ?? 0;
            const before = upgrades();
            orders.give(name, action);
            process.kill(gateway.pid, 'SIGUSR2');
            await taken(name);
            if (action === 'stop') {
                await sleep(150);
                process.kill(orders.pid, 'SIGCONT');
                await until('the upgrade', () => upgrades() > before);
            }
            await findMaster(gateway);
            await ask(3);
        }
        await gateway.stop();
        assert.deepEqual(idsOf(gateway.rows()), ids.sort());
    });
}

/** Asks for turns of a conversation, and for answers that are kept, until it is told to stop; all of
 * them must be answered. */
async function converse(gateway, isOver) {
    let session;
    let number = 0;
    while (!isOver()) {
        const answer = await gateway.post('talk', { message: 'Hi', ...(session && { session_id: session }) });
        assert.equal(answer.status, 200, answer.text);
        session = answer.json.meta.session_id;
        const kept = await gateway.post('hello', { message: 'Hi' }, { headers: { 'idempotency-key': `${session} ${++number}` } });
        assert.equal(kept.status, 200, kept.text);
    }
    return 2 * number;
}

for (const [role, name, reason] of [['logger', 'logger_forked', /was not ready in time/],
                                    ['worker', 'worker_starting', /workers could not start/]]) {
    test(`an upgrade whose new ${role} hangs: the old one goes on, conversations too`, { skip: skip || (wanted([name]).length === 0 && 'not asked for'), timeout }, async () => {
        const { gateway, orders, taken } = await startAlone();
        let over = false;
        const clients = Array.from({ length: 4 }, () => converse(gateway, () => over));
        await gateway.rowsReach(20);
        orders.give(name, 'stop');
        const asked = gateway.upgrade();
        await taken(name);
        const said = await Promise.race([asked, ...clients]);
        assert.equal(said.status, 1);
        assert.match(said.stderr, reason);
        await gateway.rowsReach(gateway.rowCount() + 20);
        over = true;
        const count = (await Promise.all(clients)).reduce((sum, one) => sum + one);
        assert.equal((await gateway.upgrade()).status, 0, 'the next one is good');
        await gateway.stop();
        assert.equal(gateway.rowCount(), count);
        assert.deepEqual(gateway.rows("status <> 'ok'"), []);
    });
}

test('orphans that do not leave: the master that waits for them is killed', { skip, timeout }, async () => {
    const { gateway, orders, ids, ask } = await startAlone();
    await ask(4);
    const victim = gateway.workers()[0];
    process.kill(victim.pid, 'SIGSTOP');
    process.kill(gateway.pid, 'SIGKILL');
    await gateway.end();
    for (const name of wanted(['orphans_outstayed', 'orphans_killed'])) {
        orders.give(name, 'kill');
        await assert.rejects(gateway.restart(), /ended/);
        assert.ok(orders.taken, `${name} is reached`);
    }
    await revive(gateway);
    assert.ok(!lives(victim), 'the orphan is gone');
    await ask(4);
    await gateway.stop();
    assert.deepEqual(idsOf(gateway.rows()), ids.sort());
});

test('rows that the store refuses: the logger is killed while it sets them aside', { skip, timeout }, async () => {
    const { gateway, orders, ids, ask, taken } = await startAlone();
    const store = openStore(gateway.database);
    store.exec(POSTGRES
        ? "ALTER TABLE gateway_logs ADD CONSTRAINT no_poison CHECK (endpoint <> 'poison')"
        : "CREATE TRIGGER no_poison BEFORE INSERT ON gateway_logs WHEN NEW.endpoint = 'poison' " +
          "BEGIN SELECT RAISE(ABORT, 'not to my taste'); END");
    const poison = [];
    for (const name of wanted(['rejected_folder_made', 'rejected_written', 'rejected_renamed',
                               'row_set_aside'])) {
        await ask(2);
        orders.give(name, 'kill');
        poison.push(...await ask(1, 'poison'));
        await taken(name);
        await ask(2);
    }
    await gateway.rowsReach(ids.length);
    store.close();
    await gateway.stop();
    assert.deepEqual(idsOf(gateway.rows()), ids.sort());
    const folder = path.join(gateway.directory, 'state/rejected'); // none when STEP names others
    const aside = poison.length > 0 ? fs.readdirSync(folder) : [];
    assert.deepEqual(aside.filter((name) => !name.startsWith('.')).sort(),
                     poison.map((id) => `${id}.json`).sort());
});

test('a segment shorter than the store knows it: killed when it has another name', { skip, timeout }, async () => {
    const { gateway, orders, ids, ask, taken } = await startAlone();
    await ask(10);
    await gateway.rowsReach(ids.length);
    killAll(gateway);
    await gateway.end();
    const spool = path.join(gateway.directory, 'state/spool');
    for (const name of fs.readdirSync(spool).filter((one) => one.endsWith('.seg'))) {
        const file = path.join(spool, name);
        fs.truncateSync(file, Math.floor(fs.statSync(file).size / 2));
    }
    orders.give('segment_renamed', 'kill');
    await revive(gateway);
    await taken('segment_renamed');
    await ask(10);
    await gateway.stop();
    assert.deepEqual(idsOf(gateway.rows()), ids.sort());
});

test('a database that is taken away: killed while it is left', { skip: ofFiles, timeout }, async () => {
    const { gateway, orders, ids, ask, taken } = await startAlone();
    const found = new Set();
    const collect = () => idsOf(gateway.rows()).forEach((id) => found.add(id));
    for (const name of wanted(['store_left', 'wal_left'])) {
        await ask(4);
        await until('their rows', () => {
            collect();
            return ids.every((id) => found.has(id));
        });
        fs.renameSync(gateway.database, `${gateway.database}.${name}`);
        orders.give(name, 'kill');
        await ask(4);
        await taken(name);
        await until('another database', () => {
            try {
                return gateway.rowCount() >= 0;
            } catch {
                return false; // the file is there before its tables
            }
        });
    }
    await ask(2);
    await gateway.stop();
    collect();
    assert.deepEqual([...found].sort(), ids.sort());
});

test('a -wal file that is taken away: killed when what it held is saved', { skip: ofFiles, timeout }, async () => {
    const { gateway, orders, ids, ask, taken } = await startAlone();
    await ask(4);
    await gateway.rowsReach(ids.length);
    fs.rmSync(`${gateway.database}-wal`);
    orders.give('wal_rescued', 'kill');
    await ask(4);
    await taken('wal_rescued');
    await ask(4);
    await gateway.stop();
    assert.deepEqual(idsOf(gateway.rows()), ids.sort());
});

test('a lost counters file: killed while budgets get what was spent', { skip, timeout }, async () => {
    const { gateway, orders, ask, taken } = await startAlone();
    await ask(5);
    await gateway.stop();
    fs.rmSync(path.join(gateway.directory, 'run/counters'));
    orders.give('spend_raised', 'all');
    await gateway.restart().catch(() => {});
    await taken('spend_raised');
    await gateway.end();
    orders.take();
    await gateway.restart();
    const { accounts } = readCounters(path.join(gateway.directory, 'run/counters'));
    const spent = (kind) => accounts.filter((account) => account.kind === kind)
        .reduce((sum, account) => sum + account.nano_usd, 0);
    await gateway.stop();
    const cost = readSums(gateway.database).cost;
    assert.ok(cost > 0);
    assert.deepEqual([spent('endpoint'), spent('token'), spent('project')], [cost, cost, cost]);
});

test("the command line's files are whole or not there", { skip, timeout }, async () => {
    const { gateway } = await startAlone();
    await gateway.stop();
    const killed = (name, ...args) => assert.rejects(
        run(...args, '--config', gateway.config,
            { env: { ...process.env, PROMPTGATE_STEP: `${name}:kill` } }), /Command failed/, name);
    const tokens = async () => {
        const { status, stdout, stderr } = await run('token', 'list', '--json', '--config', gateway.config);
        assert.equal(status, 0, stderr);
        return JSON.parse(stdout);
    };
    for (const name of wanted(['file_written', 'file_synced', 'file_linked', 'file_made'])) {
        await killed(name, 'token', 'create', '--project', 'demo', '--name', `by-${name}`);
        const there = (await tokens()).some((token) => token.name === `by-${name}`);
        assert.equal(there, ['file_linked', 'file_made'].includes(name), name);
        assert.equal((await run('check', '--config', gateway.config)).status, 0);
    }
    const [{ name: victim }] = await tokens();
    await killed('file_replaced', 'token', 'revoke', victim);
    assert.equal((await tokens()).find((token) => token.name === victim).state, 'revoked');
});

test('another pair of keys, killed at each step of it: everything sealed can be opened', { skip, timeout }, async () => {
    const { gateway } = await startAlone();
    await gateway.stop();
    assert.equal((await run('credential', 'init', '--config', gateway.config)).status, 0);
    for (const name of ['first', 'second']) {
        const said = await run('credential', 'add', name, '--provider', 'openai', '--config', gateway.config, { input: `sk-${name}\n` });
        assert.equal(said.status, 0, said.stderr);
    }
    const opened = async (when) => {
        const { status, stderr } = await run('check', '--config', gateway.config);
        assert.deepEqual([status, stderr.replace(/.*the key itself stands.*\n/g, '')], [0, ''], when);
    };
    const kill = (name, nth) => run('credential', 'reseal', '--config', gateway.config,
                                    { env: { ...process.env, PROMPTGATE_STEP: `${name}:kill:${nth}` } })
        .then(() => false, () => true);
    for (const name of ['file_written', 'file_synced', 'file_replaced']) {
        let nth = 1;
        for (; await kill(name, nth); nth++) {
            await opened(`${name}, time ${nth}`);
        }
        assert.ok(nth >= 5, `${name} was reached ${nth - 1} times`); // each goes on where the last one was
        await opened('in the end');
        assert.equal(fs.readFileSync(path.join(gateway.config, 'secret.key'), 'utf8').match(/secret-key/g).length, 1);
    }
});
