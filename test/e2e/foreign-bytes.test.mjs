// "Provider answers and messages of random bytes: every row is there": from the wire through worker,
// pipe, spool and store to `logs --json`. SEED=n repeats a run, CASES=n makes more of them.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';

import { Connection, post } from '../soak/client.mjs';
import { Random } from '../soak/random.mjs';
import { POSTGRES } from './database.mjs';
import { demo, PROJECT_ID, run, SANITIZE, startGateway, until, UUID7 } from './harness.mjs';
import { completion, KEY } from './mock.mjs';

const SEED = Number(process.env.SEED || Date.now() % 2 ** 31);
const CASES = Number(process.env.CASES || (SANITIZE ? 600 : 2000));
const CLIENTS = 16;

// ---- bytes

/** What decoders, databases and terminals stumble over, raw. */
const NASTY = [
    [0x00], [0x0a], [0x0d, 0x0a], [0x1b, 0x5b, 0x32, 0x4a], [0x22], [0x5c], [0x7f], [0x80], [0xff],
    [0xc0, 0x80], [0xc1, 0xbf], [0xe0, 0x80, 0x80], [0xed, 0xa0, 0x80], [0xed, 0xbf, 0xbf],
    [0xf0, 0x80, 0x80, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xf8, 0x88, 0x80, 0x80, 0x80], [0xc3],
    [0xe2, 0x82], [0xf0, 0x9f, 0x98], [0xef, 0xbf, 0xbe], [0xef, 0xbb, 0xbf], [0xc2, 0x85],
    [0xe2, 0x80, 0xa8], [0xe2, 0x80, 0xae], [0xf0, 0x9f, 0x98, 0x80],
].map((bytes) => Buffer.from(bytes));

/** As JSON writes it; then as it must not. */
const ESCAPES = ['\\u0000', '\\ud800', '\\udc00', '\\ud83d\\ude00', '\\ude00\\ud83d', '\\uffff',
                 '\\u001b[2J', '\\"', '\\\\', '\\n', '\\u202e', '\\x00', '\\u12', '\\'];
const STRANGE_BUT_RIGHT = 11;

const ascii = (random, length) => Buffer.from(Array.from({ length }, () => random.between(32, 126))
    .filter((byte) => byte !== 0x22 && byte !== 0x5c));

const noise = (random, length) =>
    Buffer.from(Array.from({ length }, () => random.between(0, 255)));

/** The inside of a JSON string. It is one, or it may break the string or the text. */
function inside(random, isString) {
    const text = [
        () => ascii(random, random.between(0, 40)),
        () => Buffer.from(random.pick(ESCAPES.slice(0, STRANGE_BUT_RIGHT))),
        () => Buffer.from(String.fromCodePoint(random.between(0xa0, 0xd7ff))),
        () => Buffer.from(String.fromCodePoint(random.between(0xe000, 0x10ffff))),
    ];
    const anything = [...text, () => random.pick(NASTY), () => Buffer.from(random.pick(ESCAPES)),
                      () => noise(random, random.between(1, 12))];
    return Buffer.concat(Array.from({ length: random.between(0, 12) }, () =>
        random.pick(isString ? text : anything)()));
}

/** JSON of `value` in which each "@" is what `inside` makes. */
function filled(random, value) {
    const isString = random.chance(0.6);
    const parts = JSON.stringify(value).split('@').flatMap((part, i) =>
        i === 0 ? [Buffer.from(part)] : [inside(random, isString), Buffer.from(part)]);
    return Buffer.concat(parts);
}

/** Some bytes changed, dropped or put in. */
function spoiled(random, bytes) {
    const copy = [...bytes];
    for (let left = random.between(1, 6); left > 0; left--) {
        copy.splice(random.between(0, copy.length), random.between(0, 2),
                    ...noise(random, random.between(0, 3)));
    }
    return Buffer.from(copy);
}

// ---- the provider

