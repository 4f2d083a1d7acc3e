// Answers that fit: output_schema, the turn that mends an answer, the next target, and 422 with the
// reasons. The upstream says what each test tells it to, one answer after the other.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, beforeEach, describe, test } from 'node:test';

import OpenAI from 'openai';

import { assertError, createToken, demo, run, startGateway, until } from './harness.mjs';
import { completion, KEY } from './mock.mjs';
import { events, StreamUpstream } from './stream-upstream.mjs';

const PRICE = { input: 1, output: 2 };
const COST = 11 * 1000 + 7 * 2000; // of an answer of the upstream's, nano-USD
const ticket = {
    type: 'object', required: ['title', 'priority'], additionalProperties: false,
    properties: { title: { type: 'string', minLength: 3 }, priority: { type: 'integer', minimum: 1, maximum: 5 } },
};
const wide = { ...ticket, description: 'Everything that there is to be said of a ticket. '.repeat(30) };
const good = { title: 'Lost key', priority: 2 };
const GOOD = JSON.stringify(good);
const BAD = '{"title":"Lost key","priority":9}';

let upstream; // { base, asked, say }
let streaming;
let gateway;

/** An upstream that gives the answers it is told to; the last one again and again. An answer is a
 * text, members of the message, or a function of the exchange. */
