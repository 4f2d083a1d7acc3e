// Validations per second beside ajv, in turns: compiled before, instances parsed before, ajv warmed
// up by 10,000 validations. Prints one table (see `make bench-schema`). RUN=FILE is one run of ajv.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(new URL('../e2e/package.json', import.meta.url));
const SECONDS = Number(process.env.SECONDS || 1.5);

function runAjv(file) {
    const { schema, instances } = JSON.parse(fs.readFileSync(file));
    const Ajv = require(schema.$schema?.includes('draft-07') ? 'ajv' : 'ajv/dist/2020').default;
    const validate = new Ajv({ strict: false, validateFormats: false }).compile(schema);
    let valid = 0;
    for (let i = 0; i < 10_000; i++) {
        instances.forEach((instance) => validate(instance));
    }
    const began = process.hrtime.bigint();
    let now = began;
    for (; Number(now - began) < SECONDS * 1e9; now = process.hrtime.bigint()) {
        for (let i = 0; i < 1000; i++) {
            for (let j = 0; j < instances.length; j++) {
                valid += validate(instances[j]) ? 1 : 0;
            }
        }
    }
    return Number(now - began) / valid;
}

if (process.env.RUN) {
    console.log(runAjv(process.env.RUN).toFixed(1));
    process.exit(0);
}

const { machine, median, print, ratio, ROUNDS, tenth } = await import('./common.mjs');
const folder = fileURLToPath(new URL('schemas', import.meta.url));
const TOOL = path.join(path.dirname(process.env.PROMPTGATE), 'bench-schema');
const table = [['schema', 'ajv ns', 'promptgate ns', 'promptgate / ajv', 'making an instance ns']];
for (const name of fs.readdirSync(folder).sort()) {
    const file = path.join(folder, name);
    const own = [];
    const ajv = [];
    const making = [];
    for (let round = 0; round < ROUNDS; round++) {
        const [validating, made] = String(execFileSync(TOOL, [file, String(SECONDS)])).split(' ').map(Number);
        own.push(validating);
        making.push(made);
        ajv.push(Number(execFileSync(process.execPath, [fileURLToPath(import.meta.url)],
                                     { env: { ...process.env, RUN: file } })));
    }
    table.push([name.replace('.json', ''), tenth(median(ajv)), tenth(median(own)), ratio(median(own), median(ajv)), tenth(median(making))]);
}
console.log(`${machine()}, node ${process.version}, ajv ${require('ajv/package.json').version}
make bench-schema ROUNDS=${ROUNDS} SECONDS=${SECONDS}: nanoseconds for each validation, medians, in turns.
`);
print(table);
