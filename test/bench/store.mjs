// How fast rows are logged, and what a row costs the logger beside a bare prepared INSERT; with
// FILL=n in a store that has n rows already, which are read and expired meanwhile. SQLite, or
// STORE=postgres. See `make bench-store`.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { lockStore, openStore, POSTGRES } from '../e2e/database.mjs';
import { PROJECT_ID, PROMPTGATE, run, until } from '../e2e/harness.mjs';
import { children } from '../e2e/proc.mjs';
import { countersOf, cpu, cpuOfEnded, load, machine, median, progress, ratio, ROUNDS, SECONDS,
         startPromptgate, tenth, whole } from './common.mjs';

const INSERT = process.env.INSERT ?? path.join(path.dirname(PROMPTGATE), 'bench-insert');
const FILL = Number(process.env.FILL || 0);
const NAME = POSTGRES ? 'PostgreSQL' : 'SQLite';
const NO_PORT = 9; // nothing is asked of a provider here

// ---- rows a second, and what they cost

const echoOf = (system) => ({ ...system, path: `/api/${PROJECT_ID}/echo` });

/** Bytes of the store for each row. */
function rowBytes(database) {
    const store = openStore(database);
    const total = store.prepare('SELECT count(*) AS n FROM gateway_logs').get().n;
    const bytes = POSTGRES
        ? store.prepare('SELECT pg_database_size(current_database()) AS n').get().n
        : (store.exec('PRAGMA wal_checkpoint(TRUNCATE)'), fs.statSync(database).size);
    store.close();
    return bytes / total;
}

/** CPU microseconds of PostgreSQL's processes, those that have ended too; none of SQLite's. */
function serverCpu(database) {
    if (!POSTGRES) {
        return 0;
    }
    const pid = Number(fs.readFileSync(path.join(database.server.data, 'postmaster.pid'), 'utf8')
        .split('\n')[0]);
    for (;;) {
        try {
            return cpu([pid, ...children(pid).map((child) => child.pid)]) + cpuOfEnded(pid);
        } catch (error) { // one has ended meanwhile
            if (error.code !== 'ENOENT' && error.code !== 'ESRCH') {
                throw error;
            }
        }
    }
}

/** From requests with this message to the built-in provider; then with the store locked meanwhile,
 * so that afterwards the logger alone is measured. */
async function measureRows(system, message, seconds) {
    const { gateway } = system;
    const echo = echoOf(system);
    const body = JSON.stringify({ message });
    const { rps } = await load(echo, body, Math.ceil(seconds * 1000), 32);
    const count = Math.ceil(rps * seconds);
    const logger = [gateway.logger().pid];
    const [live, drained, logging, storing] = [[], [], [], []];
    for (let round = 0; round < ROUNDS; round++) {
        await system.settled();
        const [began, used, server] =
            [performance.now(), cpu(logger), serverCpu(gateway.database)];
        await load(echo, body, count, 32);
        await system.settled();
        live.push(count / (performance.now() - began) * 1000);
        logging.push((cpu(logger) - used) / count);
        storing.push((serverCpu(gateway.database) - server) / count);
        drained.push(await drain(gateway, () => load(echo, body, count, 32)));
    }
    return { live: median(live), drained: median(drained), logging: median(logging),
             storing: median(storing), count };
}

/** The rate from the first commit after the lock to the last. */
async function drain(gateway, send) {
    const unlock = await lockStore(gateway.database);
    await send();
    await unlock();
    const logged = () => countersOf(gateway).logged_rows;
    const { asked: wanted, logged: from } = progress(gateway);
    await until('the first row after the lock', () => logged() > from, 30);
    const first = logged();
    const began = performance.now();
    while (logged() < wanted) {
        await sleep(10);
    }
    return (wanted - first) / (performance.now() - began) * 1000;
}

/** CPU microseconds of a bare INSERT of the row that was logged last, and of the server for it. */
function bareInsert(database, count) {
    const where = POSTGRES ? ['postgres', database.dsn] : ['sqlite', database];
    const costs = Array.from({ length: ROUNDS }, () => {
        const server = serverCpu(database);
        const client = Number(execFileSync(INSERT, [...where, String(count)], { encoding: 'utf8' }));
        return { client, server: (serverCpu(database) - server) / count };
    });
    return { client: median(costs.map((one) => one.client)),
             server: median(costs.map((one) => one.server)) };
}

