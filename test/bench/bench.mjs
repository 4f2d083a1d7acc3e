// The gateway beside nginx, both in front of the same upstream, in turns; then how fast rows are
// logged. Prints one table (see `make bench`).
//
//   ROUNDS=5 SECONDS=1.5 node test/bench/bench.mjs
//
// CPU per request is what /proc/PID/stat says that the processes took, divided by the requests, in
// microseconds; for the gateway until the last row is in the store.
import { execFile, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';

import { readCounters } from '../e2e/audit.mjs';
import { demo, LOAD, PROJECT_ID, PROMPTGATE, startGateway, temporaryDirectory,
         until } from '../e2e/harness.mjs';
import { children } from '../e2e/proc.mjs';

const ROUNDS = Number(process.env.ROUNDS || 5);
const SECONDS = Number(process.env.SECONDS || 1.5);
const CONNECTIONS = (process.env.CONNECTIONS || '1 8 32 64').split(' ').map(Number);
const NGINX = process.env.NGINX ?? '/usr/sbin/nginx';
const MOCK = process.env.MOCK ?? path.join(path.dirname(PROMPTGATE), 'bench-mock');
const TICK_US = 1e6 / Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

const started = [];
process.on('exit', () => started.forEach((child) => child.kill('SIGKILL')));

function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)];
}

/** User and system time of a process in microseconds. */
function cpuOf(pid) {
    const text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) * TICK_US;
}

const cpu = (pids) => pids.reduce((sum, pid) => sum + cpuOf(pid), 0);

// ---- the systems

async function startMock() {
    const child = spawn(MOCK, ['0'], { stdio: ['ignore', 'pipe', 'inherit'] });
    started.push(child);
    const port = await new Promise((resolve) => child.stdout.once('data', resolve));
    return { name: 'upstream alone', port: Number(port), path: '/v1/chat/completions', headers: [],
             workers: () => [child.pid], all: () => [child.pid] };
}

/** Debian's nginx as its package's configuration has it, but for one worker, kept connections to
 * the upstream, and an access log that is written in blocks. */
async function startNginx(upstreamPort) {
    const folder = temporaryDirectory();
    const file = path.join(folder, 'nginx.conf');
    const port = await freePort();
    const places = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) =>
        `    ${name}_temp_path ${folder}/${name};`).join('\n');
    fs.writeFileSync(file, `
daemon off;
worker_processes 1;
pid ${folder}/pid;
error_log ${folder}/error.log warn;
events { worker_connections 4096; }
http {
${places}
    access_log ${folder}/access.log combined buffer=64k flush=1s;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_buffer_size 64k;
    upstream mock { server 127.0.0.1:${upstreamPort}; keepalive 128; keepalive_requests 1000000000; }
    server {
        listen 127.0.0.1:${port} backlog=4096;
        location / {
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
    }
}
`);
    const { NGINX: _, ...env } = process.env; // it would take that for sockets
    const child = spawn(NGINX, ['-c', file, '-p', folder, '-e', `${folder}/error.log`],
                        { env, stdio: ['ignore', 'inherit', 'inherit'] });
    started.push(child);
    await until('nginx', () => children(child.pid).length === 1);
    const workers = children(child.pid).map(({ pid }) => pid);
    return { name: 'nginx', port, path: '/v1/chat/completions', headers: [],
             workers: () => workers, all: () => [child.pid, ...workers], stop: () => child.kill() };
}

/** One that was free a moment ago: nginx can't be asked which it took. */
async function freePort() {
    const server = net.createServer();
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address();
    await new Promise((resolve) => server.close(resolve));
    return port;
}

const countersOf = (gateway) => readCounters(path.join(gateway.directory, 'run/counters'));

