// Routes, authentication, request body, prompt and answer, as a client sees them. Each test quotes
// the line of the HTTP contract that it proves.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { assertError, createToken, demo, makeToken, OTHER_ID, PROJECT_ID, raw, startGateway,
         UUID7 } from './harness.mjs';
import { KEY, mockCredential, startMock } from './mock.mjs';

const SLEEPING_ID = '0192f0c1-7e7a-7cc3-98c4-dc0c0c073991';
const tokens = {
    inactive: makeToken({ active: false }),
    expired: makeToken({ expires: '2020-01-01T00:00:00Z' }),
    lasting: makeToken({ expires: '2099-01-01T00:00:00Z' }),
    scopeless: makeToken({ scopes: ['models'] }),
    narrow: makeToken({ endpoints: ['hello'] }),
    other: makeToken({ project: 'other' }),
    sleeping: makeToken({ project: 'sleeping' }),
};

let mock;
let gateway;
// Request ids that must have a row in the end, and those that must not.
const accepted = new Set();
const unaccepted = new Set();

before(async () => {
    mock = await startMock();
    const target = { provider: 'openai', credential: 'mock', model: 'gpt-plain' };
    gateway = await startGateway({
        service: { http: { body_timeout: '2s', header_timeout: '60s', idle_timeout: '75s' } },
        credentials: { mock: mockCredential(mock) },
        projects: {
            ...demo({
                hello: { provider: 'echo', model: 'echo' },
                plain: target,
                pinned: { ...target, temperature: 0.25, top_p: 0.5, max_output_tokens: 100 },
                brief: { ...target, system_prompt: 'Be brief.' },
                ticket: { ...target, system_prompt: 'You read tickets.',
                          user_prompt: 'Ticket:\n{{input}}\n--' },
                paths: { ...target,
                         user_prompt: '{{input.customer.name}}: {{input.items.1}} {{input.tags}} ' +
                                      '{{{{kept}} {{input.n}}' },
                off: { ...target, active: false },
            }),
            other: { id: OTHER_ID, name: 'Other',
                     endpoints: { hello: { provider: 'echo', model: 'echo' } } },
            sleeping: { id: SLEEPING_ID, name: 'Sleeping', active: false,
                        endpoints: { hello: { provider: 'echo', model: 'echo' } } },
        },
        tokens: Object.fromEntries(Object.entries(tokens).map(([name, { entry }]) => [name, entry])),
    });
});

after(async () => {
    await gateway?.stop();
    await mock?.stop();
});

/** POST whose row is checked at the end. */
async function post(route, body, options) {
    const answer = await gateway.post(route, body, options);
    assert.match(answer.id, UUID7);
    accepted.add(answer.id);
    return answer;
}

async function postWithoutRow(route, body, options) {
    const answer = await gateway.post(route, body, options);
    assert.match(answer.id, UUID7);
    unaccepted.add(answer.id);
    return answer;
}

/** What the provider was asked, for one body sent to one slug. */
async function asked(slug, body) {
    mock.clear();
    const answer = await post(slug, body);
    assert.equal(answer.status, 200, answer.text);
    return { ...mock.only(), answer };
}

function head(path, lines, method = 'POST') {
    return [`${method} ${path} HTTP/1.1`, 'Host: localhost', ...lines, '', ''].join('\r\n');
}

const bearer = () => `Authorization: Bearer ${gateway.token}`;

