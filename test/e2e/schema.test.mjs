// The JSON Schema engine beside ajv: random schemas and instances. They must agree,
// but where ajv is known to be wrong: beside unevaluatedItems and unevaluatedProperties it keeps what
// a branch has evaluated that fails, and takes nothing from `if` alone nor from `contains`. (The
// official suite has these right, test_schema_suite.c.) SEED=n repeats a run, PAIRS=n makes more.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Random } from '../soak/random.mjs';
import { assertError, demo, PROMPTGATE, run, startGateway, temporaryDirectory, until } from './harness.mjs';

const Ajv = createRequire(import.meta.url)('ajv/dist/2020').default;
const SEED = Number(process.env.SEED || Date.now() % 2 ** 31);
const PAIRS = Number(process.env.PAIRS || 20_000);
const EACH = 10; // instances of a schema: ajv takes its time to compile one

const NAMES = ['a', 'b', 'c', 'ab', 'a/b', 'x~y', 'long_member_name_1', 'long_member_name_2'];
const TEXTS = ['', 'a', 'ab', 'abc', 'A1', '\u{1F600}', 'é', 'long text of some words', 'long text of some worlds'];
const NUMBERS = [0, 1, 2, 3, -1, 10, 1.5, 2.25, 0.5, 100, 1e3, -2.5];
const PATTERNS = ['^a', 'b$', '^[a-z]+$', '[0-9]', '^.{1,3}$', 'x~'];
const TYPES = ['null', 'boolean', 'integer', 'number', 'string', 'array', 'object'];

function value(random, depth = 3) {
    const kinds = [
        () => random.pick([null, true, false]), () => random.pick(NUMBERS), () => random.pick(TEXTS),
        () => random.pick(TEXTS), () => random.pick(NUMBERS),
        () => Array.from({ length: random.between(0, 4) }, () => value(random, depth - 1)),
        () => Object.fromEntries(Array.from({ length: random.between(0, 4) },
                                            () => [random.pick(NAMES), value(random, depth - 1)])),
    ];
    return random.pick(depth > 0 ? kinds : kinds.slice(0, 5))();
}

const some = (random, most, make) => Array.from({ length: random.between(1, most) }, make);
const map = (random, names, make) => Object.fromEntries(some(random, 3, () => [random.pick(names), make()]));

function schema(random, depth = 3) {
    if (depth === 0 || random.chance(0.08)) {
        return random.pick([true, true, false, {}, { type: random.pick(TYPES) }]);
    }
    const sub = () => schema(random, depth - 1);
    const keywords = {
        type: () => random.chance(0.7) ? random.pick(TYPES) : [...new Set(some(random, 3, () => random.pick(TYPES)))],
        enum: () => some(random, 4, () => value(random, 1)),
        const: () => value(random, 2),
        minimum: () => random.pick(NUMBERS), maximum: () => random.pick(NUMBERS),
        exclusiveMinimum: () => random.pick(NUMBERS), exclusiveMaximum: () => random.pick(NUMBERS),
        multipleOf: () => random.pick([1, 2, 0.5, 0.25, 3]),
        minLength: () => random.between(0, 4), maxLength: () => random.between(0, 24),
        pattern: () => random.pick(PATTERNS),
        minItems: () => random.between(0, 3), maxItems: () => random.between(0, 4), uniqueItems: () => random.chance(0.7),
        prefixItems: () => some(random, 3, sub), items: sub, contains: sub,
        minContains: () => random.between(0, 2), maxContains: () => random.between(1, 3),
        properties: () => map(random, NAMES, sub), patternProperties: () => map(random, PATTERNS, sub),
        additionalProperties: sub, propertyNames: sub,
        required: () => [...new Set(some(random, 3, () => random.pick(NAMES)))],
        minProperties: () => random.between(0, 3), maxProperties: () => random.between(0, 4),
        dependentRequired: () => map(random, NAMES, () => [...new Set(some(random, 2, () => random.pick(NAMES)))]),
        dependentSchemas: () => map(random, NAMES, sub),
        allOf: () => some(random, 3, sub), anyOf: () => some(random, 3, sub), oneOf: () => some(random, 3, sub),
        not: sub, if: sub, then: sub, else: sub,
        unevaluatedProperties: sub, unevaluatedItems: sub,
        $ref: () => `#/$defs/${random.pick(['p', 'q'])}`,
    };
    const names = Object.keys(keywords);
    return Object.fromEntries(some(random, 4, () => random.pick(names)).map((name) => [name, keywords[name]()]));
}

/** `contains` never fits an empty array (the specification: 10.3.1.3). ajv takes one where the same
 * `contains` was tried before, beside prefixItems or in a loop: what it found then still stands in
 * its variable. */