async function startPromptgate(upstreamPort, service = {}) {
    const gateway = await startGateway({
        workers: 1,
        service,
        credentials: { mock: { provider: 'openai', api_key: 'sk-bench-0123456789abcdef',
                               base_url: `http://127.0.0.1:${upstreamPort}/v1` } },
        projects: demo({
            bench: { provider: 'openai', credential: 'mock', model: 'bench-1' },
            echo: { provider: 'echo', model: 'echo' },
        }),
    });
    const workers = gateway.workers().map(({ pid }) => pid);
    const all = [gateway.pid, ...gateway.children().map(({ pid }) => pid)];
    return {
        name: 'promptgate', gateway, port: gateway.port, path: `/api/${PROJECT_ID}/bench`,
        headers: ['-H', `Authorization: Bearer ${gateway.token}`],
        workers: () => workers, all: () => all,
        // Every row is in the store.
        settled: () => until('all rows', () => {
            const { slots, logged_rows: logged } = countersOf(gateway);
            return slots.reduce((sum, slot) => sum + slot.requests, 0) === logged;
        }, 120),
        stop: () => gateway.stop(),
    };
}

// ---- measuring

/** A conversation whose JSON is `bytes` long: messages of at most 400 characters. */
function conversation(bytes) {
    const messages = [{ role: 'system', content: 'You summarise support tickets.' }];
    const text = () => JSON.stringify({ model: 'bench-1', messages });
    for (;;) {
        const message = { role: messages.length % 2 ? 'user' : 'assistant', content: '' };
        messages.push(message);
        message.content = 'The printer is on fire. '.repeat(20)
            .slice(0, Math.min(400, bytes - text().length));
        if (bytes - text().length < 60) {
            message.content += '.'.repeat(bytes - text().length);
            return text();
        }
    }
}

function load(system, body, requests, connections) {
    return new Promise((resolve, reject) => {
        execFile(LOAD, ['-n', String(requests), '-c', String(connections), ...system.headers,
                        '-H', 'Content-Type: application/json', '-d', body, '127.0.0.1',
                        String(system.port), system.path], (error, stdout, stderr) => {
            const report = error ? null : JSON.parse(stdout);
            if (!report || report.ok !== requests) {
                reject(new Error(`${system.name}: ${stdout} ${stderr}`));
            } else {
                resolve(report);
            }
        });
    });
}

async function measure(system, body, connections) {
    await system.settled?.();
    const [workers, all] = [cpu(system.workers()), cpu(system.all())];
    const { requests, rps, p50_us: p50 } = await load(system, body, system.requests, connections);
    await system.settled?.();
    return { rps, p50, workers: (cpu(system.workers()) - workers) / requests,
             all: (cpu(system.all()) - all) / requests };
}

/** Medians of ROUNDS, the systems in turns. */
async function compare(systems, body, connections) {
    const results = new Map(systems.map((system) => [system, []]));
    for (const system of systems) {
        const { rps } = await load(system, body, 2000, connections);
        system.requests = Math.ceil(rps * SECONDS);
    }
    for (let round = 0; round < ROUNDS; round++) {
        for (const system of systems) {
            results.get(system).push(await measure(system, body, connections));
        }
    }
    return systems.map((system) => Object.fromEntries(['rps', 'p50', 'workers', 'all'].map((what) =>
        [what, median(results.get(system).map((one) => one[what]))])));
}

// ---- rows

const sizeOf = (file) => (fs.existsSync(file) ? fs.statSync(file).size : 0);

/** Rows a second from requests with this message to the built-in provider; then with the store
 * locked meanwhile, so that afterwards the logger alone is measured. */
async function rows(system, message, seconds) {
    const { gateway } = system;
    const echo = { ...system, path: `/api/${PROJECT_ID}/echo` };
    const body = JSON.stringify({ message });
    const { rps } = await load(echo, body, Math.ceil(seconds * 1000), 32);
    const count = Math.ceil(rps * seconds);
    const live = [];
    const drained = [];
    for (let round = 0; round < ROUNDS; round++) {
        await system.settled();
        const began = performance.now();
        await load(echo, body, count, 32);
        await system.settled();
        live.push(count / (performance.now() - began) * 1000);
        drained.push(await drain(gateway, () => load(echo, body, count, 32)));
    }
    const store = new DatabaseSync(gateway.database);
    store.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    const total = store.prepare('SELECT count(*) AS n FROM gateway_logs').get().n;
    store.close();
    const rowBytes = sizeOf(gateway.database) / total;
    return { live: median(live), drained: median(drained), rowBytes };
}