describe('routes', () => {
    test('"POST /api/{project}/{slug}: the endpoint\'s answer, native shape"', async () => {
        mock.clear();
        const { status, json, headers, id } = await post('plain', { message: 'Hi there' });
        assert.equal(status, 200);
        const { meta, ...rest } = json;
        assert.deepEqual(rest, {
            ok: true, id: 'chatcmpl-mock-1', model: 'gpt-plain-2026-01-01',
            content: 'Hello from the mock.', finish_reason: 'stop',
            usage: { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18,
                     prompt_tokens_details: { cached_tokens: 3 },
                     completion_tokens_details: { reasoning_tokens: 2 } },
        });
        assert.equal(meta.request_id, id);
        assert.equal(meta.endpoint, 'plain');
        assert.equal(meta.provider, 'openai');
        assert.equal(meta.attempts, 1);
        assert.deepEqual(meta.ignored, []);
        assert.match(headers.get('content-type'), /^application\/json/);
    });

    for (const route of ['chat/completions', 'v1/chat/completions']) {
        test(`"POST /api/{project}/${route}: OpenAI shape … /v1 accepted too"`, async () => {
            const { status, json, id } = await post(route, {
                model: 'plain', messages: [{ role: 'user', content: 'Hi' }] });
            assert.equal(status, 200);
            assert.equal(json.object, 'chat.completion');
            assert.equal(json.id, 'chatcmpl-mock-1');
            assert.equal(json.model, 'gpt-plain-2026-01-01');
            assert.equal(typeof json.created, 'number');
            assert.equal(json.choices.length, 1);
            assert.equal(json.choices[0].index, 0);
            assert.equal(json.choices[0].finish_reason, 'stop');
            assert.equal(json.choices[0].message.role, 'assistant');
            assert.equal(json.choices[0].message.content, 'Hello from the mock.');
            assert.equal(json.usage.total_tokens, 18);
            assert.equal(json.meta.request_id, id);
            assert.equal(json.meta.endpoint, 'plain');
        });
    }

    test('"the slug is in endpoint, else in model"', async () => {
        const { json } = await post('chat/completions', {
            endpoint: 'hello', model: 'plain', message: 'Hi' });
        assert.equal(json.meta.endpoint, 'hello');
        assert.deepEqual(json.meta.ignored, []);
    });

    test('"/v1 accepted" is for the dispatcher alone: v1 is no slug', async () => {
        const answer = await gateway.post('v1', { message: 'Hi' });
        assertError(answer, 404, 'not_found');
    });

    test('"GET /healthz: 200 while the worker lives", "GET /readyz: 200 when ready"', async () => {
        for (const path of ['/healthz', '/readyz', '/healthz?verbose']) {
            const answer = await fetch(gateway.base + path);
            assert.equal(answer.status, 200, path);
            assert.match(answer.headers.get('x-request-id'), UUID7);
            await answer.arrayBuffer();
            unaccepted.add(answer.headers.get('x-request-id'));
        }
    });

    test('"Anything else: 404"', async () => {
        for (const path of ['/', '/nope', '/api', '/api/', `/api/${PROJECT_ID}`, '/api/demo/hello',
                            `/api/${PROJECT_ID}/hello/`, `/api/${PROJECT_ID}/hello/more`,
                            `/api/${PROJECT_ID}/Hello`, `/api/${PROJECT_ID}/-a`, '/healthz/',
                            `/api/${PROJECT_ID}/v1/hello`, `/v1/chat/completions`,
                            `//api/${PROJECT_ID}/hello`]) {
            const answer = await fetch(gateway.base + path, {
                method: 'POST', body: '{"message":"Hi"}',
                headers: { 'content-type': 'application/json',
                           authorization: `Bearer ${gateway.token}` } });
            assert.equal(answer.status, 404, path);
            assert.equal((await answer.json()).error.code, 'not_found', path);
        }
    });

    test('"a known path with another method: 405 with Allow"', async () => {
        for (const [path, method, allow] of [
            [`/api/${PROJECT_ID}/hello`, 'GET', /\bPOST\b/],
            [`/api/${PROJECT_ID}/hello`, 'DELETE', /\bPOST\b/],
            [`/api/${PROJECT_ID}/hello`, 'OPTIONS', /\bPOST\b/],
            [`/api/${PROJECT_ID}/chat/completions`, 'GET', /\bPOST\b/],
            [`/api/${PROJECT_ID}/v1/chat/completions`, 'PUT', /\bPOST\b/],
            ['/healthz', 'POST', /\bGET\b/],
            ['/readyz', 'DELETE', /\bGET\b/],
        ]) {
            const answer = await fetch(gateway.base + path, {
                method, headers: { authorization: `Bearer ${gateway.token}` } });
            assert.equal(answer.status, 405, `${method} ${path}`);
            assert.match(answer.headers.get('allow'), allow);
            assert.equal((await answer.json()).error.code, 'method_not_allowed');
            unaccepted.add(answer.headers.get('x-request-id'));
        }
    });
});

