// Streamed answers of every provider, as the contract's part on streaming has them.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';

import OpenAI from 'openai';

import { assertError, demo, startGateway } from './harness.mjs';
import { ANSWER, RECORDINGS } from './recordings.mjs';
import { events, StreamUpstream } from './stream-upstream.mjs';

const KEY = 'sk-mock-key-0123456789';
const providers = Object.keys(RECORDINGS);
/** Pieces that carry text, and not yet why it ended. */
const beginning = (name) => RECORDINGS[name].pieces.slice(0, ['mistral', 'together'].includes(name) ? 3 : 4);
const openaiShaped = ['openai', 'responses', 'mistral', 'groq', 'together'];
let upstream;
let gateway;

before(async () => {
    upstream = await new StreamUpstream().start();
    const base = (name) => `${upstream.base}${openaiShaped.includes(name) ? '/v1' : ''}`;
    const endpoint = (name, more = {}) =>
        ({ provider: RECORDINGS[name].provider ?? name, credential: name, model: RECORDINGS[name].model ?? 'm', streaming_enabled: true, max_output_tokens: 4000, timeout: '40s',
           price: { input: 1, output: 2 }, ...more });
    gateway = await startGateway({
        service: { upstream: { idle_timeout: '1500ms' }, gateway_logs: { bodies: 'all' } },
        credentials: Object.fromEntries(providers.map((name) => [name, { provider: RECORDINGS[name].provider ?? name, base_url: base(name), api_key: KEY }])),
        files: { 'models.yaml': [{ provider: 'openai', model: 'with-responses', api: 'responses' }] },
        projects: demo({
            ...Object.fromEntries(providers.map((name) => [name, endpoint(name)])),
            ...Object.fromEntries(providers.map((name) => [`${name}-native`, endpoint(name, { streaming: { format: 'native' } })])),
            whole: endpoint('openai', { streaming_enabled: false }),
            short: endpoint('openai', { timeout: '700ms' }),
            patient: endpoint('openai', { model: 'patient' }),
            echo: { provider: 'echo', model: 'echo', streaming_enabled: true },
            'echo-cut': { provider: 'echo', model: 'echo/invalid-json', streaming_enabled: true },
            'echo-fails': { provider: 'echo', model: 'echo/fail-503', streaming_enabled: true },
            'echo-slow': { provider: 'echo', model: 'echo/slow-300', streaming_enabled: true },
        }),
    });
});

after(async () => {
    await gateway?.stop();
    upstream?.stop();
});

/** Asks for a stream; `more` are members of the body. */
function ask(slug, more = {}) {
    return gateway.post(slug, { messages: [{ role: 'user', content: 'How many?' }], stream: true, ...more });
}

function play(name, more = {}) {
    upstream.play({ pieces: RECORDINGS[name].pieces, type: RECORDINGS[name].type, ...more });
}

/** What a reader of OpenAI's shape gets out of it. */
function read(text) {
    const got = { text: '', calls: [], finish: undefined, usage: [], roles: 0, done: 0, errors: [], reasoning: '' };
    for (const data of events(text)) {
        if (data === '[DONE]') {
            got.done++;
            continue;
        }
        const event = JSON.parse(data);
        if (event.error) {
            got.errors.push(event.error);
            continue;
        }
        assert.equal(event.object, 'chat.completion.chunk');
        assert.ok(event.id && event.model, data);
        if (event.usage) {
            assert.deepEqual(event.choices, [], 'usage has an event of its own');
            got.usage.push(event.usage);
        }
        const [choice] = event.choices;
        if (!choice) {
            continue;
        }
        got.roles += choice.delta.role === 'assistant' && got.text === '' ? 1 : 0;
        got.text += choice.delta.content ?? '';
        got.reasoning += choice.delta.reasoning_content ?? choice.delta.reasoning ?? '';
        for (const call of choice.delta.tool_calls ?? []) {
            got.calls[call.index] ??= { name: call.function.name, id: call.id, type: call.type, arguments: '' };
            got.calls[call.index].arguments += call.function.arguments ?? '';
        }
        got.finish = choice.finish_reason ?? got.finish;
    }
    return got;
}

function assertWhole(got, { usage = 0 } = {}) {
    assert.equal(got.text, ANSWER.text);
    assert.deepEqual(got.calls.map(({ name, arguments: text }) => ({ name, arguments: text })), [ANSWER.call]);
    assert.ok(got.calls.every(({ id, type }) => id && type === 'function'));
    assert.equal(got.finish, ANSWER.finish);
    assert.deepEqual(got.errors, []);
    assert.equal(got.done, 1, 'one [DONE]');
    assert.equal(got.usage.length, usage);
    assert.ok(got.roles >= 1, 'the role comes first');
}

