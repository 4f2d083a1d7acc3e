// A provider that fails, cuts and lies: a clear error each, one row each, the worker lives.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { assertError, demo, SANITIZE, startGateway, until } from './harness.mjs';
import { behaviours, KEY, mockCredential, startMock } from './mock.mjs';
import { resident } from './proc.mjs';

let mock;
let gateway;
let workers; // pids at the start

before(async () => {
    mock = await startMock();
    const target = { provider: 'openai', credential: 'mock' };
    const endpoints = Object.fromEntries(Object.keys(behaviours).map((name) =>
        [name, { ...target, model: name, timeout: '20s' }]));
    endpoints['never-ends-head'].timeout = '1s';
    endpoints['endless-head'].timeout = '1s';
    endpoints['never-ends-body'].timeout = '1s';
    gateway = await startGateway({
        service: { upstream: { connect_timeout: '2s', first_byte_timeout: '4s', timeout: '30s',
                               max_response: '4MiB' } },
        credentials: {
            mock: mockCredential(mock),
            nobody: { provider: 'openai', base_url: 'http://127.0.0.1:1/v1', api_key: KEY },
        },
        projects: demo({
            ...endpoints,
            'never-soon': { ...target, model: 'never-answers', timeout: '1s' },
            'nobody-there': { provider: 'openai', credential: 'nobody', model: 'x' },
            'echo-plain': { provider: 'echo', model: 'echo' },
            'echo-slow': { provider: 'echo', model: 'echo/slow' },
            'echo-fail': { provider: 'echo', model: 'echo/fail-503' },
            'echo-broken': { provider: 'echo', model: 'echo/invalid-json' },
        }),
    });
    workers = gateway.workers().map(({ pid }) => pid);
});

after(async () => {
    await gateway?.stop();
    await mock?.stop();
});

/** Calls the slug, and checks what holds for every failure: shape, row, secrecy, living workers. */
async function fails(slug, status, code) {
    const began = Date.now();
    mock.clear();
    const answer = await gateway.post(slug, { message: 'Hi' });
    const error = assertError(answer, status, code);
    const row = await gateway.row(answer.id);
    assert.equal(row.status, code);
    assert.equal(row.http_status, status);
    assert.equal(row.endpoint, slug);
    assert.ok(row.error_message);
    const attempts = JSON.parse(row.attempts);
    assert.equal(attempts.length, 1);
    assert.equal(gateway.rows().filter(({ request_id: id }) => id === answer.id).length, 1);
    for (const text of [answer.text, JSON.stringify(row), gateway.stderr]) {
        assert.ok(!text.includes(KEY), 'the key is told to nobody');
    }
    assert.deepEqual(gateway.workers().map(({ pid }) => pid), workers, 'the workers live');
    assert.ok(mock.requests.length <= 1, 'asked once');
    assert.ok(mock.requests.every(({ path }) => path === '/v1/chat/completions'));
    return { answer, error, row, ms: Date.now() - began };
}

async function succeeds(slug) {
    const answer = await gateway.post(slug, { message: 'Hi' });
    assert.equal(answer.status, 200, answer.text.slice(0, 1000));
    const row = await gateway.row(answer.id);
    assert.equal(row.status, 'ok');
    return { ...answer, row };
}

test('what the provider says of coming back reaches the client', async () => {
    const { answer, error } = await fails('status-429', 502, 'provider_error');
    assert.equal(answer.headers.get('retry-after'), '20');
    assert.equal(error.retry_after, 20);
    assert.equal((await fails('status-500', 502, 'provider_error')).answer.headers.get('retry-after'), null);
    const final = await fails('never-again', 502, 'provider_error');
    assert.equal(final.answer.headers.get('x-should-retry'), 'false');
    await fails('not-our-fault', 502, 'provider_error');
});

describe('"502 provider_error (what the last target said, its status, never its key)"', () => {
    for (const [slug, words] of Object.entries({
        'status-401': /401/, 'status-403': /403/, 'status-404': /404/, 'status-429': /429/,
        'status-500': /500/, 'status-503': /503/, 'page-503': /503/, 'redirects': /302/,
    })) {
        test(slug, async () => {
            const { error } = await fails(slug, 502, 'provider_error');
            assert.match(error.message, words);
            assert.doesNotMatch(error.message, /<html|<h1/);
        });
    }
    for (const slug of ['closes', 'resets', 'nobody-there']) {
        test(slug, () => fails(slug, 502, 'provider_error'));
    }
});

describe('"502 provider_bad_response"', () => {
    for (const slug of ['page-200', 'cuts-length', 'cuts-chunked', 'resets-in-body', 'short-length',
                        'not-http', 'malformed', 'empty', 'duplicate-keys', 'not-an-object',
                        'no-choices', 'empty-choices', 'no-message', 'no-content',
                        'content-is-a-number', 'error-with-200', 'gzip']) {
        test(slug, () => fails(slug, 502, 'provider_bad_response'));
    }

    test('100 MiB, where upstream.max_response is 4 MiB: stopped there', async () => {
        const before = gateway.workers().map(({ pid }) => resident(pid));
        await fails('floods', 502, 'provider_bad_response');
        const sent = mock.only().sent;
        assert.ok(sent < 60 << 20, `the mock got rid of ${sent >> 20} MiB`);
        gateway.workers().forEach(({ pid }, i) => {
            const grown = resident(pid) - before[i];
            assert.ok(SANITIZE || grown < 16 << 20, `a worker grew by ${grown} bytes`);
        });
    });
});