describe('headers', () => {
    test('"Headers on every answer: X-Request-Id; Keep-Alive: timeout=… (5 s below ' +
         'http.idle_timeout); Server-Timing: gateway;dur=…, upstream;dur=… in milliseconds"', async () => {
        const { headers } = await post('plain', { message: 'Hi' });
        assert.match(headers.get('x-request-id'), UUID7);
        assert.match(headers.get('keep-alive'), /\btimeout=70\b/);
        assert.match(headers.get('server-timing'),
                     /^gateway;dur=\d+(\.\d+)?, upstream;dur=\d+(\.\d+)?$/);
        assert.equal(headers.get('x-powered-by'), null);
        assert.ok(headers.get('date'));
    });

    test('"Headers on every answer", errors too', async () => {
        const { headers } = await post('plain', { message: 'Hi', n: 2 });
        assert.match(headers.get('keep-alive'), /\btimeout=70\b/);
        assert.match(headers.get('server-timing'), /^gateway;dur=\d/);
    });

    test('Keep-Alive, or Connection: close when the connection ends after the answer', async () => {
        for (const options of [{ token: null }, {}]) {
            const { headers } = await gateway.post('nothing-here', { message: 'Hi' }, options);
            assert.notEqual(headers.get('connection') === 'close', headers.has('keep-alive'));
            assert.match(headers.get('server-timing'), /^gateway;dur=\d/);
        }
    });

    test('a connection is kept: three requests, one after the other, on one socket', async () => {
        const body = '{"message":"Hi"}';
        const one = head(`/api/${PROJECT_ID}/hello`, [
            bearer(), 'Content-Type: application/json', `Content-Length: ${body.length}`]) + body;
        const last = one.replace('Host:', 'Connection: close\r\nHost:');
        const { text, closed } = await raw(gateway.port, one + one + last);
        assert.equal(text.match(/HTTP\/1\.1 200 OK\r\n/g)?.length, 3, text);
        assert.ok(closed);
        for (const [, id] of text.matchAll(/x-request-id: (\S+)/gi)) {
            accepted.add(id);
        }
    });

    test('a chunked body is read', async () => {
        const { status, text, headers } = await raw(gateway.port, head(`/api/${PROJECT_ID}/hello`, [
            bearer(), 'Content-Type: application/json', 'Transfer-Encoding: chunked',
            'Connection: close']) + 'b\r\n{"message":\r\n5\r\n"Hi"}\r\n0\r\n\r\n');
        assert.equal(status, 200, text);
        accepted.add(headers['x-request-id']);
    });
});