describe('every provider: "OpenAI chunks whoever answers"', () => {
    for (const name of providers) {
        test(`${name}: text, calls, finish reason; no usage that was not asked for`, async () => {
            play(name);
            const answer = await ask(name);
            assert.equal(answer.status, 200, answer.text);
            assert.equal(answer.headers.get('content-type'), 'text/event-stream');
            assert.equal(answer.headers.get('cache-control'), 'no-store');
            assert.equal(answer.headers.get('x-accel-buffering'), 'no');
            assertWhole(read(answer.text));
            const call = upstream.only();
            assert.equal(call.path, RECORDINGS[name].path);
            assert.equal(call.headers.accept, 'text/event-stream');
            assert.equal(call.headers['accept-encoding'], 'identity');
            assert.equal(call.body.stream, name === 'gemini' ? undefined : true);
            assert.deepEqual(call.body.stream_options, name === 'openai' ? { include_usage: true } : undefined);
            const row = await gateway.row(answer.id);
            assert.equal(row.status, 'ok');
            assert.equal(row.http_status, 200);
            assert.equal(row.streamed, 1);
            assert.equal(row.finish_reason, 'tool_calls');
            assert.equal(row.prompt_tokens, 21, '"usage is always asked of the provider"');
            assert.equal(row.completion_tokens, 9);
            assert.equal(row.cost_basis, 'reported');
            assert.ok(row.first_token_ms >= 0);
            assert.ok(row.bytes_out > answer.text.length);
            assert.equal(JSON.parse(row.response_body).content, ANSWER.text, 'the row keeps what was said');
        });

        test(`${name}: "exactly one usage event from every provider"`, async () => {
            play(name, { gap: 1 });
            const got = read((await ask(name, { stream_options: { include_usage: true } })).text);
            assertWhole(got, { usage: 1 });
            for (const [key, value] of Object.entries(ANSWER.usage)) {
                assert.equal(got.usage[0][key], value, key);
            }
        });

        test(`${name}: "native: the provider's own events, byte for byte"`, async () => {
            play(name, { gap: 1 });
            const answer = await ask(`${name}-native`);
            assert.equal(answer.text, RECORDINGS[name].pieces.join(''));
            assert.equal(answer.headers.get('content-type'), RECORDINGS[name].type ?? 'text/event-stream');
            assert.equal((await gateway.row(answer.id)).prompt_tokens, 21);
        });

        test(`${name}: byte by byte, and in one piece with everything behind it, it is the same`, async () => {
            const bytes = Buffer.from(RECORDINGS[name].pieces.join(''));
            play(name);
            const whole = await ask(name);
            play(name, { pieces: [...bytes].map((byte) => Buffer.from([byte])), gap: 0.01 });
            const cut = await ask(name);
            const plain = (text) => text.replaceAll(/(chatcmpl|call)[-_]\w+|"created":\d+/g, '');
            assert.equal(plain(cut.text), plain(whole.text));
        });

        test(`${name}: an error in mid-stream ends it with an error event, never with [DONE]`, async () => {
            const { error } = RECORDINGS[name];
            for (const gap of [0, 20]) {
                play(name, { pieces: [...beginning(name), error], gap });
                const answer = await ask(name);
                if (gap === 0) { // nothing had gone out yet
                    assertError(answer, 502, 'provider_error');
                    continue;
                }
                const got = read(answer.text);
                assert.equal(answer.status, 200);
                assert.equal(got.done, 0);
                assert.equal(got.errors.length, 1);
                assert.equal(got.errors[0].code, 'provider_error');
                assert.match(got.errors[0].message, /It broke\./);
                assert.ok(got.text.startsWith('Let me look. '), got.text);
                const row = await gateway.row(answer.id);
                assert.equal(row.status, 'provider_error');
                assert.equal(row.http_status, 200);
                assert.ok(row.completion_tokens > 0 && row.cost_nano_usd > 0);
                assert.match(row.cost_basis, /bound|worst_case/);
            }
        });

        test(`${name}: an error as first event is answered with its own status`, async () => {
            const { error } = RECORDINGS[name];
            play(name, { pieces: [error], gap: 5 });
            const answer = await ask(name);
            const { message } = assertError(answer, 502, 'provider_error');
            assert.match(message, /It broke\./);
            assert.equal((await gateway.row(answer.id)).cost_basis, 'none');
        });

        test(`${name}: "an upstream that fails mid-stream ends the stream with an error event"`, async () => {
            for (const end of ['clean', 'cut', 'hold']) {
                play(name, { pieces: beginning(name), gap: 20, end });
                const answer = await ask(name);
                const got = read(answer.text);
                assert.equal(got.done, 0, end);
                assert.equal(got.errors.length, 1, answer.text);
                assert.equal(got.errors[0].code, end === 'hold' ? 'provider_timeout' : 'provider_bad_response');
                assert.ok((await gateway.row(answer.id)).cost_nano_usd > 0);
            }
        });

        test(`${name}: in the native format the error event is one of its own shape`, async () => {
            play(name, { pieces: beginning(name), gap: 20, end: 'cut' });
            const answer = await ask(`${name}-native`);
            const begun = beginning(name).join('');
            assert.ok(answer.text.startsWith(begun), answer.text);
            const own = answer.text.slice(begun.length).replace(/^event: [\w-]+\n/, '').replace(/^data: /, '');
            const said = JSON.parse(own);
            assert.match(said.delta?.error ?? said.error?.message ?? said.error ?? said.message, /cut off/);
        });

        test(`${name}: through the OpenAI SDK's streaming helper`, async () => {
            play(name, { gap: 1 });
            const client = new OpenAI({ baseURL: gateway.api, apiKey: gateway.token, maxRetries: 0 });
            const stream = client.chat.completions.stream({ model: name, messages: [{ role: 'user', content: 'How many?' }],
                                                            stream_options: { include_usage: true } });
            const completion = await stream.finalChatCompletion();
            const [choice] = completion.choices;
            assert.equal(choice.message.content, ANSWER.text);
            assert.equal(choice.message.tool_calls[0].function.arguments, ANSWER.call.arguments);
            assert.equal(choice.finish_reason, 'tool_calls');
            assert.equal(completion.usage.total_tokens, 30);
        });
    }
});