/** The rate from the first commit after the lock to the last. */
async function drain(gateway, send) {
    const store = new DatabaseSync(gateway.database, { timeout: 10_000 });
    store.exec('BEGIN IMMEDIATE');
    await send();
    store.exec('ROLLBACK');
    store.close();
    const logged = () => countersOf(gateway).logged_rows;
    const wanted = countersOf(gateway).slots.reduce((sum, slot) => sum + slot.requests, 0);
    const from = logged();
    await until('the first row after the lock', () => logged() > from, 30);
    const first = logged();
    const began = performance.now();
    while (logged() < wanted) {
        await sleep(10);
    }
    return (wanted - first) / (performance.now() - began) * 1000;
}

// ---- the report

function nginxVersion() {
    return new Promise((resolve) => {
        execFile(NGINX, ['-v'], (error, stdout, stderr) => resolve((stdout + stderr).trim()));
    });
}

const whole = (value) => String(Math.round(value));
const tenth = (value) => value.toFixed(1);
const ratio = (a, b) => (a / b).toFixed(2);

function print(table) {
    const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)));
    const line = (row) => `| ${row.map((cell, i) => cell.padEnd(widths[i])).join(' | ')} |`;
    const [head, ...rest] = table;
    console.log([line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`,
                 ...rest.map(line)].join('\n'));
}

async function main() {
    const mock = await startMock();
    const nginx = await startNginx(mock.port);
    const promptgate = await startPromptgate(mock.port);
    const [{ model }] = os.cpus();
    console.log(`${new Date().toISOString().slice(0, 10)}, ${os.cpus().length} x ${model}, ` +
                `${Math.round(os.totalmem() / 2 ** 30)} GiB, Linux ${os.release()}, ` +
                `${await nginxVersion()}`);
    console.log(`make bench ROUNDS=${ROUNDS} SECONDS=${SECONDS}: medians of ${ROUNDS} rounds of ` +
                `${SECONDS} s, in turns; one worker each.
Load generator, proxy and upstream share the processors: compare within a line, not with other machines.

  body, conn.   JSON of the request; connections that the load generator keeps, a request on each
  upstream      the load generator straight to the mock: what this machine can do at most
  nginx         as a plain proxy: it reads no body, checks no token, keeps no row but a line of a log
  CPU us        processor time per request, user and system, in microseconds
  worker, all   the gateway's worker; with master and logger, until the row is in the store
  / nginx       the gateway's figure divided by nginx's: for CPU less is better, for req/s more
`);
    const table = [['body', 'conn.', 'req/s upstream', 'req/s nginx', 'req/s gateway', '/ nginx',
                    'p50 us nginx', 'p50 us gateway', 'CPU us nginx', 'CPU us worker', '/ nginx',
                    'CPU us all', '/ nginx']];
    for (const bytes of [300, 8192]) {
        for (const connections of CONNECTIONS) {
            const [alone, proxy, own] =
                await compare([mock, nginx, promptgate], conversation(bytes), connections);
            table.push([bytes === 300 ? '300 B' : '8 KiB', String(connections), whole(alone.rps),
                        whole(proxy.rps), whole(own.rps), ratio(own.rps, proxy.rps), whole(proxy.p50), whole(own.p50),
                        tenth(proxy.all), tenth(own.workers), ratio(own.workers, proxy.all),
                        tenth(own.all), ratio(own.all, proxy.all)]);
        }
    }
    print(table);
    nginx.stop();
    const printRows = ({ live, drained, rowBytes }, what) => {
        const rate = (perSecond) =>
            `${whole(perSecond)} rows/s, ${tenth(perSecond * rowBytes / 1e6)} MB/s`;
        console.log(`\nlogged, ${what} (${whole(rowBytes)} bytes a row in the store): ` +
                    `${rate(live)} while one worker serves the built-in provider; ` +
                    `${rate(drained)} out of a full spool`);
    };
    printRows(await rows(promptgate, 'Hi', SECONDS * 2), 'without bodies');
    await promptgate.stop();
    const withBodies = await startPromptgate(mock.port, { gateway_logs: { bodies: 'all' } });
    printRows(await rows(withBodies, 'x'.repeat(64 << 10), SECONDS / 5),
              'with request and answer of 64 KiB');
    await withBodies.stop();
}

await main();
process.exit(0);