describe('"504 provider_timeout"', () => {
    for (const [slug, what] of Object.entries({
        'never-soon': 'never answers', 'never-ends-head': 'never ends its head',
        'endless-head': 'sends one header after the other', 'never-ends-body': 'never ends its body',
    })) {
        test(`${what}: the endpoint's timeout of 1 s`, async () => {
            const { ms } = await fails(slug, 504, 'provider_timeout');
            assert.ok(ms >= 950 && ms < 3900, `${ms} ms`);
        });
    }
    test('never answers: upstream.first_byte_timeout of 4 s', async () => {
        const { ms } = await fails('never-answers', 504, 'provider_timeout');
        assert.ok(ms >= 3900 && ms < 19_000, `${ms} ms`);
    });
});

describe('"A provider\'s own refusal of the request … 422 provider_rejected with the provider\'s message"', () => {
    for (const [slug, words] of Object.entries({
        'status-400': /this model wants other messages/, 'status-413': /Request too large/,
        'status-422': /the parameter is wrong/,
    })) {
        test(slug, async () => {
            const { error } = await fails(slug, 422, 'provider_rejected');
            assert.match(error.message, words);
        });
    }
});

describe('odd answers that are right', () => {
    for (const slug of ['delay-300', 'unknown-members', 'early-hints', 'chunked-bytewise', 'no-length']) {
        test(slug, async () => {
            const { json, row } = await succeeds(slug);
            assert.equal(json.content, 'Hello from the mock.');
            assert.equal(json.usage.total_tokens, 18);
            assert.equal(row.total_tokens, 18);
        });
    }

    test('delay-300: Server-Timing and upstream_ms tell where the time went', async () => {
        const { headers, row } = await succeeds('delay-300');
        const [, own, upstream] =
            /^gateway;dur=([\d.]+), upstream;dur=([\d.]+)$/.exec(headers.get('server-timing')).map(Number);
        assert.ok(upstream >= 295 && own < upstream, headers.get('server-timing'));
        assert.ok(row.upstream_ms >= 295 && row.latency_ms >= row.upstream_ms);
    });

    test('content null', async () => {
        assert.equal((await succeeds('content-null')).json.content, null);
    });

    test('"tool_calls: OpenAI shape; only when there are any"', async () => {
        const { json, row } = await succeeds('tool-calls');
        assert.equal(json.content, null);
        assert.equal(json.finish_reason, 'tool_calls');
        assert.deepEqual(json.tool_calls, [{ id: 'call_1', type: 'function',
                                             function: { name: 'f', arguments: '{"a": 1}' } }]);
        assert.equal(row.finish_reason, 'tool_calls');
        assert.ok(!('tool_calls' in (await succeeds('unknown-members')).json));
    });

    test('an answer that is cut at its longest: finish_reason length', async () => {
        assert.equal((await succeeds('length')).json.finish_reason, 'length');
    });

    test('"Any count may be missing or null: treat as 0"', async () => {
        const { json } = await succeeds('usage-null');
        assert.equal(json.usage.prompt_tokens, 0);
        assert.equal(json.usage.completion_tokens, 5);
        const none = await succeeds('no-usage');
        assert.equal(none.json.content, 'Hello from the mock.');
    });

    test('an answer of 1 MiB', async () => {
        assert.equal((await succeeds('big-answer')).json.content, 'x'.repeat(1 << 20));
    });

    test('foreign text comes through as it is', async () => {
        assert.equal((await succeeds('foreign-text')).json.content,
                     'Grüße \u{1F600} "quoted"\n\u0001 {{input}}');
    });
});

describe('"echo is a provider built in: it needs no key and no network"', () => {
    test('answers from the prompt, usage by the estimate', async () => {
        const { json, row } = await succeeds('echo-plain');
        assert.match(json.content, /Hi/);
        assert.equal(json.meta.provider, 'echo');
        assert.ok(json.usage.prompt_tokens > 0 && json.usage.completion_tokens > 0);
        assert.equal(row.provider, 'echo');
    });
    test('echo/slow takes its time', async () => {
        const began = Date.now();
        await succeeds('echo-slow');
        assert.ok(Date.now() - began >= 200);
    });
    test('echo/fail-503', async () => {
        const { error } = await fails('echo-fail', 502, 'provider_error');
        assert.match(error.message, /503/);
    });
    test('echo/invalid-json', () => fails('echo-broken', 502, 'provider_bad_response'));
});

test('a client that goes away ends the call to the provider within 100 ms, and its row says client_closed', async () => {
    const times = [];
    // Others may take the processors meanwhile: the best of several tells what the gateway needs.
    while (times.length < 20 && !times.some((ms) => ms < 100)) {
        mock.clear();
        const gone = new AbortController();
        const call = gateway.post('held', { message: 'Hi' }, { signal: gone.signal });
        await until('the call at the mock', () => mock.requests.length === 1);
        const { socket } = mock.only();
        const closed = new Promise((resolve) => socket.once('close', () => resolve(Date.now())));
        const began = Date.now();
        gone.abort();
        await assert.rejects(call);
        times.push(await closed - began);
    }
    assert.ok(times.at(-1) < 100, `${times} ms`);
    await until('the rows', () => gateway.rows('endpoint = ? AND status = ?', 'held',
                                               'client_closed').length === times.length);
});

test('after all that, the same workers serve', async () => {
    assert.deepEqual(gateway.workers().map(({ pid }) => pid), workers);
    for (let i = 0; i < 10; i++) {
        await succeeds('unknown-members');
    }
});