async function startUpstream() {
    const it = { asked: [], say: (...answers) => { it.asked = []; it.answers = answers; } };
    const server = http.createServer((request, response) => {
        const chunks = [];
        request.on('data', (chunk) => chunks.push(chunk)).on('end', () => {
            const json = JSON.parse(Buffer.concat(chunks));
            const next = it.answers[Math.min(it.asked.push(json) - 1, it.answers.length - 1)];
            const finish = (body, status = 200) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
            if (typeof next === 'function') {
                next({ json, response, finish });
                return;
            }
            const body = completion(json);
            const { finish_reason: reason = 'stop', ...message } = typeof next === 'string' ? { content: next } : next;
            Object.assign(body.choices[0].message, message);
            body.choices[0].finish_reason = reason;
            finish(body);
        });
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    it.base = `http://127.0.0.1:${server.address().port}/v1`;
    it.stop = () => { server.closeAllConnections(); server.close(); };
    return it;
}

before(async () => {
    upstream = await startUpstream();
    streaming = await new StreamUpstream().start();
    const target = { provider: 'openai', credential: 'main', model: 'm', max_output_tokens: 100, price: PRICE };
    const fitting = { ...target, output_schema: ticket };
    gateway = await startGateway({
        credentials: {
            main: { provider: 'openai', base_url: upstream.base, api_key: KEY },
            other: { provider: 'openai', base_url: upstream.base, api_key: 'sk-other-0123456789' },
            stream: { provider: 'openai', base_url: `${streaming.base}/v1`, api_key: KEY },
            ollama: { provider: 'ollama', base_url: streaming.base },
        },
        files: {
            'templates.d/spare.yaml': { provider: 'openai', credential: 'other', model: 'spare', price: PRICE },
            'models.yaml': [{ provider: 'openai', model: 'told', structured_output: 'prompt' }],
            'schemas/money.json': JSON.stringify({ type: 'string', pattern: '^[0-9]+\\.[0-9]{2}$' }),
        },
        projects: demo({
            ticket: fitting,
            'no-repair': { ...fitting, output_repair: 0 },
            patient: { ...fitting, output_repair: 3 },
            chained: { ...fitting, failover: [{ template: 'spare' }] },
            retried: { ...fitting, retries: 2, output_repair: 2 },
            'prompt-cap': { ...fitting, model: 'told', output_schema: wide, budget: { request_tokens: 300 }, failover: [{ template: 'spare' }] },
            plain: target,
            told: { ...fitting, model: 'told' },
            hurried: { ...fitting, timeout: '1500ms' },
            pinched: { ...fitting, budget: { monthly_usd: 0.001 } },
            'small-cap': { ...fitting, budget: { request_tokens: 130 }, failover: [{ template: 'spare' }] },
            numbers: { ...target, output_schema: { type: 'array', items: { type: 'number', multipleOf: 0.01 } } },
            text: { ...target, output_schema: { type: 'string', maxLength: 8 } },
            filed: { ...target, output_schema: { type: 'object', properties: { price: { $ref: 'money.json' } }, required: ['price'] } },
            dated: { ...target, output_schema: { type: 'string', format: 'date' }, formats: 'assert' },
            pinned: { ...fitting, client_parameters: ['response_format', 'tools'], system_prompt: 'Be brief.' },
            routed: { ...fitting, routing: { rules: [{ when: { has_output_schema: true }, use: { model: 'm2' }, decision: 'schema' }] } },
            streamed: { ...fitting, credential: 'stream', streaming_enabled: true, failover: [{ template: 'spare' }] },
            native: { ...fitting, provider: 'ollama', credential: 'ollama', streaming_enabled: true, streaming: { format: 'native' } },
            echo: { provider: 'echo', model: 'echo', output_schema: ticket },
        }),
    });
    gateway.reader = await createToken(gateway.config, 'demo', '--name', 'reader', '--scopes', 'usage');
});

after(async () => {
    await gateway?.stop();
    upstream?.stop();
    streaming?.stop();
});

const post = (slug, body = { message: 'Hi' }) => gateway.post(slug, body);

async function attemptsOf(answer) {
    const row = await gateway.row(answer.id);
    return { row, attempts: JSON.parse(row.attempts) };
}

function assertUnfit(answer, details) {
    const error = assertError(answer, 422, 'output_invalid');
    assert.equal(error.type, 'invalid_request_error');
    assert.deepEqual(error.details.map(({ path, keyword }) => [path, keyword]), details);
    assert.ok(error.details.every(({ message }) => message.length > 5));
    return error;
}

describe('an answer that fits', () => {
    beforeEach(() => upstream.say(GOOD));

    test('is given back parsed', async () => {
        const answer = await post('ticket');
        assert.equal(answer.status, 200, answer.text);
        assert.deepEqual(answer.json.output, good);
        assert.equal(answer.json.content, GOOD);
        assert.equal(answer.json.meta.output_checked, true);
        assert.equal(answer.json.meta.attempts, 1);
        const { row, attempts } = await attemptsOf(answer);
        assert.deepEqual([row.status, row.finish_reason, row.cost_nano_usd, attempts.length], ['ok', 'stop', COST, 1]);
    });

    test('on the dispatcher: in OpenAI\'s shape', async () => {
        const client = new OpenAI({ apiKey: gateway.token, baseURL: gateway.api, maxRetries: 0 });
        const answer = await client.chat.completions.create({ model: 'ticket', messages: [{ role: 'user', content: 'Hi' }] });
        assert.deepEqual(JSON.parse(answer.choices[0].message.content), good);
        assert.equal(answer.meta.output_checked, true);
        assert.equal(answer.output, undefined);
    });

    test('a schema in a file, and one that asserts formats', async () => {
        upstream.say('{"price":"1.20"}', '{"price":"1.2"}');
        assert.deepEqual((await post('filed')).json.output, { price: '1.20' });
        assertUnfit(await post('filed'), [['/price', 'pattern']]);
        upstream.say('"2026-11-27"');
        assert.equal((await post('dated')).json.output, '2026-11-27');
        upstream.say('"2026-13-27"');
        assertUnfit(await post('dated'), [['', 'format']]);
    });

    test('numbers as they were written', async () => {
        const text = '[12345678901234567890,0.1,1.10,1e2,123456789012345678.25]';
        upstream.say(text);
        const answer = await post('numbers');
        assert.equal(answer.status, 200, answer.text);
        assert.ok(answer.text.includes(`"output":${text}`), answer.text);
        upstream.say('[0.001]');
        assertUnfit(await post('numbers'), [['/0', 'multipleOf']]);
    });

    test('the endpoint without a schema says nothing of it', async () => {
        assert.equal((await post('echo', { message: GOOD })).json.meta.output_checked, true);
        const plain = await post('plain');
        assert.equal(plain.json.content, GOOD);
        assert.ok(!('output' in plain.json) && !('output_checked' in plain.json.meta));
    });
});

describe('a code fence', () => {
    const around = {
        'of backquotes': '```json\n%\n```',
        'without a word, and white space': ' \n```\n%\n```\n ',
        'of tildes': '~~~ json\n%\n~~~',
        'of four': '````\n%\n````',
        'with Windows line ends': '```json\r\n%\r\n```\r\n',
    };
    for (const [what, text] of Object.entries(around)) {
        test(`${what} is taken off`, async () => {
            upstream.say(text.replace('%', GOOD));
            const answer = await post('no-repair');
            assert.equal(answer.status, 200, answer.text);
            assert.deepEqual(answer.json.output, good);
            assert.equal(answer.json.content, GOOD);
        });
    }
    const refused = {
        'prose': 'The title is Lost key, the priority 2.',
        'prose before the JSON': `Here you are: ${GOOD}`,
        'prose before the fence': `Here you are:\n\`\`\`json\n${GOOD}\n\`\`\``,
        'prose behind the fence': `\`\`\`json\n${GOOD}\n\`\`\`\nAnything else?`,
        'a fence within a fence': `\`\`\`\n\`\`\`json\n${GOOD}\n\`\`\`\n\`\`\``,
        'a fence that is open': `\`\`\`json\n${GOOD}`,
        'a closing fence that has no line of its own': `\`\`\`\n${GOOD}\`\`\``,
        'one line': `\`\`\`${GOOD}\`\`\``,
        'a fence alone': '```',
        'two values': `${GOOD} ${GOOD}`,
        'a member twice': '{"title":"Lost key","title":"Lost keys","priority":2}',
        'nothing': '',
    };
    for (const [what, text] of Object.entries(refused)) {
        test(`${what} is no JSON`, async () => {
            upstream.say(text);
            const answer = await post('no-repair');
            const error = assertUnfit(answer, [['', 'json']]);
            assert.equal(error.content, text);
            assert.equal(upstream.asked.length, 1);
        });
    }
});

describe('an answer that does not fit', () => {
    test('is mended in a second turn, and both are paid', async () => {
        upstream.say(BAD, GOOD);
        const answer = await post('ticket');
        assert.equal(answer.status, 200, answer.text);
        assert.deepEqual(answer.json.output, good);
        assert.equal(answer.json.meta.attempts, 2);
        assert.equal(answer.json.meta.cost_usd, 2 * COST / 1e9);
        const turns = upstream.asked[1].messages;
        assert.deepEqual(turns.slice(0, -2), upstream.asked[0].messages);
        assert.deepEqual(turns.at(-2), { role: 'assistant', content: BAD });
        assert.equal(turns.at(-1).role, 'user');
        assert.match(turns.at(-1).content, /\n- \/priority: must be at most 5\n/);
        const { row, attempts } = await attemptsOf(answer);
        assert.deepEqual([row.status, row.cost_nano_usd, row.prompt_tokens], ['ok', 2 * COST, 22]);
        assert.deepEqual(attempts.map((it) => [it.status, it.http_status, it.cost_nano_usd]),
                         [['output_invalid', 200, COST], ['ok', 200, COST]]);
        assert.equal(attempts[0].error, 'The answer does not fit output_schema: /properties/priority/maximum.');
    });

    test('again and again: 422 with all reasons and the text', async () => {
        upstream.say('{"title":"x","priority":9,"more":1}');
        const answer = await post('ticket');
        const error = assertUnfit(answer, [['/title', 'minLength'], ['/priority', 'maximum'], ['/more', 'additionalProperties']]);
        assert.equal(error.content, '{"title":"x","priority":9,"more":1}');
        assert.equal(upstream.asked.length, 2);
        const { row, attempts } = await attemptsOf(answer);
        assert.deepEqual([row.status, row.http_status, row.cost_nano_usd], ['output_invalid', 422, 2 * COST]);
        assert.equal(attempts.length, 2);
        assert.ok(!JSON.stringify(row).includes('"x"'), 'no value is kept');
    });

    test('as many turns as output_repair says', async () => {
        upstream.say('no JSON', BAD, '{}', GOOD);
        assert.equal((await post('patient')).json.meta.attempts, 4);
        assert.match(upstream.asked[1].messages.at(-1).content, /must be JSON/);
        assert.deepEqual(upstream.asked[3].messages.map(({ role, content }) => role === 'assistant' ? content : role), ['user', '{}', 'user'],
                         'only the last answer is shown');
        upstream.say(BAD);
        assertUnfit(await post('patient'), [['/priority', 'maximum']]);
        assert.equal(upstream.asked.length, 4);
        upstream.say(BAD);
        assertUnfit(await post('no-repair'), [['/priority', 'maximum']]);
        assert.equal(upstream.asked.length, 1);
    });

    test('then the next target is asked, from the beginning', async () => {
        upstream.say(BAD, BAD, GOOD);
        const answer = await post('chained');
        assert.equal(answer.status, 200, answer.text);
        assert.deepEqual(upstream.asked.map(({ model, messages }) => [model, messages.length]), [['m', 1], ['m', 3], ['spare', 1]]);
        const { attempts } = await attemptsOf(answer);
        assert.deepEqual(attempts.map(({ status, credential }) => [status, credential]),
                         [['output_invalid', 'main'], ['output_invalid', 'main'], ['ok', 'other']]);
        upstream.say(BAD);
        assertUnfit(await post('chained'), [['/priority', 'maximum']]);
        assert.equal(upstream.asked.length, 4);
        const usage = await (await fetch(`${gateway.api}/usage`, { headers: { authorization: `Bearer ${gateway.reader}` } })).json();
        assert.deepEqual(usage.credentials?.map(({ state }) => state).filter((state) => state !== 'closed') ?? [], [], 'no credential is to blame');
    });

    test('a turn that fails: what the last one said', async () => {
        upstream.say(BAD, ({ finish }) => finish({ error: { message: 'Broken.' } }, 500));
        const answer = await post('ticket');
        const error = assertError(answer, 502, 'provider_error');
        assert.equal(error.content, undefined);
        assert.equal(answer.headers.get('x-should-retry'), 'false', 'one was paid for');
        assert.deepEqual((await attemptsOf(answer)).attempts.map(({ status }) => status), ['output_invalid', 'provider_error']);
    });

    test('a turn that fails is tried again as it was', async () => {
        const fail = ({ finish }) => finish({ error: { message: 'Broken.' } }, 500);
        upstream.say(BAD, fail, '{}', ({ response }) => response.destroy(), GOOD);
        const answer = await post('retried');
        assert.equal(answer.status, 200, answer.text);
        const shown = upstream.asked.map(({ messages }) => messages.filter(({ role }) => role === 'assistant').map(({ content }) => content));
        assert.deepEqual(shown, [[], [BAD], [BAD], ['{}'], ['{}']]);
        assert.deepEqual((await attemptsOf(answer)).attempts.map(({ status }) => status),
                         ['output_invalid', 'provider_error', 'output_invalid', 'provider_error', 'ok']);
    });

    test('a client that leaves in the middle of a turn: no other one, each settled once', async () => {
        let asked;
        const second = new Promise((resolve) => { asked = resolve; });
        upstream.say(BAD, ({ response }) => { response.on('close', () => asked('closed')); leave.abort(); });
        const leave = new AbortController();
        const known = new Set(gateway.rows().map(({ request_id: id }) => id));
        await assert.rejects(gateway.post('patient', { message: 'Hi' }, { signal: leave.signal }));
        assert.equal(await second, 'closed');
        const row = await until('the row', () => gateway.rows().find(({ request_id: id, status }) => !known.has(id) && status === 'client_closed'));
        assert.deepEqual(JSON.parse(row.attempts).map(({ status }) => status), ['output_invalid', 'client_closed']);
        assert.equal(upstream.asked.length, 2);
    });

    test('on the dispatcher, too', async () => {
        upstream.say(BAD);
        const client = new OpenAI({ apiKey: gateway.token, baseURL: gateway.api, maxRetries: 0 });
        await assert.rejects(client.chat.completions.create({ model: 'ticket', messages: [{ role: 'user', content: 'Hi' }] }),
                             (error) => error instanceof OpenAI.UnprocessableEntityError && error.code === 'output_invalid' &&
                                        error.error.content === BAD && error.error.details[0].schema_path === '/properties/priority/maximum');
    });

    test('the time of the endpoint is for all turns', async () => {
        upstream.say(({ finish, json }) => setTimeout(() => finish(completion(json, BAD)), 600), () => {});
        const began = performance.now();
        assertError(await post('hurried'), 504, 'provider_timeout');
        assert.ok(performance.now() - began >= 1400);
        assert.equal(upstream.asked.length, 2);
    });

    test('a budget without room for another turn: the answer\'s own reasons', async () => {
        upstream.say(BAD);
        let answer;
        for (let i = 0; i < 40; i++) {
            answer = await post('pinched');
            if (answer.json.error.code === 'budget_exceeded' || (await attemptsOf(answer)).attempts.at(-1).status === 'budget_exceeded') {
                break;
            }
        }
        assertUnfit(answer, [['/priority', 'maximum']]);
        const { row, attempts } = await attemptsOf(answer);
        assert.deepEqual(attempts.map(({ status }) => status), ['output_invalid', 'budget_exceeded']);
        assert.equal(row.cost_nano_usd, COST);
    });

    test('a turn that is larger than the endpoint\'s cap: the next target', async () => {
        upstream.say(`{"title":"${'long '.repeat(100)}"}`, GOOD);
        const answer = await post('small-cap');
        assert.equal(answer.status, 200, answer.text);
        assert.deepEqual((await attemptsOf(answer)).attempts.map(({ status }) => status), ['output_invalid', 'token_cap_exceeded', 'ok']);
    });

    test('a schema that makes a prompt too large: the next target, which is told it another way', async () => {
        upstream.say(GOOD);
        const answer = await post('prompt-cap');
        assert.equal(answer.status, 200, answer.text);
        assert.equal(upstream.asked[0].model, 'spare');
        assert.deepEqual((await attemptsOf(answer)).attempts.map(({ status }) => status), ['token_cap_exceeded', 'ok']);
    });

    test('one that was cut off says so', async () => {
        upstream.say({ content: '{"title":"Lo', finish_reason: 'length' });
        const error = assertUnfit(await post('no-repair'), [['', 'json']]);
        assert.match(error.details[0].message, /used up/);
    });

    for (const [what, said] of Object.entries({
        'a refusal': { content: null, refusal: 'I cannot help with that.' },
        'a filtered answer': { content: null, finish_reason: 'content_filter' },
    })) {
        test(`${what} is not asked for again, but elsewhere`, async () => {
            upstream.say(said);
            const error = assertUnfit(await post('ticket'), [['', 'refusal']]);
            assert.equal(error.content, said.refusal ?? '');
            assert.equal(upstream.asked.length, 1);
            upstream.say(said, GOOD);
            assert.deepEqual((await post('chained')).json.output, good);
        });
    }

    test('with hundreds of mistakes: twenty of them', async () => {
        upstream.say(JSON.stringify(Array.from({ length: 500 }, () => 'x')));
        const error = assertError(await post('numbers'), 422, 'output_invalid');
        assert.equal(error.details.length, 20);
    });

    test('deep as a well', async () => {
        upstream.say('['.repeat(200_000) + ']'.repeat(200_000));
        assertError(await post('numbers'), 422, 'output_invalid');
        assert.equal((await post('echo', { message: GOOD })).status, 200);
    });
});

describe('tool calls', () => {
    const tools = [{ type: 'function', function: { name: 'f', parameters: { type: 'object' } } }];
    const calls = [{ id: 'call_1', type: 'function', function: { name: 'f', arguments: '{}' } }];
    const body = { messages: [{ role: 'user', content: 'Hi' }], tools };

    test('are not checked, and the answer says so', async () => {
        upstream.say({ content: null, tool_calls: calls, finish_reason: 'tool_calls' });
        const answer = await post('ticket', body);
        assert.equal(answer.status, 200, answer.text);
        assert.equal(answer.json.meta.output_checked, false);
        assert.equal('output' in answer.json, false);
        assert.deepEqual(answer.json.tool_calls, calls);
    });

    test('with white space beside them, too', async () => {
        upstream.say({ content: '\n\n', tool_calls: calls, finish_reason: 'tool_calls' });
        assert.deepEqual((await post('ticket', body)).json.tool_calls, calls);
    });

    test('unless there is content beside them', async () => {
        upstream.say({ content: GOOD, tool_calls: calls, finish_reason: 'tool_calls' });
        const answer = await post('ticket', body);
        assert.deepEqual(answer.json.output, good);
        assert.deepEqual(answer.json.tool_calls, calls);
        upstream.say({ content: 'Let me look.', tool_calls: calls, finish_reason: 'tool_calls' });
        assertUnfit(await post('no-repair', body), [['', 'json']]);
    });
});

test('rules see it; a client\'s response_format is not used', async () => {
    upstream.say(GOOD);
    assert.equal((await post('routed')).json.meta.routing_decision, 'schema');
    const answer = await post('pinned', { messages: [{ role: 'user', content: 'Hi' }], response_format: { type: 'json_object' } });
    assert.deepEqual(answer.json.meta.ignored, ['response_format']);
    assert.equal(upstream.asked[1].response_format.type, 'json_schema');
});

test('the beginning of an answer is not sent: it has to be whole', async () => {
    upstream.say(GOOD);
    const answer = await post('ticket', { messages: [{ role: 'user', content: 'Hi' }, { role: 'assistant', content: '{' }] });
    assert.deepEqual(answer.json.output, good);
    assert.deepEqual(answer.json.meta.ignored, ['prefill']);
    assert.deepEqual(upstream.asked[0].messages.map(({ role }) => role), ['user']);
});

test('a schema in the prompt stands behind the client\'s own', async () => {
    upstream.say(GOOD);
    const told = async (system) => {
        upstream.say(GOOD);
        await post('told', { messages: [system, { role: 'user', content: 'Hi' }] });
        return upstream.asked[0].messages[0];
    };
    const text = await told({ role: 'developer', content: 'Be brief.', name: 'boss' });
    assert.deepEqual([text.role, text.name], ['developer', 'boss']);
    assert.match(text.content, /^Be brief\.\n\nAnswer with one JSON value .*\{"type":"object"/s);
    const parts = await told({ role: 'system', content: [{ type: 'text', text: 'Be brief.' }] });
    assert.deepEqual(parts.content[0], { type: 'text', text: 'Be brief.' });
    assert.match(parts.content[1].text, /JSON Schema/);
});

test('explain says how the schema is told', async () => {
    const { stdout } = await run('explain', '--config', gateway.config, 'demo/ticket', '{"message":"Hi"}', '--json');
    assert.equal(JSON.parse(stdout).chain[0].output_schema, 'native, strict', stdout);
});

describe('streams', () => {
    const chunk = (delta, reason = null) => `data: ${JSON.stringify({
        id: 'c1', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta, finish_reason: reason }] })}\n\n`;
    const script = (...texts) => ({ pieces: [chunk({ role: 'assistant', content: '' }), ...texts.map((content) => chunk({ content })),
                                             chunk({}, 'stop'), 'data: {"id":"c1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7}}\n\n',
                                             'data: [DONE]\n\n'], gap: 1 });

    async function streamed(slug = 'streamed') {
        const answer = await gateway.post(slug, { message: 'Hi', stream: true });
        return { ...answer, events: events(answer.text) };
    }

    test('that fit end well', async () => {
        for (const texts of [[GOOD], [...GOOD], ['```json\n', GOOD, '\n```']]) {
            streaming.play(script(...texts));
            const answer = await streamed();
            assert.equal(answer.events.at(-1), '[DONE]');
            const { row } = await attemptsOf(answer);
            assert.deepEqual([row.status, row.cost_nano_usd], ['ok', COST]);
        }
    });

    for (const [what, text, details] of [['that do not fit', BAD, [['/priority', 'maximum']]], ['that are no JSON', 'Well, well.', [['', 'json']]]]) {
        test(`${what}: an error event in place of [DONE], and no other attempt`, async () => {
            streaming.play(script(...text));
            upstream.say(GOOD);
            const answer = await streamed();
            assert.equal(answer.status, 200);
            const { error } = JSON.parse(answer.events.at(-1));
            assert.equal(error.code, 'output_invalid');
            assert.deepEqual(error.details.map(({ path, keyword }) => [path, keyword]), details);
            assert.ok(!answer.events.includes('[DONE]'));
            assert.equal(answer.events.slice(0, -1).map((it) => JSON.parse(it).choices[0].delta.content ?? '').join(''), text,
                         'the client has all of the text');
            const { row, attempts } = await attemptsOf(answer);
            assert.deepEqual([row.status, row.http_status, row.cost_nano_usd, attempts.length], ['output_invalid', 200, COST, 1]);
            assert.equal(upstream.asked.length, 0);
        });
    }

    test('a refusal in a stream is one', async () => {
        streaming.play({ pieces: [chunk({ role: 'assistant', content: '' }), chunk({ refusal: 'I cannot ' }), chunk({ refusal: 'help.' }), chunk({}, 'stop'), 'data: [DONE]\n\n'] });
        const { error } = JSON.parse((await streamed()).events.at(-1));
        assert.deepEqual(error.details.map(({ keyword }) => keyword), ['refusal']);
    });

    test('the SDK throws', async () => {
        streaming.play(script(BAD));
        const client = new OpenAI({ apiKey: gateway.token, baseURL: gateway.api, maxRetries: 0 });
        await assert.rejects(async () => {
            for await (const _ of await client.chat.completions.create({ model: 'streamed', stream: true, messages: [{ role: 'user', content: 'Hi' }] })) {
                // to the end
            }
        }, (error) => error.code === 'output_invalid');
    });

    test('before anything was said the next target is asked, and held to the schema as well', async () => {
        const whole = (text) => ({ response }) => response.writeHead(200, { 'content-type': 'text/event-stream' }).end(script(text).pieces.join(''));
        for (const [text, last] of [[GOOD, /^\[DONE\]$/], [BAD, /output_invalid/]]) {
            streaming.play({ status: 500, type: 'application/json', pieces: ['{}'] });
            upstream.say(whole(text));
            assert.match((await streamed()).events.at(-1), last);
        }
    });

    test('in the provider\'s own format', async () => {
        const lines = (text) => ({ type: 'application/x-ndjson', pieces: [
            JSON.stringify({ model: 'm', message: { role: 'assistant', content: text }, done: false }) + '\n',
            JSON.stringify({ model: 'm', message: { role: 'assistant', content: '' }, done: true, done_reason: 'stop', prompt_eval_count: 11, eval_count: 7 }) + '\n'] });
        streaming.play(lines(GOOD));
        assert.equal(JSON.parse((await streamed('native')).text.trim().split('\n').at(-1)).done, true);
        streaming.play(lines(BAD));
        const told = (await streamed('native')).text.trim().split('\n').map((line) => JSON.parse(line));
        assert.match(told.at(-1).error, /^output_invalid: .* does not fit/);
    });
});