describe('bytes that pass', () => {
    const { pieces } = RECORDINGS.openai;

    test('"Events of openai credentials pass through byte for byte", without the usage event', async () => {
        play('openai', { gap: 2 });
        const answer = await ask('openai');
        assert.equal(answer.text, pieces.filter((piece) => !piece.includes('"choices":[]')).join(''));
        play('openai', { gap: 2 });
        assert.equal((await ask('openai', { stream_options: { include_usage: true } })).text, pieces.join(''));
    });

    for (const [what, alter] of Object.entries({
        'CRLF': (text) => text.replaceAll('\n', '\r\n'),
        'comments': (text) => text.replaceAll('data: ', ': a comment\ndata: '),
        'a byte order mark': (text) => `\ufeff${text}`,
        'no space behind the colon': (text) => text.replaceAll('data: ', 'data:'),
        'other fields': (text) => text.replaceAll('data: ', 'id: 7\nretry: 10\nevent: message\ndata: '),
    })) {
        test(`${what} goes through as it is`, async () => {
            const altered = pieces.map((piece, i) => i === 0 || what !== 'a byte order mark' ? alter(piece) : piece);
            play('openai', { pieces: altered, gap: 2 });
            const answer = await ask('openai', { stream_options: { include_usage: true } });
            assert.equal(answer.text, altered.join('').replace('\ufeff', '')); // `fetch` takes the mark away
        });
    }

    test('members that nobody knows, and events behind the reason to end, go through', async () => {
        const odd = pieces[1].replace('"obfuscation"', '"x_new":{"deep":[1,1.50,1e400]},"obfuscation"');
        const late = 'data: {"id":"chatcmpl-r1","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[],"moderation":{}}\n\n';
        const altered = [pieces[0], odd, ...pieces.slice(2, 7), late, ...pieces.slice(7)];
        play('openai', { pieces: altered, gap: 2 });
        assert.equal((await ask('openai', { stream_options: { include_usage: true } })).text, altered.join(''));
    });

    test('an event of a mebibyte goes through', async () => {
        const large = pieces[1].replace('Let me look. ', 'x'.repeat(1 << 20));
        play('openai', { pieces: [pieces[0], large, ...pieces.slice(6)], gap: 1 });
        const answer = await ask('openai');
        assert.ok(answer.text.includes(large));
        assert.equal(read(answer.text).done, 1);
    });

    test('one of more than 16 MiB does not', async () => {
        const large = pieces[1].replace('Let me look. ', 'x'.repeat(17 << 20));
        play('openai', { pieces: [large, ...pieces.slice(6)], gap: 1 });
        assert.match(assertError(await ask('openai'), 502, 'provider_bad_response').message, /16 MiB/);
    });

    test('what lacks its last empty line is an event all the same', async () => {
        for (const name of ['gemini', 'ollama', 'cohere']) {
            const { pieces: own } = RECORDINGS[name];
            const cut = [...own.slice(0, -1), own.at(-1).trimEnd()];
            play(name, { pieces: cut, gap: 2 });
            assertWhole(read((await ask(name)).text));
        }
    });
});

