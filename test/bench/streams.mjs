// Streams through the gateway beside nginx with its buffering off, in turns, and many at once. The
// upstream stamps its chunks; the client says how old they are. Prints two tables (see
// `make bench-streams`).
import { execFile, spawn } from 'node:child_process';
import path from 'node:path';

import { PROMPTGATE } from '../e2e/harness.mjs';
import { cpu, machine, median, memoryOf, print, ratio, ROUNDS, startPromptgate, tenth, whole } from './common.mjs';
import { nginxVersion, startNginx } from './nginx.mjs';

const TOOL = process.env.STREAMS_TOOL ?? path.join(path.dirname(PROMPTGATE), 'bench-streams');
const MANY = Number(process.env.STREAMS || 2000);
const BODY = JSON.stringify({ messages: [{ role: 'user', content: 'Count.' }], stream: true });

const started = [];
process.on('exit', () => started.forEach((child) => child.kill('SIGKILL')));

async function startUpstream(chunks, interval) {
    const child = spawn(TOOL, ['serve', String(chunks), String(interval)], { stdio: ['ignore', 'pipe', 'inherit'] });
    started.push(child);
    const port = await new Promise((resolve) => child.stdout.once('data', resolve));
    return { name: 'upstream alone', port: Number(port), path: '/v1/chat/completions', headers: [], workers: () => [child.pid] };
}

/** All must be complete; `during` is called when they have been open for a second. */
function read(system, streams, during = () => {}) {
    return new Promise((resolve, reject) => {
        const headers = system.headers.filter((word) => word !== '-H');
        setTimeout(during, 1500);
        execFile(TOOL, ['read', String(system.port), system.path, String(streams), BODY, ...headers], (error, stdout, stderr) => {
            const report = error ? null : JSON.parse(stdout);
            if (report?.complete !== streams) {
                reject(new Error(`${system.name}: ${stdout} ${stderr} ${error ?? ''}`));
            } else {
                resolve(report);
            }
        });
    });
}

async function measure(system, streams) {
    const before = cpu(system.workers());
    const report = await read(system, streams);
    return { ...report, cpu: (cpu(system.workers()) - before) / report.chunks };
}

async function gaps() {
    const upstream = await startUpstream(40, 50);
    const systems = [upstream, await startNginx(upstream.port, { streams: true }), await startPromptgate(upstream.port)];
    const table = [['streams', 'age us upstream', 'nginx', 'gateway', 'added nginx', 'added gateway', '/ nginx', 'p99 nginx', 'p99 gateway',
                    'CPU us/chunk nginx', 'worker', '/ nginx']];
    for (const streams of [1, 20, 100]) {
        const results = systems.map(() => []);
        for (const system of systems) {
            await read(system, streams);
        }
        for (let round = 0; round < ROUNDS; round++) {
            for (const [i, system] of systems.entries()) {
                results[i].push(await measure(system, streams));
            }
        }
        const of = (i, what) => median(results[i].map((one) => one[what]));
        const added = [1, 2].map((i) => median(results[i].map((one, round) => one.p50_us - results[0][round].p50_us)));
        table.push([String(streams), ...[0, 1, 2].map((i) => whole(of(i, 'p50_us'))), ...added.map(whole), ratio(added[1], added[0]),
                    whole(of(1, 'p99_us')), whole(of(2, 'p99_us')), tenth(of(1, 'cpu')), tenth(of(2, 'cpu')), ratio(of(2, 'cpu'), of(1, 'cpu'))]);
    }
    print(table);
    systems[1].stop();
    await systems[2].stop();
}

/** Many streams at once on two workers, a chunk a second each. */
async function many() {
    const upstream = await startUpstream(15, 1000);
    const table = [['open at once', 'complete', 'chunks', 'age us p50', 'p99', 'KiB per stream']];
    for (const start of [() => startNginx(upstream.port, { workers: 2, streams: true }), () => startPromptgate(upstream.port, {}, 2)]) {
        const system = await start();
        const memory = () => system.workers().reduce((sum, pid) => sum + memoryOf(pid), 0);
        await read(system, 20);
        const before = memory();
        let open;
        const { complete, chunks, p50_us: p50, p99_us: p99 } = await read(system, MANY, () => {
            open = memory();
        });
        table.push([`${MANY}, ${system.name}`, String(complete), String(chunks), whole(p50), whole(p99), tenth((open - before) / MANY / 1024)]);
        await system.stop();
    }
    print(table);
}

console.log(`${machine()}, ${await nginxVersion()}
make bench-streams ROUNDS=${ROUNDS} STREAMS=${MANY}: medians of ${ROUNDS} rounds, in turns; one worker each.
Client, proxy and upstream share the processors: compare within a line.

  age us        how old a chunk is when it arrives: straight from the upstream, through nginx, through the gateway
  added         what the proxy adds to it; / nginx the gateway's share of nginx's
  CPU us/chunk  of nginx and of the gateway's worker
`);
await gaps();
console.log();
await many();
process.exit(0);