function answerBytes(random) {
    const good = completion({ model: 'm' });
    const [choice] = good.choices;
    return random.pick([
        () => noise(random, random.between(0, 5000)),
        () => filled(random, { ...good, choices: [{ ...choice, message: {
            role: 'assistant', content: '@' } }] }),
        () => filled(random, { ...good, id: '@', model: '@', choices: [{ ...choice,
            finish_reason: '@' }] }),
        () => filled(random, { ...good, '@': '@', usage: { prompt_tokens: '@' } }),
        () => filled(random, { error: { message: '@', type: '@', param: '@', code: '@' } }),
        () => filled(random, { detail: '@' }),
        () => filled(random, '@'),
        () => spoiled(random, Buffer.from(JSON.stringify(good))),
        () => Buffer.from(JSON.stringify(good).replace('11', random.pick(
            ['1e999', '-1', '18446744073709551616', '1.5', 'NaN', '0x10', '1e3', '9'.repeat(400)]))),
    ])();
}

/** Answers each POST with bytes of its own; sometimes those are the head, too. */
async function startProvider(random) {
    const server = net.createServer((socket) => {
        socket.unref(); // or a failed test would never end
        let got = Buffer.alloc(0);
        socket.on('error', () => {});
        socket.on('data', (chunk) => {
            got = Buffer.concat([got, chunk]);
            const head = got.indexOf('\r\n\r\n');
            const length = Number(/content-length: *(\d+)/i.exec(got.subarray(0, head + 2))?.[1]);
            if (head < 0 || got.length < head + 4 + length) {
                return;
            }
            got = got.subarray(head + 4 + length);
            if (random.chance(0.05)) {
                socket.end(noise(random, random.between(1, 300)));
                return;
            }
            const body = answerBytes(random);
            const status = random.pick([200, 200, 200, 400, 401, 404, 429, 500, 503, 599]);
            socket.write(Buffer.concat([
                Buffer.from(`HTTP/1.1 ${status} `), random.chance(0.1) ? inside(random, false)
                    : Buffer.from('X'),
                Buffer.from(`\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`),
                body]));
        });
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    server.unref();
    return server;
}

// ---- the clients

function messageBytes(random) {
    const message = (content) => ({ model: 'near', messages: [{ role: 'user', content }] });
    return random.pick([
        () => noise(random, random.between(0, 3000)),
        () => filled(random, { message: '@' }),
        () => filled(random, { message: '@', variables: { '@': '@' }, '@': '@' }),
        () => filled(random, message('@')),
        () => filled(random, message([{ type: 'text', text: '@' }])),
        () => filled(random, { model: '@', messages: [{ role: '@', content: '@', name: '@' }] }),
        () => spoiled(random, Buffer.from(JSON.stringify({ message: 'Hi there' }))),
    ])();
}

/** Header values may hold any byte above 0x7f; the slug is what follows the project. */
function requestBytes(random, token) {
    const slug = random.pick(['near', 'near', 'near', 'prompted', 'echo', 'chat/completions',
                              `none-${random.between(0, 99)}`]);
    const bytes = post(`/api/${PROJECT_ID}/${slug}`, messageBytes(random),
                       { 'Authorization': `Bearer ${token}`, 'X-Foreign': '@' });
    const cut = bytes.indexOf('@\r\n');
    return Buffer.concat([bytes.subarray(0, cut), random.chance(0.2) ? Buffer.from([0x80, 0xff, 0xc3])
        : Buffer.from('x'), bytes.subarray(cut + 1)]);
}

async function client(gateway, random, count, answers) {
    let line = null;
    for (let i = 0; i < count; i++) {
        line ??= new Connection(gateway.port, '127.0.0.1');
        const bytes = requestBytes(random, gateway.token);
        try {
            await line.send(bytes);
            answers.push(await line.answer());
        } catch (error) {
            throw new Error(`${error.message} after ${JSON.stringify(bytes.toString('latin1'))}`,
                            { cause: error });
        }
        if (line.closing || line.over) {
            line.leave();
            line = null;
        }
    }
    line?.leave();
}

// ---- the rows

/** Every text of every row is text: valid UTF-8 without NUL, as the store has it. */
function assertText(database) {
    if (POSTGRES) {
        return; // which takes nothing else
    }
    const store = new DatabaseSync(database, { readOnly: true });
    const columns = store.prepare("SELECT name FROM pragma_table_info('gateway_logs') " +
                                  "WHERE type = 'TEXT'").all().map(({ name }) => name);
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    for (const column of columns) {
        const rows = store.prepare(`SELECT request_id AS id, CAST(${column} AS BLOB) AS bytes ` +
                                   `FROM gateway_logs WHERE ${column} IS NOT NULL`).all();
        for (const { id, bytes } of rows) {
            assert.ok(!bytes.includes(0), `NUL in ${column} of ${id}`);
            decoder.decode(bytes);
        }
    }
    assert.equal(store.prepare('PRAGMA integrity_check').get().integrity_check, 'ok');
    store.close();
}

test(`"Provider answers and messages of random bytes: every row is there" (SEED=${SEED})`,
     { timeout: 600_000 }, async (t) => {
    const random = new Random(SEED);
    const provider = await startProvider(random.fork());
    const target = { provider: 'openai', credential: 'mock', timeout: '2s' };
    const gateway = await startGateway({
        workers: 2,
        credentials: { mock: { provider: 'openai', api_key: KEY,
                               base_url: `http://127.0.0.1:${provider.address().port}/v1` } },
        projects: demo({
            near: { ...target, model: 'm' },
            prompted: { ...target, model: 'm', user_prompt: 'Say again: {{input}}' },
            echo: { provider: 'echo', model: 'echo' },
        }),
    });
    const pids = gateway.children().map(({ pid }) => pid);
    const answers = [];
    await Promise.all(Array.from({ length: CLIENTS }, () =>
        client(gateway, random.fork(), Math.ceil(CASES / CLIENTS), answers)));
    await gateway.rowsReach(answers.length, 30);
    assert.deepEqual(gateway.children().map(({ pid }) => pid), pids, 'nobody died of it');

    const outcomes = {};
    for (const { status, json, id, text } of answers) {
        assert.match(id, UUID7);
        assert.equal(json?.meta?.request_id, id, `not JSON for a client: ${text.slice(0, 300)}`);
        const outcome = json.error?.code ?? 'ok';
        outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
        assert.ok(status >= 200 && status < 600);
    }
    t.diagnostic(JSON.stringify(outcomes));
    assert.ok(['ok', 'invalid_json', 'provider_error', 'provider_rejected', 'provider_bad_response']
        .every((outcome) => outcomes[outcome] >= CASES / 100), JSON.stringify(outcomes));

    const status = await run('db', 'status', '--json', '--config', gateway.config);
    assert.equal(JSON.parse(status.stdout).rejected?.rows ?? 0, 0, status.stdout);
    const ofAll = ['--limit', String(answers.length), '--config', gateway.config,
                   { maxBuffer: 1 << 28 }];
    const listed = await run('logs', '--json', ...ofAll);
    const table = await run('logs', ...ofAll);
    await gateway.stop();
    const rows = new Map(gateway.rows().map((row) => [row.request_id, row]));
    assert.equal(rows.size, answers.length);
    for (const { id, status: http, json } of answers) {
        const row = rows.get(id);
        assert.ok(row, `no row of ${id}`);
        assert.equal(row.http_status, http);
        assert.equal(row.status, json.error?.code ?? 'ok');
        JSON.parse(row.attempts ?? '[]');
    }
    assertText(gateway.database);
    for (const name of ['rejected', 'spool']) {
        const folder = path.join(gateway.directory, 'state', name);
        assert.deepEqual(fs.existsSync(folder) ? fs.readdirSync(folder) : [], []);
    }
    const lines = listed.stdout.trimEnd().split('\n').map((line) => JSON.parse(line));
    assert.deepEqual(lines.map((row) => row.request_id).sort(), [...rows.keys()].sort());
    for (const line of lines) {
        assert.equal(line.error_message, rows.get(line.request_id).error_message);
    }
    // Nothing of theirs reaches the terminal of whoever looks.
    assert.doesNotMatch(table.stdout, /[\0-\x08\x0b-\x1f\x7f-\x9f]/);
    assert.doesNotMatch(gateway.stderr, /[\0-\x08\x0b-\x1f\x7f-\x9f]/);
    provider.close();
});