describe('what is said more than once', () => {
    test('a reason to end in every event: one goes out, behind everything', async () => {
        const of = (text, finishReason) => `data: ${JSON.stringify({ candidates: [{ content: { parts: [{ text }] }, finishReason }],
                                                                      usageMetadata: { promptTokenCount: 1, candidatesTokenCount: 2 } })}\n\n`;
        play('gemini', { pieces: [of('Let ', 'STOP'), of('me ', 'STOP'), of('look.', 'MAX_TOKENS')], gap: 10 });
        const answer = await ask('gemini', { stream_options: { include_usage: true } });
        const reasons = events(answer.text).slice(0, -1).map((data) => JSON.parse(data).choices[0]?.finish_reason);
        assert.deepEqual(reasons, [null, null, null, null, 'length', undefined]);
        assert.equal(read(answer.text).text, 'Let me look.');
    });

    test('usage twice: one event', async () => {
        const { pieces } = RECORDINGS.openai;
        play('openai', { pieces: [...pieces.slice(0, 8), pieces[7], pieces[8]] });
        assertWhole(read((await ask('openai', { stream_options: { include_usage: true } })).text), { usage: 1 });
    });

    test('an event named error is one, whatever is in it', async () => {
        const { pieces } = RECORDINGS.openai;
        play('openai', { pieces: [...pieces.slice(0, 3), 'event: error\ndata: {"message":"It broke."}\n\n'], gap: 10 });
        assert.equal(read((await ask('openai')).text).errors[0].code, 'provider_error');
    });
});

describe('what is no stream', () => {
    for (const [what, script] of Object.entries({
        'JSON': { type: 'application/json', pieces: ['{"error":{"message":"It broke."}}'] },
        'malformed JSON': { type: 'application/json', pieces: ['{malformed json: <<<chaos>>>}'] },
        'a page': { type: 'text/html', pieces: ['<html></html>'] },
        'nothing': { pieces: [] },
        'only comments': { pieces: [': ping\n\n', ': ping\n\n'] },
        'only a role': { pieces: RECORDINGS.openai.pieces.slice(0, 1) },
        'only [DONE]': { pieces: ['data: [DONE]\n\n'] },
        'text': { pieces: ['hello'] },
    })) {
        test(`${what} as answer to a request for a stream: 502 provider_bad_response`, async () => {
            upstream.play(script);
            const answer = await ask('openai');
            assertError(answer, 502, 'provider_bad_response');
            assert.equal((await gateway.row(answer.id)).streamed, 1);
        });
    }

    test('an event that is not JSON: 502 before the first, an error event after it', async () => {
        upstream.play({ pieces: ['data: {"choices":\n\n'] });
        assertError(await ask('openai'), 502, 'provider_bad_response');
        upstream.play({ pieces: [...RECORDINGS.openai.pieces.slice(0, 3), 'data: {"choices":\n\n'], gap: 20 });
        assert.equal(read((await ask('openai')).text).errors[0].code, 'provider_bad_response');
    });

    test('another status is answered as without streaming', async () => {
        upstream.play({ status: 429, type: 'application/json', pieces: ['{"error":{"message":"slow"}}'] });
        assertError(await ask('openai'), 502, 'provider_error');
        upstream.play({ status: 422, type: 'application/json', pieces: ['{"error":{"message":"No such thing."}}'] });
        assert.match(assertError(await ask('openai'), 422, 'provider_rejected').message, /No such thing\./);
    });

    test('no content type, and that of others, is read as what was asked for', async () => {
        for (const type of [null, 'text/plain; charset=utf-8', 'text/event-stream;charset=utf-8']) {
            play('openai', { type });
            assertWhole(read((await ask('openai')).text));
        }
        play('ollama', { type: 'application/json' });
        assertWhole(read((await ask('ollama')).text));
    });
});