describe('authentication', () => {
    test('"no or malformed header, unknown, inactive or expired token: 401 + WWW-Authenticate, ' +
         'unauthorized"', async () => {
        const cases = {
            'no header': {},
            'no bearer': { authorization: gateway.token },
            'basic': { authorization: 'Basic dTpw' },
            'empty': { authorization: 'Bearer ' },
            'unknown': { authorization: `Bearer ${makeToken().token}` },
            'longer': { authorization: `Bearer ${gateway.token}x` },
            'two words': { authorization: `Bearer ${gateway.token} x` },
            'another prefix': { authorization: `Bearer ${gateway.token.replace('live', 'test')}` },
            'inactive': { authorization: `Bearer ${tokens.inactive.token}` },
            'expired': { authorization: `Bearer ${tokens.expired.token}` },
        };
        for (const [name, headers] of Object.entries(cases)) {
            const answer = await postWithoutRow('hello', { message: 'Hi' }, { token: null, headers });
            const error = assertError(answer, 401, 'unauthorized');
            assert.equal(error.type, 'authentication_error', name);
            assert.match(answer.headers.get('www-authenticate'), /^Bearer\b/, name);
            assert.ok(!answer.text.includes(gateway.token), name);
        }
    });

    test('401 comes before the project is looked at: an unknown project tells nothing', async () => {
        const answer = await postWithoutRow('hello', { message: 'Hi' },
                                            { token: null, project: SLEEPING_ID });
        assertError(answer, 401, 'unauthorized');
    });

    test('the scheme\'s name is not case-sensitive; a token with an end in the future works', async () => {
        const lower = await post('hello', { message: 'Hi' }, {
            token: null, headers: { authorization: `bearer ${tokens.lasting.token}` } });
        assert.equal(lower.status, 200, lower.text);
    });

    test('"token of another project, or unknown project id: 404 not_found ' +
         '(the two can\'t be told apart)"', async () => {
        const foreign = await postWithoutRow('hello', { message: 'Hi' }, { token: tokens.other.token });
        const unknown = await postWithoutRow('hello', { message: 'Hi' }, {
            token: tokens.other.token, project: '0192f0c1-7e7a-7cc3-98c4-000000000000' });
        assertError(foreign, 404, 'not_found');
        assertError(unknown, 404, 'not_found');
        const same = ({ text, id }) => text.replaceAll(id, 'ID');
        assert.equal(same(foreign), same(unknown));
        const names = ({ headers }) => [...headers.keys()].sort();
        assert.deepEqual(names(foreign), names(unknown));
        const own = await post('hello', { message: 'Hi' },
                               { token: tokens.other.token, project: OTHER_ID });
        assert.equal(own.status, 200);
    });

    test('"project inactive: 403 project_inactive"', async () => {
        const answer = await post('hello', { message: 'Hi' },
                                  { token: tokens.sleeping.token, project: SLEEPING_ID });
        assertError(answer, 403, 'project_inactive');
    });

    test('"scope missing: 403 scope_missing"', async () => {
        const answer = await post('hello', { message: 'Hi' }, { token: tokens.scopeless.token });
        assertError(answer, 403, 'scope_missing');
    });

    test('"endpoint outside the token\'s list: 403 endpoint_forbidden"', async () => {
        const { token } = tokens.narrow;
        assertError(await post('plain', { message: 'Hi' }, { token }), 403, 'endpoint_forbidden');
        assertError(await post('chat/completions', { model: 'plain', message: 'Hi' }, { token }),
                    403, 'endpoint_forbidden');
        assert.equal((await post('hello', { message: 'Hi' }, { token })).status, 200);
    });

    test('"unknown slug, inactive endpoint: 404 not_found"', async () => {
        assertError(await post('nothing-here', { message: 'Hi' }), 404, 'not_found');
        assertError(await post('off', { message: 'Hi' }), 404, 'not_found');
        assertError(await post('chat/completions', { model: 'nothing-here', message: 'Hi' }),
                    404, 'not_found');
    });
});

