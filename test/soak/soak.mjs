// A gateway under mixed traffic while it is reloaded and upgraded, its store is locked, and workers,
// logger, master and all of them at once are killed; at the end everything must agree with everything.
//
//   MINUTES=2 SEED=n node test/soak/soak.mjs      (see `make soak`)
//
// The seed repeats every client's plan and every fault's; not the kernel's scheduling. Exits 1 on
// any disagreement; then what is needed to look into it is kept.
import { setTimeout as sleep } from 'node:timers/promises';

import { preferMemory } from './place.mjs';

const MINUTES = Number(process.env.MINUTES ?? 2);
const SEED = Number(process.env.SEED || Date.now() % 2 ** 31);

preferMemory();
const { PATIENCE } = await import('../e2e/harness.mjs');
const { ENDING_SECONDS, mebibytes, Run } = await import('./run.mjs');

const began = performance.now();
const diary = [];

function say(text) {
    const line = `${((performance.now() - began) / 1000).toFixed(1).padStart(7)} ${text}`;
    diary.push(line);
    if (process.env.VERBOSE) {
        console.log(line);
    }
}

const run = new Run({
    seed: SEED, say,
    act: async ({ chaos }) => {
        chaos.start();
        await sleep(MINUTES * 60_000);
        await chaos.stop();
    },
});

/** No run hangs: its time is known. */
const seconds = MINUTES * 60 + (ENDING_SECONDS + 10) * PATIENCE;
setTimeout(() => {
    console.error(`soak: not done after ${seconds} s; see ${run.keep(['not done in time'], diary)}`);
    process.exit(1);
}, seconds * 1000).unref();

function report({ audit, chaos, upstream, samples, seconds: lasted }) {
    const { outcomes, counted, ...numbers } = audit.counts;
    const list = (object) => Object.entries(object).map(([name, value]) => `${name} ${value}`).join(', ');
    console.log(`traffic    ${lasted.toFixed(0)} s, ` +
                `${(numbers.requests / lasted).toFixed(0)} requests/s: ${list(numbers)}`);
    console.log(`outcomes   ${list(outcomes)}`);
    console.log(`counters   ${list(counted)}; upstream calls ${upstream.calls}`);
    console.log(`faults     ${list(chaos.counts)}; killed: ${list(chaos.killed)}`);
    for (const [role, { resident, descriptors }] of Object.entries(samples.thirds())) {
        console.log(`${role.padEnd(10)} resident ${resident.map(mebibytes).join(' -> ')}, descriptors ` +
                    `${descriptors.map((value) => value.toFixed(1)).join(' -> ')}`);
    }
}

console.log(`soak: ${MINUTES} minutes, SEED=${SEED}`);
let findings;
try {
    findings = await run.go();
    report(run);
} catch (error) {
    findings = [error.stack];
}
if (findings.length > 0) {
    console.error(`soak: ${findings.length} disagreements, SEED=${SEED}`);
    findings.forEach((finding) => console.error(`  ${finding}`));
    console.error(`soak: kept in ${run.keep(findings, diary)}`);
    process.exit(1);
}
console.log('soak: everything agrees');
process.exit(0);