const isStale = (ours, theirs, one, instance) => ours === '0' && theirs === '1' &&
    JSON.stringify(one).includes('"contains"') && JSON.stringify(instance).includes('[]');

/** Definitions refer to nothing, so that no schema is without an end. */
function whole(random) {
    const plain = () => JSON.parse(JSON.stringify(schema(random, 2), (name, it) => name === '$ref' ? undefined : it));
    const root = schema(random);
    return typeof root === 'boolean' ? root : { ...root, $defs: { p: plain(), q: plain() } };
}

test(`random schemas and instances: as ajv (SEED=${SEED})`, { timeout: 600_000 }, (t) => {
    const random = new Random(SEED);
    const schemas = Array.from({ length: PAIRS / EACH }, () => whole(random));
    const pairs = schemas.flatMap((one) => Array.from({ length: EACH }, () => [one, value(random)]));
    const input = pairs.flatMap((pair) => pair.map((it) => JSON.stringify(it))).join('\n') + '\n';
    const tool = path.join(path.dirname(PROMPTGATE), 'schema-pairs');
    const own = execFileSync(tool, { input, encoding: 'utf8', maxBuffer: 1 << 26 }).trim().split('\n');
    assert.equal(own.length, pairs.length);
    const counts = { valid: 0, invalid: 0, thrown: 0, unevaluated: 0, stale: 0 };
    const differences = [];
    const compiled = schemas.map((one) => {
        try {
            return new Ajv({ strict: false, validateFormats: false, logger: false }).compile(one);
        } catch {
            return null;
        }
    });
    pairs.forEach(([one, instance], i) => {
        const validate = compiled[Math.floor(i / EACH)];
        let theirs;
        try {
            theirs = !validate ? '-' : validate(instance) ? '1' : '0';
        } catch { // in the code that ajv has made
            counts.thrown++;
            theirs = own[i];
        }
        counts[own[i] === '1' ? 'valid' : 'invalid']++;
        if (theirs !== own[i] && JSON.stringify(one).includes('unevaluated')) {
            counts.unevaluated++;
        } else if (isStale(own[i], theirs, one, instance)) {
            counts.stale++;
        } else if (theirs !== own[i]) {
            differences.push(`${own[i]} here, ${theirs} there: ${JSON.stringify(one)} ${JSON.stringify(instance)}`);
        }
    });
    t.diagnostic(`${counts.valid} valid, ${counts.invalid} not, ajv threw ${counts.thrown} times, ${counts.unevaluated} with unevaluated*, ${counts.stale} empty arrays, ${differences.length} other differences`);
    assert.ok(counts.thrown + counts.unevaluated + counts.stale < PAIRS / 500);
    assert.ok(counts.valid > PAIRS / 10 && counts.invalid > PAIRS / 10, JSON.stringify(counts));
    assert.deepEqual(differences.slice(0, 5), []);
});

describe('promptgate schema check', () => {
    const folder = temporaryDirectory();
    const file = (name, content) => {
        const at = path.join(folder, name);
        fs.writeFileSync(at, typeof content === 'string' ? content : JSON.stringify(content));
        return at;
    };
    const order = file('order.json', { type: 'object', required: ['id'],
                                       properties: { id: { $ref: 'id.json' }, due: { format: 'date' } } });
    file('id.json', { type: 'integer', minimum: 1 });

    async function check(...args) {
        const { status, stdout, stderr } = await run('schema', 'check', ...args);
        return { status, stdout, stderr };
    }

    test('a schema alone', async () => {
        assert.deepEqual(await check(order), { status: 0, stdout: 'a schema\n', stderr: '' });
        assert.deepEqual(JSON.parse((await check('--json', order)).stdout), { schema_valid: true });
    });

    test('an instance that fits, and one that does not', async () => {
        assert.equal((await check(order, file('good.json', { id: 1, due: 'someday' }))).status, 0);
        const bad = file('bad.json', { id: 0, due: 'someday' });
        const told = await check('--formats', 'assert', order, bad);
        assert.equal(told.status, 1);
        assert.equal(told.stdout, `${bad}: /id: must be at least 1\n${bad}: /due: must be of the format date\n`);
        assert.deepEqual(JSON.parse((await check('--json', order, bad)).stdout), {
            schema_valid: true, valid: false, more: false,
            errors: [{ path: '/id', schema_path: '/properties/id/$ref/minimum', keyword: 'minimum',
                       message: 'must be at least 1' }],
        });
    });

    test('what is no schema, and files that cannot be read', async () => {
        const none = file('none.json', { properties: { a: { type: 'strin' } } });
        const told = await check(none);
        assert.equal(told.status, 3);
        assert.match(told.stdout, /: \/properties\/a\/type: must be one of/);
        assert.equal((await check(file('text.json', 'no JSON'))).status, 3);
        assert.equal((await check(path.join(folder, 'nothing'))).status, 3);
        assert.equal((await check(order, path.join(folder, 'nothing'))).status, 3);
        assert.equal((await check(file('outside.json', { $ref: '../../../../etc/passwd' }))).status, 3);
        assert.equal((await check(file('far.json', { $ref: 'https://example.com/x.json' }))).status, 3);
        assert.equal((await check()).status, 2);
        assert.equal((await check('--formats', 'maybe', order)).status, 2);
    });
});

