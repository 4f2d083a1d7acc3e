// Other clients' latency while slowhttptest holds thousands of connections: slow headers, slow bodies,
// slow reading, ranges. See `make bench-slow`.
import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';

import { demo, PROJECT_ID, startGateway, until } from '../e2e/harness.mjs';
import { load, machine, median, ratio, ROUNDS, SECONDS, whole } from './common.mjs';

const CROWD = Number(process.env.CROWD || 4000);
const PEERS = fileURLToPath(new URL('../e2e/peers', import.meta.url));
const LIBRARIES = ['x86_64-linux-gnu', 'aarch64-linux-gnu'].map((name) => path.join(PEERS, 'usr/lib', name)).join(':');
const MODES = { 'slow headers': ['-H'], 'slow bodies': ['-B'], 'slow reading': ['-X', '-n', '5', '-k', '3'], 'ranges': ['-R'] };

/** Keeps slow connections until `stop` is called. */
function crowd(url, mode) {
    const child = spawn(path.join(PEERS, 'usr/bin/slowhttptest'),
                        [...MODES[mode], '-c', String(CROWD), '-r', '1000', '-i', '3', '-l', '600', '-u', url, '-v', '0'],
                        { env: { ...process.env, LD_LIBRARY_PATH: LIBRARIES }, stdio: 'ignore' });
    const ended = new Promise((resolve) => child.on('exit', resolve));
    return () => {
        child.kill('SIGKILL');
        return ended;
    };
}

async function connections(gateway, tries = 16) {
    const seen = new Map(); // one answer is of one worker
    for (let i = 0; i < tries; i++) {
        const state = await (await fetch(`${gateway.base}/healthz?verbose`, { headers: { connection: 'close' } })).json();
        seen.set(state.worker, state.connections);
    }
    return [...seen.values()].reduce((sum, count) => sum + count, 0);
}

const gateway = await startGateway({ workers: 2, projects: demo({ hello: { provider: 'echo', model: 'echo' } }) });
const system = { name: 'promptgate', port: gateway.port, path: `/api/${PROJECT_ID}/hello`,
                 headers: ['-H', `Authorization: Bearer ${gateway.token}`] };
const { rps } = await load(system, '{"message":"Hi"}', 20_000, 8);

async function p99() {
    const found = [];
    for (let round = 0; round < ROUNDS; round++) {
        found.push((await load(system, '{"message":"Hi"}', Math.ceil(rps * SECONDS), 8)).p99_us);
    }
    return median(found);
}

console.log(`${machine()}: p99 of 8 clients beside ${CROWD} slow connections, medians of ${ROUNDS}`);
for (const mode of Object.keys(MODES)) {
    const alone = await p99();
    const stop = crowd(gateway.base + system.path, mode);
    let most = 0;
    // Those that are answered or cut at once never reach the number: then it is what comes at most.
    await until('the crowd', async () => {
        most = Math.max(most, await connections(gateway));
        return most > CROWD * 0.9;
    }, 12).catch(() => {});
    const beside = await p99();
    await stop();
    console.log(`  ${mode}: ${whole(alone)} us alone, ${whole(beside)} us beside them (${most} open at once): ${ratio(beside, alone)}`);
    await sleep(2000);
}
await gateway.stop();
process.exit(0);
