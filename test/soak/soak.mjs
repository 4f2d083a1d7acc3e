// A gateway under mixed traffic while it is reloaded, its store is locked, and workers, logger, master
// and all of them at once are killed; at the end everything must agree with everything.
//
//   MINUTES=2 SEED=n node test/soak/soak.mjs      (see `make soak`)
//
// The seed repeats every client's plan and every fault's; not the kernel's scheduling. Exits 1 on
// any disagreement; then what is needed to look into it is kept.
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { Audit, readCounters, readSums, RowReader } from '../e2e/audit.mjs';
import { openStore } from '../e2e/database.mjs';
import { demo, PATIENCE, PROMPTGATE, SANITIZE, startGateway, until } from '../e2e/harness.mjs';
import { KEY } from '../e2e/mock.mjs';
import { Chaos, MOST_WORKERS } from './chaos.mjs';
import { Random } from './random.mjs';
import { mappers, measure, Samples } from './samples.mjs';
import { ENDPOINTS, Traffic } from './traffic.mjs';
import { Upstream } from './upstream.mjs';

const MINUTES = Number(process.env.MINUTES ?? 2);
const SEED = Number(process.env.SEED || Date.now() % 2 ** 31);
const SHUTDOWN_SECONDS = 6;
const ENDING_SECONDS = 90; // after the last request: rows, drain, audit

/* The processes' heartbeats are in shared memory, which a service has in a tmpfs; and where others
 * keep the disk busy for seconds, everything here would wait for it. */
if (!process.env.TMPDIR && roomIn('/dev/shm') > 2 ** 30) {
    process.env.TMPDIR = '/dev/shm';
}

const began = performance.now();
const diary = [];

function roomIn(folder) {
    try {
        const { bavail, bsize } = fs.statfsSync(folder);
        return bavail * bsize;
    } catch {
        return 0;
    }
}

function say(text) {
    const line = `${((performance.now() - began) / 1000).toFixed(1).padStart(7)} ${text}`;
    diary.push(line);
    if (process.env.VERBOSE) {
        console.log(line);
    }
}

/** Reads new rows now and then, for as long as the gateway lives. */
class Follower {
    constructor(gateway, audit) {
        this.audit = audit;
        this.store = openStore(gateway.database, { readOnly: true });
        this.reader = new RowReader(this.store);
        this.timer = setInterval(() => this.read(), 300);
    }

    read() {
        for (let rows = this.reader.more(); rows.length > 0; rows = this.reader.more()) {
            rows.forEach((row) => this.audit.row(row));
        }
    }

    stop() {
        clearInterval(this.timer);
        this.read();
        this.store.close();
    }
}

const mebibytes = (bytes) => `${(bytes / (1 << 20)).toFixed(1)} MiB`;

/** Growth from the first third to the last that is more than noise. All are replaced now and then;
 * workers hold bodies of megabytes, so their mean swings, and a logger's store has a cache of two
 * that fills with its age. */
function growth(thirds) {
    const allowed = { master: 0.1, logger: 0.25, worker: 0.5, keeper: 0.5 };
    const least = { master: 2 << 20, logger: 4 << 20, worker: 2 << 20, keeper: 4 << 20 };
    const found = [];
    for (const [role, { resident, descriptors }] of Object.entries(thirds)) {
        const memory = resident[1] - resident[0];
        if (!SANITIZE && memory > Math.max(resident[0] * allowed[role], least[role])) {
            found.push(`memory of ${role}: ${resident.map(mebibytes).join(' -> ')}`);
        }
        if (descriptors[1] - descriptors[0] > Math.max(4, descriptors[0] * 0.25)) {
            found.push(`descriptors of ${role}: ${descriptors.join(' -> ')}`);
        }
    }
    return found;
}

/** "pipe 3, socket 12". */
function tally(kinds) {
    const counted = Object.entries(Object.groupBy(kinds, (kind) => kind));
    return counted.map(([kind, all]) => `${kind} ${all.length}`).join(', ');
}

/** At rest after everything, each role holds no more than before: but for the segments that the
 * logger still appends to, at most one for each slot; the workers' connections to the upstream,
 * which are counted at its end; and, in a worker that a reload made, that reload's report. */
function leftOpen(before, after, { upstreamConnections, slots }) {
    const extra = { 'segment': slots, 'socket': upstreamConnections,
                    '/memfd:report (deleted)': MOST_WORKERS };
    const found = [];
    for (const role of ['master', 'logger', 'worker']) {
        const [then, now] = [before, after].map((members) =>
            members.filter((one) => one.role === role).flatMap((one) => one.descriptors));
        const count = (kinds, kind) => kinds.filter((one) => one === kind).length;
        const grown = [...new Set(now)].some((kind) =>
            count(now, kind) - count(then, kind) > (extra[kind] ?? 0));
        if (grown) {
            found.push(`descriptors of ${role} at rest: before ${tally(then)}; after ${tally(now)}`);
        }
    }
    return found;
}

/** The part of the counters file's path that no other gateway's has. */
const countersOf = (gateway) => path.join(gateway.directory, 'run/counters');

async function strays(gateway) {
    await sleep(100);
    return mappers(countersOf(gateway)).map((pid) => `a process is left: pid ${pid}`);
}

