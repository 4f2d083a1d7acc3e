// Every fault of faults.mjs while a gateway serves mixed traffic, and what came of it: clients, the
// upstream, rows, sums, counters and sessions are held against each other as in a soak run.
//
//   node test/drill/drill.mjs            all rows; the table goes into the manual (see `make drill`)
//   FAULTS=a,b node test/drill/drill.mjs   only these; the table goes to standard output
//
// A row is a process of its own: `drill.mjs NAME`, which prints its figures as JSON.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';

import { preferMemory } from '../soak/place.mjs';

const SELF = fileURLToPath(import.meta.url);
const MANUAL = fileURLToPath(new URL('../../man/promptgate-operations.7', import.meta.url));

// ---- one row

/** Kinds of disagreement that mean a failed request, and a lost row. */
const FAILED = ['unexpected answer', 'a connection broke', "another request's answer"];
const LOST = ['an answer without a row', 'a call without a row', 'a request without a row', 'a row twice'];

async function runOne(name) {
    preferMemory();
    const { FAULTS, unmountAll } = await import('./faults.mjs');
    const { Run } = await import('../soak/run.mjs');
    const fault = FAULTS[name];
    const options = typeof fault.options === 'function' ? fault.options() : fault.options ?? {};
    const diary = [];
    const run = new Run({ seed: Number(process.env.SEED ?? 1), act: fault.act, say: (text) => diary.push(text), ...options });
    const findings = await run.go().catch((error) => [error.stack]);
    const { counts, kinds, moneyOff } = run.audit;
    const sum = (names) => names.reduce((total, kind) => total + (kinds[kind] ?? 0), 0);
    const figures = { seconds: Math.round(run.seconds), requests: counts.requests, rows: counts.rows,
                      failed: sum(FAILED), lost: sum(LOST), off: moneyOff, killed: run.chaos?.killed,
                      overloaded: counts.outcomes.overloaded ?? 0, findings: findings.slice(0, 20) };
    if (findings.length > 0) {
        figures.kept = run.keep(findings, diary);
    }
    unmountAll();
    fs.writeSync(1, `${JSON.stringify(figures)}\n`);
    process.exit(findings.length > 0 ? 1 : 0);
}

// ---- all of them

/** The figures of a row in a process of its own. */
function start(name, { store, namespace }) {
    const command = [process.execPath, ...process.execArgv, SELF, name];
    const [program, ...args] = namespace ? ['unshare', '--mount', '--propagation', 'private', ...command] : command;
    return new Promise((resolve, reject) => {
        const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'],
                                             env: { ...process.env, STORE: store === 'postgres' ? 'postgres' : '' } });
        const end = () => child.kill();
        process.once('exit', end);
        child.once('exit', () => process.off('exit', end));
        let text = '';
        child.stdout.setEncoding('utf8').on('data', (more) => {
            text += more;
        });
        child.once('error', reject);
        child.once('close', () => {
            try {
                resolve(JSON.parse(text.trim().split('\n').at(-1)));
            } catch {
                resolve({ findings: [`the run of ${name} said nothing: ${text.slice(-500)}`] });
            }
        });
    });
}

const STORES = { both: ['sqlite', 'postgres'] };

/** A line of the table in the manual's language. */
const line = ({ what, store, figures }) =>
    `.It ${what} Ta ${store} Ta ${figures.requests} Ta ${figures.failed} Ta ${figures.lost} Ta ${figures.off}`;

function writeTable(lines) {
    const text = fs.readFileSync(MANUAL, 'utf8');
    const [from, to] = ['.\\" drill: from here\n', '.\\" drill: to here\n'];
    const [before, rest] = text.split(from);
    const after = rest.split(to)[1];
    const day = new Date().toLocaleDateString('en-US', { month: 'long', day: 'numeric', year: 'numeric', timeZone: 'UTC' });
    fs.writeFileSync(MANUAL, `${before.replace(/^\.Dd .*$/m, `.Dd ${day}`)}${from}${lines.join('\n')}\n${to}${after}`);
}

async function runAll() {
    const { FAULTS } = await import('./faults.mjs');
    const only = process.env.FAULTS?.split(',');
    const stores = process.env.STORES?.split(',');
    const lines = [];
    let bad = 0;
    for (const [name, fault] of Object.entries(FAULTS)) {
        for (const store of STORES[fault.store] ?? [fault.store]) {
            if ((only && !only.includes(name)) || (stores && !stores.includes(store))) {
                continue;
            }
            const figures = await start(name, { ...fault, store });
            lines.push(line({ what: fault.what, store, figures }));
            console.log(`${name} (${store}): ${JSON.stringify({ ...figures, findings: figures.findings.length })}`);
            figures.findings.forEach((finding) => console.log(`    ${finding}`));
            bad += figures.findings.length > 0;
        }
    }
    if (only || stores || bad > 0) {
        console.log(lines.join('\n'));
    } else {
        writeTable(lines);
    }
    console.log(bad > 0 ? `drill: ${bad} rows disagree` : 'drill: everything agrees');
    process.exit(bad > 0 ? 1 : 0);
}

await (process.argv[2] ? runOne(process.argv[2]) : runAll());
