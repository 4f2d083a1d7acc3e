// A gateway under mixed traffic that nobody disturbs: each of its processes must hold in the end what
// it held when it had seen every kind of request.
//
//   MINUTES=60 SEED=n node test/soak/steady.mjs      (see `make soak-steady`)
//
// Resident memory and descriptors: the last quarter of the time within 2 % of the second. Which worker
// has how many of the connections is the kernel's choice, and memory follows that: so workers are held to
// it together, and each by its memory's median, which may be less, and by the descriptors that are
// no sockets. Allocations: after a rest before the first quarter, and after one behind the last, each
// process holds as many.
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { preferMemory } from './place.mjs';

const MINUTES = Number(process.env.MINUTES ?? 60);
const WARM_UP_SECONDS = Number(process.env.WARM_UP_SECONDS ?? 400); // SQLite's page caches fill
const SEED = Number(process.env.SEED || Date.now() % 2 ** 31);
const TTL_SECONDS = 60;
const MOST_OFF = 0.02;

preferMemory();
const { PROMPTGATE } = await import('../e2e/harness.mjs');
const { MOST_WORKERS } = await import('./chaos.mjs');
const { mebibytes, Run } = await import('./run.mjs');
const { allocations, measure, median } = await import('./samples.mjs');
const { ENDPOINTS } = await import('./traffic.mjs');

const say = process.env.VERBOSE ? (text) => console.log(text) : () => {};
let counts;

/** { pid: { title, role, resident: [samples of each quarter], sockets: […], others: […] } } */
const quarters = new Map();

function sample(gateway, quarter) {
    for (const { pid, title, role, resident, descriptors } of measure(gateway)) {
        const all = quarters.get(pid) ?? { title, role, resident: [[], [], [], []], sockets: [[], [], [], []], others: [[], [], [], []] };
        const sockets = descriptors.filter((kind) => kind === 'socket').length;
        all.resident[quarter].push(resident);
        all.sockets[quarter].push(sockets);
        all.others[quarter].push(descriptors.length - sockets);
        quarters.set(pid, all);
    }
}

const mean = (values) => values.reduce((sum, one) => sum + one, 0) / values.length;

/** Connections that ended while they were idle are noticed when another is wanted: each worker
 * makes one to each upstream. */
async function exercise({ traffic }) {
    for (let i = 0; i < 60; i++) {
        for (const slug of ['plain', 'flap', 'talk']) {
            await traffic.askOnce('exercise', slug, { expect: ['ok'], echoes: true, mostCalls: 3 });
        }
    }
}

/** What each process holds when nothing is in hand, no conversation goes on and no connection of
 * the last traffic is left. */
async function heldAtRest(run) {
    await run.quiet();
    for (const { server } of [run.upstream, run.flappy]) {
        server.closeIdleConnections();
    }
    await exercise(run);
    await run.quiet();
    await sleep((TTL_SECONDS + 5) * 1000);
    const held = allocations(counts);
    return new Map(measure(run.gateway).map(({ pid, title }) => [pid, { title, ...held.get(pid) }]));
}

const found = [];
let before, after;

async function act(run) {
    await sleep(WARM_UP_SECONDS * 1000);
    before = await heldAtRest(run);
    run.traffic.start();
    const began = performance.now();
    for (let spent = 0; spent < MINUTES * 60_000; spent = performance.now() - began) {
        sample(run.gateway, Math.min(3, Math.floor(4 * spent / (MINUTES * 60_000))));
        await sleep(500);
    }
    after = await heldAtRest(run);
}

/** One line; more than `most` or less than `least` of a change is a finding. */
function compare(what, values, { least = -MOST_OFF, most = MOST_OFF }) {
    const off = values[3] / values[1] - 1;
    const shown = values.map((value) => (value > 1e5 ? mebibytes(value) : value.toFixed(2))).join(' -> ');
    console.log(`${what}: ${shown} (${(100 * off).toFixed(2)} %)`);
    if (!(off >= least && off <= most)) {
        found.push(`${what}: ${shown}`);
    }
}

function compareQuarters() {
    for (const [pid, { title, resident, others }] of quarters) {
        compare(`${title} (${pid}): resident`, resident.map(median), { least: -1 });
        compare(`${title} (${pid}): descriptors that are no sockets`, others.map(mean), {});
    }
    for (const [role, members] of Object.entries(Object.groupBy(quarters.values(), (one) => one.role))) {
        const together = (name) => [0, 1, 2, 3].map((quarter) =>
            members.reduce((sum, one) => sum + mean(one[name][quarter]), 0));
        compare(`${role}: resident`, together('resident'), {});
        compare(`${role}: sockets`, together('sockets'), {});
    }
}

function compareHeld() {
    for (const [pid, { title, count, bytes }] of before) {
        const now = after.get(pid);
        const shown = `${count} -> ${now?.count} allocations, ${bytes} -> ${now?.bytes} bytes`;
        console.log(`${title} (${pid}): ${shown}`);
        if (!(count > 0) || now?.count !== count) {
            found.push(`${title}: ${shown}`);
        }
    }
    // A master, a logger, a keeper and the workers: nobody else came or went.
    for (const measured of [before, after, quarters]) {
        if (measured.size !== 3 + MOST_WORKERS) {
            found.push(`${measured.size} processes were measured: ${[...measured.values()].map(({ title }) => title).join(', ')}`);
        }
    }
}

const run = new Run({
    seed: SEED, say, act,
    endpoints: { talk: { ...ENDPOINTS.talk, session: { max_messages: 100, ttl: `${TTL_SECONDS}s` } } },
    options: {
        prepare: (gateway) => {
            counts = path.join(gateway.directory, 'allocations');
            fs.writeFileSync(counts, Buffer.alloc(24 * 1024));
            gateway.env = { ALLOC_COUNTS: counts, LD_PRELOAD: path.join(path.dirname(PROMPTGATE), 'alloc-counts.so') };
        },
    },
});

console.log(`steady soak: ${MINUTES} minutes, SEED=${SEED}`);
try {
    found.push(...await run.go());
    compareQuarters();
    compareHeld();
} catch (error) {
    found.push(error.stack);
}
if (found.length > 0) {
    console.error(`steady soak: ${found.length} disagreements, SEED=${SEED}`);
    found.forEach((finding) => console.error(`  ${finding}`));
    console.error(`steady soak: kept in ${run.keep(found, [])}`);
    process.exit(1);
}
console.log('steady soak: everything agrees');
process.exit(0);