describe('who may stream', () => {
    test('"with it off, 422 streaming_disabled"', async () => {
        assert.equal(assertError(await ask('whole'), 422, 'streaming_disabled').param, 'stream');
    });

    test('without "stream": true nothing is streamed', async () => {
        upstream.play({ type: 'application/json', pieces: [JSON.stringify({ id: 'x', choices: [{ message: { content: 'Hi' }, finish_reason: 'stop' }] })] });
        const answer = await ask('openai', { stream: false, stream_options: { include_usage: true } });
        assert.equal(answer.json.content, 'Hi');
        assert.equal(upstream.only().body.stream, undefined);
        assert.equal((await gateway.row(answer.id)).streamed, 0);
    });

    test('stream and stream_options of a wrong type are 400', async () => {
        assertError(await ask('openai', { stream: 'yes' }), 400, 'invalid_request');
        assertError(await ask('openai', { stream_options: true }), 400, 'invalid_request');
        assertError(await ask('openai', { stream_options: { include_usage: 1 } }), 400, 'invalid_request');
    });

    test('"openai (default, and always on the dispatcher)"', async () => {
        play('anthropic');
        assertWhole(read((await ask('chat/completions', { model: 'anthropic-native' })).text));
    });
});

describe('echo', () => {
    test('"streams word by word", and its usage', async () => {
        const answer = await ask('echo', { messages: [{ role: 'user', content: 'one two  three' }], stream_options: { include_usage: true } });
        const words = events(answer.text).filter((data) => data.includes('"content"')).map((data) => JSON.parse(data).choices[0].delta.content);
        assert.deepEqual(words, ['one ', 'two  ', 'three']);
        const got = read(answer.text);
        assert.equal(got.usage.length, 1);
        assert.equal(got.done, 1);
    });

    test('its failures', async () => {
        assertError(await ask('echo-fails'), 502, 'provider_error');
        assertError(await ask('echo-cut'), 502, 'provider_bad_response');
        assert.equal(read((await ask('echo-slow')).text).text, 'How many?');
    });

    test('with curl -N', async () => {
        const out = await new Promise((resolve, reject) => {
            execFile('curl', ['-sSN', '-H', `Authorization: Bearer ${gateway.token}`, '-H', 'Content-Type: application/json',
                              '-d', '{"message":"Hi there","stream":true}', `${gateway.api}/echo`],
                     (error, stdout) => error ? reject(error) : resolve(stdout));
        });
        assert.equal(read(out).text, 'Hi there');
    });
});

/** A request whose answer is read by hand: { response, received(), leave() }. */
function open(slug, more = {}, agentOptions = {}) {
    return new Promise((resolve, reject) => {
        const body = JSON.stringify({ message: 'How many?', stream: true, ...more });
        const request = http.request(`${gateway.api}/${slug}`, {
            method: 'POST', agent: false, ...agentOptions,
            headers: { authorization: `Bearer ${gateway.token}`, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
        });
        request.on('error', reject).on('response', (response) => resolve({ request, response, at: Date.now() }));
        request.end(body);
    });
}

describe('while nothing comes', () => {
    test('": keep-alive comments every 10 s"; "it begins at the latest after 10 s; a failure after that is an error event"', async () => {
        const began = Date.now();
        upstream.play({ status: 503, type: 'application/json', pieces: ['{"error":{"message":"slow"}}'], before: 21_000 });
        const answer = await ask('patient');
        assert.ok(Date.now() - began > 20_500);
        assert.equal(answer.status, 200);
        assert.equal(answer.text.match(/^: keep-alive$/gm).length, 2);
        assert.ok(answer.text.startsWith(': keep-alive\n\n: keep-alive\n\ndata: {"error":'), answer.text);
        assert.equal(read(answer.text).errors[0].code, 'provider_error');
    });

    test('the answer begins with the first event that carries something', async () => {
        const { pieces } = RECORDINGS.openai;
        upstream.play({ pieces: [pieces[0], ': ping\n\n', pieces[1], ...pieces.slice(6)], gap: 300 });
        const began = Date.now();
        const { at, response } = await open('openai');
        response.resume();
        assert.ok(at - began >= 550, `after ${at - began} ms`);
    });

    test('the whole time is limited', async () => {
        const { pieces } = RECORDINGS.openai;
        play('openai', { pieces: [...pieces.slice(0, 3), ...Array(40).fill(pieces[2])], gap: 50 });
        const got = read((await ask('short')).text);
        assert.equal(got.errors[0].code, 'provider_timeout');
        assert.equal(got.done, 0);
    });
});