function rejected(gateway) {
    const folder = path.join(gateway.directory, 'state/rejected');
    return fs.existsSync(folder) ? fs.readdirSync(folder).map((name) => `a rejected row: ${name}`) : [];
}

/** Everything that helps to understand a failed run. */
function keep(findings) {
    const folder = path.join(path.dirname(PROMPTGATE), `soak-failed-${SEED}`);
    fs.rmSync(folder, { recursive: true, force: true });
    fs.mkdirSync(folder, { recursive: true });
    fs.writeFileSync(path.join(folder, 'diary.txt'), `${diary.join('\n')}\n`);
    fs.writeFileSync(path.join(folder, 'findings.txt'), `${findings.join('\n')}\n`);
    if (gateway) {
        fs.writeFileSync(path.join(folder, 'stderr.txt'), chaos?.stderr ?? gateway.stderr);
        fs.cpSync(gateway.directory, path.join(folder, 'gateway'), { recursive: true,
                  filter: (name) => !fs.lstatSync(name).isSocket() });
    }
    return folder;
}

/** No run hangs: its time is known. */
const seconds = MINUTES * 60 + (SHUTDOWN_SECONDS + ENDING_SECONDS) * PATIENCE;
let gateway;
let chaos;
setTimeout(() => {
    console.error(`soak: not done after ${seconds} s; see ${keep(['not done in time'])}`);
    process.exit(1);
}, seconds * 1000).unref();

async function soak() {
    const random = new Random(SEED);
    const audit = new Audit();
    const upstream = await new Upstream((marker) => audit.call(marker)).start();
    gateway = await startGateway({
        workers: MOST_WORKERS,
        service: { shutdown_timeout: `${SHUTDOWN_SECONDS}s`, upstream: { max_response: '8MiB' } },
        credentials: { mock: { provider: 'openai', base_url: upstream.baseUrl, api_key: KEY },
                       spare: { provider: 'openai', base_url: upstream.baseUrl, api_key: KEY } },
        projects: demo(ENDPOINTS),
        files: { 'models.yaml': [{ provider: 'openai', model: '', limits: { output: 1000 },
                                   price: { input: 0.15, output: 0.6, cached_input: 0.075 } }] },
    });
    const atRest = measure(gateway);
    const follower = new Follower(gateway, audit);
    const traffic = new Traffic({ gateway, audit, random: random.fork() });
    chaos = new Chaos({ gateway, audit, random: random.fork(), say });
    const samples = new Samples();
    const sampler = setInterval(() => samples.take(gateway), 500);

    const clients = traffic.start();
    chaos.start();
    say(`${clients} clients, ${MINUTES} minutes, seed ${SEED}`);
    await sleep(MINUTES * 60_000);
    await chaos.stop();
    clearInterval(sampler);
    await traffic.stop();
    const trafficSeconds = (performance.now() - began) / 1000;
    say('no more requests');
    await chaos.settle();
    await until(`rows of the last ${audit.awaited()} answers`, () => audit.awaited() === 0, 10)
        .catch(() => {}); // the audit names them
    await sleep(1500); // the logger gives up a segment that is done with
    const left = leftOpen(atRest, measure(gateway), {
        upstreamConnections: upstream.connections,
        slots: readCounters(countersOf(gateway)).slots.length,
    });
    await gateway.stop();
    follower.stop();
    await upstream.stop();

    const thirds = samples.thirds();
    const findings = [
        ...audit.finish({ counters: readCounters(countersOf(gateway)),
                          sums: readSums(gateway.database), killed: chaos.killed }),
        ...traffic.wrong, ...chaos.problems, ...chaos.strangeDeaths(), ...growth(thirds), ...left,
        ...await strays(gateway), ...rejected(gateway),
    ];
    report({ audit, chaos, upstream, thirds, trafficSeconds });
    return findings;
}

function report({ audit, chaos, upstream, thirds, trafficSeconds }) {
    const { counts } = audit;
    const { outcomes, counted, ...numbers } = counts;
    const list = (object) => Object.entries(object).map(([name, value]) => `${name} ${value}`).join(', ');
    console.log(`traffic    ${trafficSeconds.toFixed(0)} s, ` +
                `${(counts.requests / trafficSeconds).toFixed(0)} requests/s: ${list(numbers)}`);
    console.log(`outcomes   ${list(outcomes)}`);
    console.log(`counters   ${list(counted)}; upstream calls ${upstream.calls}`);
    console.log(`faults     ${list(chaos.counts)}; killed: ${list(chaos.killed)}`);
    for (const [role, { resident, descriptors }] of Object.entries(thirds)) {
        console.log(`${role.padEnd(10)} resident ${resident.map(mebibytes).join(' -> ')}, descriptors ` +
                    `${descriptors.map((value) => value.toFixed(1)).join(' -> ')}`);
    }
}

console.log(`soak: ${MINUTES} minutes, SEED=${SEED}`);
let findings;
try {
    findings = await soak();
} catch (error) {
    findings = [error.stack];
}
if (findings.length > 0) {
    console.error(`soak: ${findings.length} disagreements, SEED=${SEED}`);
    findings.forEach((finding) => console.error(`  ${finding}`));
    console.error(`soak: kept in ${keep(findings)}`);
    process.exit(1);
}
console.log('soak: everything agrees');
process.exit(0);