async function compareRows(message, seconds, what, service = {}) {
    const system = await startPromptgate(NO_PORT, service);
    const { live, drained, logging, storing, count } = await measureRows(system, message, seconds);
    await system.stop();
    const bytes = rowBytes(system.gateway.database);
    const bare = bareInsert(system.gateway.database, count);
    const rate = (perSecond) =>
        `${whole(perSecond)} rows/s, ${tenth(perSecond * bytes / 1e6)} MB/s`;
    const beside = (own, other) => `${tenth(own)} us beside ${tenth(other)}: ${ratio(own, other)}`;
    console.log(`${NAME}, rows ${what} (${whole(bytes)} bytes each in the store, MB/s are of those):
  logged      ${rate(live)} while one worker serves the built-in provider
  drained     ${rate(drained)} out of a full spool
  CPU a row   logger, beside a program with a bare prepared INSERT of the same row: ` +
                beside(logging, bare.client));
    if (POSTGRES) {
        console.log(`              the same with the server's: ` +
                    beside(logging + storing, bare.client + bare.server));
    }
}

// ---- many rows

const DAYS = 90;
const ENDPOINTS = 5;
const SLICE = 200_000;
const KEPT_DAYS = 35; // by the retention that is set in the end
const DAY_MS = 86_400_000;

const columnsOf = (store, table) => (POSTGRES
    ? store.prepare(`SELECT column_name AS name FROM information_schema.columns WHERE table_name = '${table}'`)
    : store.prepare(`SELECT name FROM pragma_table_info('${table}')`)).all().map(({ name }) => name);

/** Rows from `first` on, evenly over the days before `end_ms`. */
function sliceOfRows(first, count, endMs) {
    const stepMs = DAYS * DAY_MS / FILL;
    const ms = `${endMs - DAYS * DAY_MS} + CAST(i * ${stepMs} AS bigint)`;
    const id = POSTGRES
        ? `(lpad(to_hex(${ms}), 12, '0') || '7' || lpad(to_hex(i % 4096), 3, '0') || '8' || ` +
          `lpad(to_hex(i), 15, '0'))::uuid`
        : `printf('%s-%s-7%03x-8000-%012x', substr(printf('%012x', ${ms}), 1, 8), ` +
          `substr(printf('%012x', ${ms}), 9), i % 4096, i)`;
    const time = POSTGRES ? `to_timestamp((${ms}) / 1000.0)`
        : `strftime('%Y-%m-%dT%H:%M:%fZ', (${ms}) / 1000.0, 'unixepoch')`;
    const text = (sql) => (POSTGRES ? sql : sql.replace(/false/g, '0'));
    const numbers = POSTGRES
        ? `generate_series(${first}::bigint, ${first + count - 1}) AS i`
        : `(WITH RECURSIVE n(i) AS (SELECT ${first} UNION ALL SELECT i + 1 FROM n ` +
          `WHERE i < ${first + count - 1}) SELECT i FROM n)`;
    return text(`INSERT INTO gateway_logs (request_id, created_at, admitted_at, project, endpoint, token,
        client_ip, provider, model, provider_model, status, http_status, attempts, streamed,
        finish_reason, prompt_tokens, completion_tokens, total_tokens, latency_ms, host, worker)
        SELECT ${id}, ${time}, ${time}, 'demo', 'e' || (i % ${ENDPOINTS}), 't' || (i % 40),
        '127.0.0.1', 'openai', 'gpt-4o-mini', 'gpt-4o-mini-2024-07-18', CASE WHEN i % 100 = 0 THEN
        'rate_limited' ELSE 'ok' END, 200, '[]', false, 'stop', 38, 87, 125, 700, 'host-1', 0
        FROM ${numbers}`);
}

/** What the logger would have added up of them. */
function sumsOfRows(store) {
    const keys = { project: 'project', endpoint: 'endpoint', token: "''", provider: 'provider',
                   model: 'model', status: "'ok'", routing_decision: "''",
                   streamed: POSTGRES ? 'false' : '0' };
    const [hour, month] = POSTGRES
        ? ["date_trunc('hour', created_at)", "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM')"]
        : ["substr(created_at, 1, 13) || ':00:00.000Z'", 'substr(created_at, 1, 7)'];
    const sums = columnsOf(store, 'gateway_usage_hourly')
        .filter((name) => !(name in keys) && name !== 'hour' && name !== 'month');
    const valueOf = (name) => (name === 'requests' ? 'count(*)'
        : /^(prompt|completion|total)_tokens$/.test(name) ? `sum(${name})` : '0');
    store.exec(`INSERT INTO gateway_usage_hourly (month, hour, ${Object.keys(keys)}, ${sums})
                SELECT ${month}, ${hour}, ${Object.values(keys)}, ${sums.map(valueOf)}
                FROM gateway_logs GROUP BY 1, 2, project, endpoint, provider, model`);
}

