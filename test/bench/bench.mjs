// The gateway beside nginx, both in front of the same upstream, in turns. Prints one table (see
// `make bench`).
//
//   ROUNDS=5 SECONDS=1.5 node test/bench/bench.mjs
//
// CPU per request is what /proc/PID/stat says that the processes took, divided by the requests, in
// microseconds; for the gateway until the last row is in the store.
import { spawn } from 'node:child_process';
import path from 'node:path';

import { PROMPTGATE } from '../e2e/harness.mjs';
import { cpu, load, machine, median, print, ratio, ROUNDS, SECONDS, startPromptgate, tenth,
         whole } from './common.mjs';
import { nginxVersion, startNginx } from './nginx.mjs';

const CONNECTIONS = (process.env.CONNECTIONS || '1 8 32 64').split(' ').map(Number);
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
