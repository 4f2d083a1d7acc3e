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

test('promptgate(8) has every flag of every subcommand in its synopsis, and no others', () => {
    const page = source('man/promptgate.8');
    const synopsis = page.slice(page.indexOf('.Sh SYNOPSIS'), page.indexOf('.Sh DESCRIPTION'));
    const entries = synopsis.split('.Nm\n').slice(1).map((entry) => ({
        command: /^\.Cm (\w+)/.exec(entry)[1], flags: [...entry.matchAll(/\bFl (-[a-z-]+)/g)].map(([, flag]) => `-${flag}`) }));
    const common = ['--config', '--json']; // options.c takes these for all
    let found = 0;
    for (const file of fs.readdirSync(new URL('../../master/cli', import.meta.url)).filter((name) => /^cmd_.*\.c$/.test(name))) {
        const code = source(`master/cli/${file}`);
        const commands = [...code.matchAll(/^int cmd_(\w+)\(/gm)].map(([, name]) => name);
        const taken = [...code.matchAll(/"(--[a-z][a-z-]*)"/g)].map(([, flag]) => flag);
        const named = entries.filter(({ command }) => commands.includes(command)).flatMap(({ flags }) => flags);
        const sorted = (flags) => [...new Set(flags)].filter((flag) => !common.includes(flag)).sort();
        assert.deepEqual(sorted(named), sorted(taken), file);
        found += taken.length;
    }
    assert.ok(found > 20);
});

/** Words of `.It NAME` and `.Ql a , b` lines. */
const words = (page, macro) => [...page.matchAll(new RegExp(`^\\.${macro} (.+)$`, 'gm'))]
    .flatMap(([, line]) => line.split(/ ,? ?/)).filter((word) => /^[\w.-]+$/.test(word));

test('promptgate-api(7) names every header that an answer can have, and no others', () => {
    const sent = ['worker/answer.c', 'worker/cors.c', 'worker/frontend.c', 'worker/relay.c', 'shared/http/response.c']
        .flatMap((name) => [...source(name).matchAll(/([A-Z][A-Za-z]*(?:-[A-Z][A-Za-z]*)*|x-[a-z-]+): /g)])
        .map(([, header]) => header);
    const page = source('man/promptgate-api.7');
    const section = page.slice(page.indexOf('.Ss Headers'), page.indexOf('.Ss Browsers'));
    const named = [...words(section, 'It'), ...words(section, 'Ql')].filter((word) => /^([A-Z]|x-)/.test(word));
    assert.ok(sent.length > 10);
    assert.deepEqual([...new Set(named)].filter((word) => word !== 'Bearer').sort(), [...new Set(sent)].sort());
});

test('promptgate-api(7) names every member that a body can have, and none that the code does not know', () => {
    const known = [...source('shared/members.def').matchAll(/^MEMBER\((\w+),/gm)].map(([, name]) => name);
    const page = source('man/promptgate-api.7');
    const named = new Set(words(page, 'Va').flatMap((word) => word.split('.')));
    assert.ok(known.length > 30);
    assert.deepEqual(known.filter((name) => !named.has(name)), []);
    const code = ['worker/answer.c', 'worker/answer_usage.c', 'worker/frontend.c', 'worker/stage/input.c', 'worker/input/messages.c', 'shared/members.def']
        .map(source).join('\n');
    assert.deepEqual([...named].filter((name) => !new RegExp(`\\b${name}\\b`).test(code)), []);
});