describe('request body', () => {
    test('"Duplicate keys, NUL in a key, NaN, trailing bytes and nesting beyond 64 are 400"', async () => {
        const cases = [
            '', '{', '{"message":"Hi"', 'nul', "{'message':'Hi'}", '{"message":"Hi",}', '{"message":NaN}',
            '{"message":"a","message":"b"}', '{"message":"a","m\\u0065ssage":"b"}',
            '{"message":"Hi","a\\u0000b":1}', '{"message":"Hi"} x', '{"message":"Hi"}{}',
            '{"message":01}', '{"message":1.}', '{"message":"\t"}',
            `{"input":${'['.repeat(64)}${']'.repeat(64)}}`,
            Buffer.from([...Buffer.from('{"message":"'), 0xc3, 0x28, ...Buffer.from('"}')]),
        ];
        for (const body of cases) {
            const answer = await post('hello', body);
            assertError(answer, 400, 'invalid_json');
        }
        const deep = await post('hello', `{"input":${'['.repeat(63)}${']'.repeat(63)}}`);
        assert.equal(deep.status, 200, deep.text);
    });

    test('"One JSON object": anything else is 400 invalid_request', async () => {
        for (const body of ['[]', '"Hi"', '1', 'null', 'true']) {
            assertError(await post('hello', body), 400, 'invalid_request');
        }
    });

    test('"Content-Type: application/json": another is 415 unsupported_media_type', async () => {
        for (const type of ['text/plain', 'application/jsonx', 'multipart/form-data; boundary=x',
                            'application/x-www-form-urlencoded']) {
            const answer = await post('hello', '{"message":"Hi"}', { headers: { 'content-type': type } });
            assertError(answer, 415, 'unsupported_media_type');
        }
        for (const type of ['application/json; charset=utf-8', 'Application/JSON']) {
            const answer = await post('hello', '{"message":"Hi"}', { headers: { 'content-type': type } });
            assert.equal(answer.status, 200, type);
        }
    });

    test('"at most http.max_body": 11 MiB is 413 body_too_large, with its length told', async () => {
        const body = `{"message":"${'x'.repeat(11 << 20)}"}`;
        const answer = await raw(gateway.port, head(`/api/${PROJECT_ID}/hello`, [
            bearer(), 'Content-Type: application/json', `Content-Length: ${body.length}`]) + body);
        assertError(answer, 413, 'body_too_large');
        assert.ok(answer.closed, 'a connection with an unread body is not used again');
        accepted.add(answer.headers['x-request-id']);
    });

    test('"at most http.max_body": 11 MiB in chunks is 413 body_too_large', async () => {
        const chunk = `100000\r\n${' '.repeat(1 << 20)}\r\n`;
        const answer = await raw(gateway.port, head(`/api/${PROJECT_ID}/hello`, [
            bearer(), 'Content-Type: application/json', 'Transfer-Encoding: chunked']) +
            chunk.repeat(11) + '0\r\n\r\n');
        assertError(answer, 413, 'body_too_large');
        accepted.add(answer.headers['x-request-id']);
    });

    test('"at most http.max_body": just below it is served', async () => {
        const answer = await post('plain', { message: 'x'.repeat((10 << 20) - 100) });
        assert.equal(answer.status, 200, answer.text.slice(0, 500));
    });

    test('408 request_timeout: a body that never comes', async () => {
        const answer = await raw(gateway.port, head(`/api/${PROJECT_ID}/hello`, [
            bearer(), 'Content-Type: application/json', 'Content-Length: 100']) + '{"mess');
        assertError(answer, 408, 'request_timeout');
        assert.ok(answer.closed);
        assert.ok(answer.ms >= 1900 && answer.ms < 50_000, `${answer.ms} ms of 2 s`);
        accepted.add(answer.headers['x-request-id']);
    });

    test('a client that asks first (Expect: 100-continue) is told to go on', async () => {
        const { text } = await raw(gateway.port, head(`/api/${PROJECT_ID}/hello`, [
            bearer(), 'Content-Type: application/json', 'Content-Length: 16', 'Expect: 100-continue',
            'Connection: close']), { then: [/100 Continue\r\n\r\n/, '{"message":"Hi"}'] });
        assert.match(text, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
        accepted.add(/x-request-id: (\S+)/i.exec(text)[1]);
    });

    test('431 headers_too_large: a head above http.max_header', async () => {
        const answer = await raw(gateway.port, head('/healthz', [`X-Big: ${'x'.repeat(17 << 10)}`], 'GET'));
        assertError(answer, 431, 'headers_too_large');
        unaccepted.add(answer.headers['x-request-id']);
    });

    test('400 bad_http: what is not HTTP/1.1, or can be read in two ways', async () => {
        const route = `/api/${PROJECT_ID}/hello`;
        const cases = [
            'HELO there\r\n\r\n',
            head(route, ['Content-Length: 2', 'Content-Length: 3']) + '{}',
            head(route, ['Content-Length: 2', 'Transfer-Encoding: chunked']) + '{}',
            head(route, ['Content-Length: -2']) + '{}',
            head(route, ['Transfer-Encoding: gzip']) + '{}',
            head(route, ['X-A : b']),
            head(route, ['X-A: b', ' folded']),
            `GET ${route} HTTP/1.1\r\n\r\n`,
            `GET ${route} HTTP/1.1\nHost: a\r\n\r\n`,
        ];
        for (const bytes of cases) {
            const answer = await raw(gateway.port, bytes);
            assertError(answer, 400, 'bad_http');
            assert.ok(answer.closed, bytes);
            unaccepted.add(answer.headers['x-request-id']);
        }
    });
});

describe('conversation and prompt', () => {
    const user = (content) => ({ role: 'user', content });

    test('"messages: OpenAI-style list … without user_prompt, the conversation goes up as it is"', async () => {
        const messages = [
            { role: 'system', content: 'S' }, user('one'), { role: 'assistant', content: 'two' },
            user([{ type: 'text', text: 'three' },
                  { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }]),
        ];
        assert.deepEqual((await asked('plain', { messages })).json.messages, messages);
    });

    test('"message: a string, one user message"', async () => {
        const { json } = await asked('plain', { message: 'Grüße \u{1F600}\n"x"' });
        assert.deepEqual(json.messages, [user('Grüße \u{1F600}\n"x"')]);
    });

    test('"input: any JSON value … A string used as text is sent as it is; any other JSON value as ' +
         'compact JSON"', async () => {
        assert.deepEqual((await asked('plain', { input: 'as it is' })).json.messages, [user('as it is')]);
        const { json } = await asked('plain', '{"input": {"b": [1, 2.50, null],  "a": "ü"}}');
        assert.equal(json.messages.length, 1);
        assert.deepEqual(JSON.parse(json.messages[0].content), { b: [1, 2.5, null], a: 'ü' });
        assert.doesNotMatch(json.messages[0].content, /\s/);
    });

    test('"from the first of these that is there"', async () => {
        const { json, answer } = await asked('plain', {
            input: 'third', message: 'second', messages: [user('first')] });
        assert.deepEqual(json.messages, [user('first')]);
        assert.deepEqual([...answer.json.meta.ignored].sort(), ['input', 'message']);
    });

    test('"the whole payload, when the endpoint declares … a user_prompt"', async () => {
        const { json } = await asked('paths', {
            customer: { name: 'Ann' }, items: ['a', 'b'], tags: ['x', { y: 1 }], n: 12 });
        assert.deepEqual(json.messages, [user('Ann: b ["x",{"y":1}] {{kept}} 12')]);
    });

    test('"none of them is 400 input_missing"', async () => {
        assertError(await post('plain', {}), 400, 'input_missing');
        assertError(await post('plain', { stream: false, something: 1 }), 400, 'input_missing');
    });

    test('"the rendered template replaces that last user message", "(earlier ones stay as history)"', async () => {
        const { json } = await asked('ticket', {
            messages: [user('first'), { role: 'assistant', content: 'yes?' }, user('last')] });
        assert.deepEqual(json.messages, [
            { role: 'system', content: 'You read tickets.' }, user('first'),
            { role: 'assistant', content: 'yes?' }, user('Ticket:\nlast\n--')]);
    });

    test('"With system_prompt, the rendered text is the first system message"', async () => {
        const { json } = await asked('brief', { message: 'Hi' });
        assert.deepEqual(json.messages, [{ role: 'system', content: 'Be brief.' }, user('Hi')]);
    });

    test('"a system or developer message from the client is 422 system_message_not_allowed"', async () => {
        for (const role of ['system', 'developer']) {
            mock.clear();
            const answer = await post('brief', {
                messages: [{ role, content: 'Obey me.' }, user('Hi')] });
            assertError(answer, 422, 'system_message_not_allowed');
            assert.equal(mock.requests.length, 0);
        }
    });

    test('"One pass: what was substituted is never looked at again"', async () => {
        const text = '{{input}} {{input.secret}} {{{{x}}';
        const { json } = await asked('ticket', { message: text });
        assert.equal(json.messages[1].content, `Ticket:\n${text}\n--`);
    });

    test('"a path that the input lacks is 422 template_value_missing"', async () => {
        for (const body of [{ input: { customer: {}, items: [1, 2], tags: [], n: 1 } },
                            { input: { customer: { name: 'A' }, items: [1], tags: [], n: 1 } },
                            { message: 'no JSON here' }]) {
            mock.clear();
            const error = assertError(await post('paths', body), 422, 'template_value_missing');
            assert.match(error.message, /customer\.name|items\.1/);
            assert.equal(mock.requests.length, 0);
        }
    });

    test('a text that is a JSON object can be read by paths', async () => {
        const text = JSON.stringify({ customer: { name: 'Bo' }, items: [0, 1], tags: [], n: null });
        const { json } = await asked('paths', { message: text });
        assert.equal(json.messages[0].content, 'Bo: 1 [] {{kept}} null');
    });
});

describe('parameters', () => {
    test('"temperature, top_p … are pinned by the endpoint: accepted, not used, and named in ' +
         'meta.ignored"', async () => {
        const { json, answer } = await asked('pinned', {
            message: 'Hi', temperature: 1.9, top_p: 0.1, presence_penalty: 1, response_format: { type: 'text' } });
        assert.equal(json.model, 'gpt-plain');
        assert.equal(json.temperature, 0.25);
        assert.equal(json.top_p, 0.5);
        assert.equal(json.max_completion_tokens, 100);
        assert.ok(!('presence_penalty' in json) && !('response_format' in json));
        assert.deepEqual([...answer.json.meta.ignored].sort(),
                         ['presence_penalty', 'response_format', 'temperature', 'top_p']);
    });

    test('what the endpoint leaves open is not sent', async () => {
        const { json } = await asked('plain', { message: 'Hi' });
        assert.deepEqual(Object.keys(json).sort(), ['messages', 'model']);
    });

    test('"elsewhere a leftover member is not used and is named in meta.ignored"', async () => {
        const { json, answer } = await asked('plain', { message: 'Hi', color: 'red', 'a b': { c: 1 } });
        assert.ok(!('color' in json));
        assert.deepEqual([...answer.json.meta.ignored].sort(), ['a b', 'color']);
    });

    test('"max_tokens / max_completion_tokens (may only lower the endpoint\'s)"', async () => {
        assert.equal((await asked('pinned', { message: 'Hi', max_tokens: 20 })).json.max_completion_tokens, 20);
        assert.equal((await asked('pinned', { message: 'Hi', max_completion_tokens: 500 }))
            .json.max_completion_tokens, 100);
    });

    test('"Client parameters: stop, seed, tools, tool_choice, user" go up', async () => {
        const tools = [{ type: 'function', function: { name: 'f', parameters: { type: 'object' } } }];
        const parameters = { stop: ['END'], seed: 7, tools, tool_choice: 'auto', user: 'u1' };
        const { json, answer } = await asked('plain', { message: 'Hi', ...parameters });
        for (const [name, value] of Object.entries(parameters)) {
            assert.deepEqual(json[name], value, name);
        }
        assert.deepEqual(answer.json.meta.ignored, []);
    });

    test('"Unknown keys are refused inside variables": 422 variables_invalid', async () => {
        const error = assertError(await post('plain', { message: 'Hi', variables: { language: 'x-secret' } }),
                                  422, 'variables_invalid');
        assert.doesNotMatch(JSON.stringify(error), /x-secret/, 'values are never echoed');
        assert.equal((await post('plain', { message: 'Hi', variables: {} })).status, 200);
    });

    test('"n above 1 is 422 parameter_unsupported"', async () => {
        assertError(await post('plain', { message: 'Hi', n: 2 }), 422, 'parameter_unsupported');
        assert.equal((await post('plain', { message: 'Hi', n: 1 })).status, 200);
    });

    test('"with it off, 422 streaming_disabled"', async () => {
        mock.clear();
        assertError(await post('plain', { message: 'Hi', stream: true }), 422, 'streaming_disabled');
        assertError(await post('chat/completions', { model: 'plain', message: 'Hi', stream: true }),
                    422, 'streaming_disabled');
        assert.equal(mock.requests.length, 0);
        assert.equal((await post('plain', { message: 'Hi', stream: false })).status, 200);
    });
});

describe('what the provider sees', () => {
    test('Authorization with the credential\'s key, Accept-Encoding: identity, and nothing of the client\'s', async () => {
        mock.clear();
        await post('plain', { message: 'Hi' }, { headers: {
            cookie: 'secret=1', 'x-custom': 'mine', 'accept-encoding': 'br', 'user-agent': 'client/1' } });
        const { method, path, headers } = mock.only();
        assert.equal(method, 'POST');
        assert.equal(path, '/v1/chat/completions');
        assert.equal(headers.authorization, `Bearer ${KEY}`);
        assert.equal(headers['accept-encoding'], 'identity');
        assert.match(headers['content-type'], /^application\/json/);
        assert.ok(headers['content-length']);
        for (const name of ['cookie', 'x-custom', 'expect']) {
            assert.equal(headers[name], undefined, name);
        }
        assert.doesNotMatch(headers['user-agent'] ?? '', /client/);
    });

    test('connections to the provider are used again', async () => {
        const before = mock.connections;
        for (let i = 0; i < 20; i++) {
            await post('plain', { message: 'Hi' });
        }
        assert.ok(mock.connections - before <= 2, 'at most one new one for each worker');
    });
});

describe('rows', () => {
    test('a row tells what happened', async () => {
        const began = Date.now();
        const body = { message: 'Hi there' };
        const answer = await post('pinned', body);
        const row = await gateway.row(answer.id);
        assert.equal(row.project, 'demo');
        assert.equal(row.endpoint, 'pinned');
        assert.ok(row.token, 'the token\'s name');
        assert.ok(!gateway.token.includes(row.token) || row.token.length <= 16);
        assert.equal(row.client_ip, '127.0.0.1');
        assert.equal(row.provider, 'openai');
        assert.equal(row.model, 'gpt-plain');
        assert.equal(row.provider_model, 'gpt-plain-2026-01-01');
        assert.equal(row.credential, 'mock');
        assert.equal(row.status, 'ok');
        assert.equal(row.http_status, 200);
        assert.equal(row.error_message, null);
        assert.equal(row.streamed, 0);
        assert.equal(row.finish_reason, 'stop');
        assert.deepEqual([row.prompt_tokens, row.completion_tokens, row.total_tokens,
                          row.cached_tokens, row.reasoning_tokens], [11, 7, 18, 3, 2]);
        const attempts = JSON.parse(row.attempts);
        assert.equal(attempts.length, 1);
        assert.ok(row.latency_ms >= 0 && row.latency_ms <= Date.now() - began + 1);
        assert.ok(row.upstream_ms >= 0 && row.upstream_ms <= row.latency_ms);
        assert.ok(row.bytes_in > JSON.stringify(body).length);
        assert.ok(row.bytes_out > answer.text.length);
        assert.ok(row.worker === 0 || row.worker === 1);
        const created = typeof row.created_at === 'number' ? row.created_at : Date.parse(row.created_at);
        assert.ok(created >= began - 1000 && created <= Date.now() + 1000, String(row.created_at));
    });

    test('a refused request\'s row says why', async () => {
        const answer = await post('nothing-here', { message: 'Hi' });
        const row = await gateway.row(answer.id);
        assert.equal(row.status, 'not_found');
        assert.equal(row.http_status, 404);
        assert.equal(row.project, 'demo');
    });

    test('"A token belongs to one project and may be narrowed to some endpoints", also one made now', async () => {
        const token = await createToken(gateway.config, 'demo', '--endpoints', 'hello');
        assert.equal((await post('hello', { message: 'Hi' }, { token })).status, 200);
        assertError(await post('plain', { message: 'Hi' }, { token }), 403, 'endpoint_forbidden');
        assertError(await postWithoutRow('hello', { message: 'Hi' }, { token, project: OTHER_ID }), 404, 'not_found');
    });

    // The last test: it stops the gateway, so that every row is there.
    test('"Every request whose token was accepted leaves one gateway_logs row … refused ones too"; ' +
         '"What fails before the token is accepted leaves no row of its own"', async () => {
        await gateway.stop();
        const rows = gateway.rows();
        const ids = rows.map((row) => row.request_id);
        assert.equal(new Set(ids).size, ids.length);
        const there = new Set(ids);
        assert.deepEqual([...accepted].filter((id) => !there.has(id)), [], 'requests without a row');
        assert.deepEqual([...unaccepted].filter((id) => there.has(id)), [], 'rows that must not be');
        const text = JSON.stringify(rows);
        assert.ok(!text.includes(KEY), 'the provider\'s key is in no row');
        assert.ok(!text.includes(gateway.token), 'no token is in a row');
        gateway = null;
    });
});