function fill(database) {
    const store = openStore(database);
    const endMs = Date.now();
    if (POSTGRES) {
        for (let day = 0; day <= DAYS; day++) {
            store.exec(`SELECT gateway_logs_partition(${endMs - day * DAY_MS})`);
        }
    } else {
        store.exec('PRAGMA synchronous = OFF');
    }
    for (let first = 0; first < FILL; first += SLICE) {
        store.exec(sliceOfRows(first, Math.min(SLICE, FILL - first), endMs));
    }
    sumsOfRows(store);
    store.exec(POSTGRES ? 'VACUUM ANALYZE' : 'PRAGMA wal_checkpoint(TRUNCATE)');
    store.close();
}

/** How long rows take from being counted to the store, while `meanwhile` is done. */
async function delays(system, meanwhile) {
    const { gateway } = system;
    let going = true;
    const counted = []; // { at, asked }
    const found = [];
    const watched = (async () => {
        let next = 0;
        while (going || next < counted.length) {
            const { asked, logged } = progress(gateway);
            const at = performance.now();
            if (going) {
                counted.push({ at, asked });
            }
            for (; next < counted.length && counted[next].asked <= logged; next++) {
                found.push(at - counted[next].at);
            }
            await sleep(10);
        }
    })();
    const loaded = (async () => {
        while (going) {
            await load(echoOf(system), '{"message":"Hi"}', 2000, 2);
        }
    })();
    const result = await meanwhile();
    going = false;
    await Promise.all([watched, loaded]);
    found.sort((a, b) => a - b);
    const part = (share) => whole(found[Math.floor((found.length - 1) * share)]);
    return { result, text: `p50 ${part(0.5)} ms, p99 ${part(0.99)} ms, longest ${part(1)} ms` };
}

/** Milliseconds of `promptgate spend` for this month, start of the program included. */
async function spendTimes(gateway) {
    const times = [];
    for (let i = 0; i < 20; i++) {
        const began = performance.now();
        const { status, stderr } = await run('spend', '--json', '--config', gateway.config);
        if (status !== 0) {
            throw new Error(stderr);
        }
        times.push(performance.now() - began);
    }
    return whole(median(times));
}

/** Rows of more than some days ago. */
function olderThan(database, days) {
    const store = openStore(database, { readOnly: true });
    const { n } = store.prepare('SELECT count(*) AS n FROM gateway_logs WHERE created_at < ?')
        .get(new Date(Date.now() - days * DAY_MS).toISOString());
    store.close();
    return n;
}

// PostgreSQL drops whole months.
const GONE_DAYS = KEPT_DAYS + (POSTGRES ? 31 : 0);

/** The oldest row's days. */
function oldestDays(database) {
    const store = openStore(database, { readOnly: true });
    const { at } = store.prepare(
        'SELECT created_at AS at FROM gateway_logs ORDER BY request_id LIMIT 1').get();
    store.close();
    return (Date.now() - Date.parse(at)) / DAY_MS;
}

async function measureMany() {
    const first = await startPromptgate(NO_PORT);
    await first.stop();
    const { gateway } = first;
    const began = performance.now();
    fill(gateway.database);
    console.log(`${NAME}: ${FILL} rows of ${DAYS} days put in, ` +
                `${whole((performance.now() - began) / 1000)} s`);
    await gateway.restart();
    const system = { ...first, port: gateway.port };
    const alone = await delays(system, () => sleep(10_000));
    console.log(`  a row's way into the store: ${alone.text}`);
    const reading = await delays(system, () => spendTimes(gateway));
    console.log(`  while the month is summed up, ${reading.result} ms each time: ${reading.text}`);
    fs.appendFileSync(path.join(gateway.config, 'promptgate.yaml'),
                      `\ngateway_logs: { retention: ${KEPT_DAYS}d }\n`);
    const before = olderThan(gateway.database, 0);
    await gateway.stop();
    await gateway.restart();
    system.port = gateway.port;
    const from = performance.now();
    const expiring = await delays(system, () => until('old rows to go', async () => {
        await sleep(500);
        return oldestDays(gateway.database) < GONE_DAYS;
    }, 3600));
    const seconds = (performance.now() - from) / 1000;
    const after = olderThan(gateway.database, seconds / 86_400);
    console.log(`  while ${before - after} old rows went, ${tenth(seconds)} s: ${expiring.text}`);
    await gateway.stop();
}

console.log(`\n${machine()}, ${NAME}, medians of ${ROUNDS} rounds of ${SECONDS} s`);
if (FILL > 0) {
    await measureMany();
} else {
    await compareRows('Hi', SECONDS * 2, 'without bodies');
    await compareRows('x'.repeat(64 << 10), SECONDS / 5, 'with request and answer of 64 KiB',
                      { gateway_logs: { bodies: 'all', queue: '256MiB' } });
}
process.exit(0);