describe('input_schema', () => {
    let gateway;
    const schema = (limit) => JSON.stringify({ type: 'object', required: ['title'], properties: {
        title: { type: 'string', minLength: 3 }, tags: { type: 'array', maxItems: limit } } });

    before(async () => {
        const echo = { provider: 'echo', model: 'echo' };
        gateway = await startGateway({
            files: { 'schemas/ticket.json': schema(2) },
            projects: demo({
                ticket: { ...echo, input_schema: { file: 'schemas/ticket.json' }, user_prompt: 'T: {{input.title}}',
                          routing: { rules: [{ when: { has_input_schema: true }, use: { model: 'echo' },
                                               decision: 'checked' }] } },
                list: { ...echo, input_schema: { type: 'array', items: { type: 'integer' } } },
                text: { ...echo, input_schema: { type: 'string', maxLength: 5 } },
            }),
        });
    });
    after(() => gateway?.stop());

    const accepted = {
        'the member input': ['ticket', { input: { title: 'Lost key' } }],
        'the whole payload': ['ticket', { title: 'Lost key', tags: [1, 2] }],
        'a message that is JSON': ['ticket', { message: ' {"title":"Lost key"}' }],
        'the last message of the user': ['list', { messages: [{ role: 'user', content: 'no JSON' },
                                                              { role: 'user', content: '[1,2,3]' }] }],
        'a text': ['text', { message: 'short' }],
        'a text that only looks like JSON': ['text', { message: '{no}' }],
    };
    for (const [what, [slug, body]] of Object.entries(accepted)) {
        test(`${what} fits`, async () => {
            const answer = await gateway.post(slug, body);
            assert.equal(answer.status, 200, answer.text);
            assert.equal(answer.json.meta.routing_decision, slug === 'ticket' ? 'checked' : undefined);
        });
    }

    const refused = {
        'a member too short': ['ticket', { input: { title: 'x' } }, [['/title', 'minLength']]],
        'several at once': ['ticket', { title: 1, tags: [1, 2, 3] }, [['/title', 'type'], ['/tags', 'maxItems']]],
        'a member that is missing': ['ticket', { input: {} }, [['', 'required']]],
        'a text where an object must be': ['ticket', { message: 'Lost key' }, [['', 'type']]],
        'an element': ['list', { messages: [{ role: 'user', content: '[1,"2"]' }] }, [['/1', 'type']]],
        'a text that is too long': ['text', { message: 'too long' }, [['', 'maxLength']]],
        'a text that is JSON': ['text', { message: '[]' }, [['', 'type']]],
    };
    for (const [what, [slug, body, details]] of Object.entries(refused)) {
        test(`${what} does not`, async () => {
            const answer = await gateway.post(slug, body);
            const error = assertError(answer, 422, 'input_invalid');
            assert.deepEqual(error.details.map(({ path: at, keyword }) => [at, keyword]), details);
            assert.ok(error.details.every(({ message }) => message.length > 5));
            const row = await gateway.row(answer.id);
            assert.deepEqual([row.status, row.attempts, row.cost_nano_usd], ['input_invalid', null, null]);
            assert.ok(!JSON.stringify(row).includes('Lost key'), 'no value is kept');
        });
    }

    test('a reload takes another schema', async () => {
        fs.writeFileSync(path.join(gateway.config, 'schemas/ticket.json'), schema(3));
        assert.equal((await run('reload', '--config', gateway.config)).status, 0);
        await until('the new one', async () => (await gateway.post('ticket', { title: 'abc', tags: [1, 2, 3] })).status === 200);
        fs.writeFileSync(path.join(gateway.config, 'schemas/ticket.json'), '{"type":7}');
        const failed = await run('reload', '--config', gateway.config);
        assert.equal(failed.status, 1);
        assert.match(failed.stderr + failed.stdout, /schemas\/ticket\.json:1:9: is no JSON Schema: \/type/);
        assert.equal((await gateway.post('ticket', { title: 'abc', tags: [1, 2, 3] })).status, 200);
    });
});
