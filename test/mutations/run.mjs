// Each mistake of list.mjs in a copy of the sources, one after the other: fails when one of them
// turns no test red.
//
//   node run.mjs FOLDER      FOLDER is the copy, made here; what it has built is used again
//   ONLY=words               those whose name has them
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { MUTATIONS } from './list.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const copy = path.resolve(process.argv[2]);
const BUILD = 'build';
const wanted = MUTATIONS.filter(({ name }) => name.includes(process.env.ONLY ?? ''));

/** Files that are the same keep their time, so that make builds only what is another. */
function refresh() {
    fs.mkdirSync(copy, { recursive: true });
    const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], { cwd: root, encoding: 'utf8' });
    for (const name of files.trim().split('\n')) {
        const from = path.join(root, name);
        const to = path.join(copy, name);
        if (!fs.existsSync(from) || !fs.statSync(from).isFile()) {
            continue;
        }
        const bytes = fs.readFileSync(from);
        if (!fs.existsSync(to) || !bytes.equals(fs.readFileSync(to))) {
            fs.mkdirSync(path.dirname(to), { recursive: true });
            fs.writeFileSync(to, bytes, { mode: fs.statSync(from).mode });
        }
    }
}

function make(...targets) {
    const jobs = process.env.JOBS ?? '2';
    const made = spawnSync('make', ['-s', `-j${jobs}`, 'STEPS=1', 'warnings=-Wall', `BUILD=${BUILD}`, ...targets],
                           { cwd: copy, encoding: 'utf8', env: { ...process.env, MAKEFLAGS: '', MAKELEVEL: '' } });
    if (made.status !== 0) {
        throw new Error(`${targets.join(' ')} cannot be built:\n${made.stdout}${made.stderr}`.slice(0, 3000));
    }
}

const binary = (test) => path.join(BUILD, test.split(' ')[0]);

/** What the first test says that turns red; null when all stay green. */
function firstRed(tests) {
    for (const test of tests) {
        make(binary(test));
        const { status, signal, stdout } = spawnSync(path.join(copy, binary(test)), test.split(' ').slice(1),
                                                     { cwd: copy, encoding: 'utf8', timeout: 300_000, maxBuffer: 1 << 26 });
        if (status !== 0) {
            const [, why] = /^[^:[\n]+: ([^;\n]+)\n  INTERLEAVE/m.exec(stdout) ?? [];
            return `${path.basename(test)}: ${why ?? signal ?? 'red'}`;
        }
    }
    return null;
}

function replaceOnce(text, { from, to }, name) {
    const parts = text.split(from);
    if (parts.length !== 2) {
        throw new Error(`${name}: "${from}" stands ${parts.length - 1} times in its file`);
    }
    return parts.join(to);
}

// A list that no longer fits the code is found before an hour has gone by.
for (const mutation of wanted) {
    const text = replaceOnce(fs.readFileSync(path.join(root, mutation.file), 'utf8'), mutation, mutation.name);
    if (mutation.and) {
        replaceOnce(text, mutation.and, mutation.name);
    }
}
refresh();
const all = [...new Set(wanted.flatMap(({ tests }) => tests))];
make(...all.map(binary));
const before = firstRed(all);
if (before) {
    console.error(`mutations: red without any: ${before}`);
    process.exit(1);
}
const began = Date.now();
const survivors = [];
for (const mutation of wanted) {
    const { name, file, and, tests } = mutation;
    const place = path.join(copy, file);
    const original = fs.readFileSync(place, 'utf8');
    let red;
    try {
        let text = replaceOnce(original, mutation, name);
        text = and ? replaceOnce(text, and, name) : text;
        fs.writeFileSync(place, text);
        red = firstRed(tests);
    } finally {
        fs.writeFileSync(place, original);
    }
    console.log(`${red ? 'found   ' : 'SURVIVED'} ${name}${red ? ` (${red})` : ''}`);
    if (!red) {
        survivors.push(name);
    }
}
console.log(`mutations: ${wanted.length - survivors.length} of ${wanted.length} found in ` +
            `${Math.round((Date.now() - began) / 1000)} s`);
process.exit(survivors.length > 0 ? 1 : 0);
