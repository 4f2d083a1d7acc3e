// The gateway beside nginx, both in front of the same upstream, in turns. Prints one table (see
// `make bench`).
//
//   ROUNDS=5 SECONDS=1.5 node test/bench/bench.mjs
//
// CPU per request is what /proc/PID/stat says that the processes took, divided by the requests, in
// microseconds; for the gateway until the last row is in the store.
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';

import { PROMPTGATE, temporaryDirectory, until } from '../e2e/harness.mjs';
import { children } from '../e2e/proc.mjs';
import { cpu, load, machine, median, print, ratio, ROUNDS, SECONDS, startPromptgate, tenth,
         whole } from './common.mjs';

const CONNECTIONS = (process.env.CONNECTIONS || '1 8 32 64').split(' ').map(Number);
const NGINX = process.env.NGINX ?? '/usr/sbin/nginx';
const MOCK = process.env.MOCK ?? path.join(path.dirname(PROMPTGATE), 'bench-mock');

const started = [];
process.on('exit', () => started.forEach((child) => child.kill('SIGKILL')));

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

// ---- the report

function nginxVersion() {
    return new Promise((resolve) => {
        execFile(NGINX, ['-v'], (error, stdout, stderr) => resolve((stdout + stderr).trim()));
    });
}

/** A token that nobody knows, beside a request that is served, each on 32 connections. */
async function printRefusals(promptgate) {
    const stranger = { ...promptgate, status: 401,
                       headers: ['-H', `Authorization: Bearer pg_live_${'x'.repeat(43)}`] };
    const [served, refused] = await compare([promptgate, stranger], conversation(300), 32);
    console.log(`\na refused token, beside a request that is served: ${whole(refused.rps)} and ` +
                `${whole(served.rps)} a second, CPU of the worker ${tenth(refused.workers)} us beside ` +
                `${tenth(served.workers)}: ${ratio(refused.workers, served.workers)}`);
}

async function main() {
    const mock = await startMock();
    const nginx = await startNginx(mock.port);
    const promptgate = await startPromptgate(mock.port);
    console.log(`${machine()}, ${await nginxVersion()}`);
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
    await printRefusals(promptgate);
    await promptgate.stop();
}

await main();
process.exit(0);
