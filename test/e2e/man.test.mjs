// The manual pages say what the tables in the code say.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';

const source = (name) => fs.readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8');

test('promptgate-api(7) lists every error of errors.def with its status, type and sentence', () => {
    const table = [...source('shared/http/errors.def')
        .matchAll(/^ERROR\((\w+), (\d+), "(\w+)",\s*"([^"]+)"\)/gm)]
        .map(([, code, status, type, sentence]) => ({ code, status, type, sentence }));
    const page = source('man/promptgate-api.7');
    const listed = [...page.matchAll(/^\.It (\d+) Dv (\w+) Pq Dv (\w+)\n(.+)$/gm)]
        .map(([, status, code, type, sentence]) => ({ code, status, type, sentence }));
    assert.ok(table.length > 20);
    assert.deepEqual(listed, table);
});

test('promptgate(8) describes every subcommand of commands.h', () => {
    const commands = [...source('master/cli/commands.h').matchAll(/^int cmd_(\w+)\(/gm)]
        .map(([, name]) => name);
    const page = source('man/promptgate.8');
    assert.ok(commands.length >= 5);
    for (const name of commands) {
        assert.match(page, new RegExp(`^\\.It Cm ${name}\\b`, 'm'), name);
    }
});
