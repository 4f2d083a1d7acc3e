// A chain of targets: whatever the first one does, the client gets the second one's answer, and the
// row tells the truth about both.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { assertError, createToken, demo, PROJECT_ID, startGateway, until } from './harness.mjs';
import { behaviours, completion, KEY, mockCredential, startMock } from './mock.mjs';
import { events, StreamUpstream } from './stream-upstream.mjs';

const PRICE = { input: 1, output: 2 };
const chain = [{ template: 'second' }];

let primary;
let secondary;
let streaming;
let gateway;

/** What the first one does, by its model: the row's first attempt. `paid`: nobody knows that it was
 * not. */
const FAILURES = {
    'status-429': { code: 'provider_error', http: 429 },
    'status-500': { code: 'provider_error', http: 500 },
    'status-503': { code: 'provider_error', http: 503 },
    'status-529': { code: 'provider_error', http: 529 },
    'status-401': { code: 'provider_error', http: 401, credential: 'barred' },
    'status-402': { code: 'provider_error', http: 402 },
    'status-404': { code: 'provider_error', http: 404 },
    'page-503': { code: 'provider_error', http: 503 },
    'page-200': { code: 'provider_bad_response', http: 200, paid: true },
    'malformed': { code: 'provider_bad_response', http: 200, paid: true },
    'empty-choices': { code: 'provider_bad_response', http: 200, paid: true },
    'not-http': { code: 'provider_bad_response', http: 0, paid: true },
    'closes': { code: 'provider_error', http: 0, paid: true },
    'resets': { code: 'provider_error', http: 0, paid: true },
    'resets-in-body': { code: 'provider_bad_response', http: 200, paid: true },
    'cuts-length': { code: 'provider_bad_response', http: 200, paid: true },
    'never-answers': { code: 'provider_timeout', http: 0, paid: true, timeout: '2s' },
    'never-ends-body': { code: 'provider_timeout', http: 200, paid: true, timeout: '2s' },
    'nobody-there': { code: 'provider_error', http: 0, credential: 'nobody' },
    'bad-tls': { code: 'provider_error', http: 0, credential: 'untrusted' },
    'no-such-host': { code: 'provider_error', http: 0, credential: 'lost' },
};

Object.assign(behaviours, {
    'status-529': (exchange) => say(exchange, 529, { error: { message: 'Overloaded' } }),
    'status-402': (exchange) => say(exchange, 402, { error: { message: 'Pay first' } }),
    'later-1': (exchange) => say(exchange, 429, { error: { message: 'Slowly' } }, { 'retry-after': '1' }),
    'good': (exchange) => say(exchange, 200, completion(exchange.json, 'At last.')),
});

function say({ response }, status, body, headers = {}) {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify(body));
}

/** Answers one behaviour after the other; the last one again and again. */
function inTurn(...names) {
    let asked = 0;
    return (exchange) => behaviours[names[Math.min(asked++, names.length - 1)]](exchange);
}

function template(name, model, price = PRICE) {
    return { [`templates.d/${name}.yaml`]: { provider: 'openai', model, credential: 'second', price } };
}

before(async () => {
    primary = await startMock();
    secondary = await startMock();
    streaming = await new StreamUpstream().start();
    const target = { provider: 'openai', max_output_tokens: 100, price: PRICE, timeout: '10s',
                     budget: { monthly_usd: 1000 } };
    const first = { ...target, credential: 'first', failover: chain };
    const failing = Object.entries(FAILURES).map(([model, { timeout = '10s', credential = 'first' }]) =>
        [model, { ...first, credential, model, timeout }]);
    const refused = ['status-400', 'status-413', 'status-422'].map((model) =>
        [model, { ...first, model, retries: 2 }]);
    gateway = await startGateway({
        service: { upstream: { connect_timeout: '2s', first_byte_timeout: '20s', timeout: '30s',
                               breaker: { failures: 1000, error_rate: 100 } } },
        credentials: {
            first: mockCredential(primary),
            barred: mockCredential(primary),
            second: { ...mockCredential(secondary), api_key: 'sk-second-0123456789abcdef' },
            stream: { provider: 'openai', base_url: `${streaming.base}/v1`, api_key: KEY },
            nobody: { provider: 'openai', base_url: 'http://127.0.0.1:1/v1', api_key: KEY },
            untrusted: { provider: 'openai', base_url: `https://127.0.0.1:${primary.port}/v1`,
                         api_key: KEY },
            lost: { provider: 'openai', base_url: 'https://nowhere.invalid/v1', api_key: KEY },
        },
        files: {
            'models.yaml': [{ provider: 'openai', model: 'status-', lacks: ['temperature'] }],
            ...template('second', 'spare-1'),
            ...template('garbling', 'malformed'),
            ...template('overloaded', 'status-503'),
            ...template('hanging', 'never-ends-body'),
            ...template('dear', 'dear-1', { input: 100, output: 200 }),
        },
        projects: demo({
            ...Object.fromEntries([...failing, ...refused]),
            'all-fail': { ...first, model: 'status-500',
                          failover: [{ template: 'garbling' }, { template: 'overloaded' }] },
            'again': { ...first, model: 'again', retries: 2 },
            'told': { ...first, model: 'told', retries: 1 },
            'told-long': { ...first, model: 'status-429', retries: 3 },
            'for-good': { ...first, model: 'never-again', retries: 3 },
            'lacking': { ...first, model: 'status-500', client_parameters: ['temperature'] },
            'all-hang': { ...first, model: 'never-answers', timeout: '1s', failover: [{ template: 'hanging' }] },
            'pictures': { provider: 'ollama', model: 'llava', failover: chain },
            'streams': { ...first, credential: 'stream', model: 'x', streaming_enabled: true,
                         timeout: '4s' },
            // one call of 2 USD for a million tokens has room, another one of 200 has not
            'pinched': { ...first, model: 'status-500', budget: { monthly_usd: 0.01 },
                         failover: [{ template: 'dear' }] },
        }),
    });
    gateway.reader = await createToken(gateway.config, 'demo', '--name', 'reader', '--scopes', 'usage');
});

beforeEach(() => {
    primary.clear();
    secondary.clear();
});

after(async () => {
    await gateway?.stop();
    await primary?.stop();
    await secondary?.stop();
    streaming?.stop();
});

/** What everybody who got the second one's answer has. */
async function answeredBySecond(slug, fields = {}) {
    const answer = await gateway.post(slug, { message: 'Hi', ...fields });
    assert.equal(answer.status, 200, answer.text);
    assert.equal(answer.json.content, 'Hello from the mock.');
    assert.equal(answer.json.model, 'spare-1-2026-01-01');
    const row = await gateway.row(answer.id);
    const attempts = JSON.parse(row.attempts);
    assert.equal(row.status, 'ok');
    assert.equal(row.credential, 'second');
    assert.equal(row.model, 'spare-1');
    assert.equal(gateway.rows().filter(({ request_id: id }) => id === answer.id).length, 1);
    const last = attempts.at(-1);
    assert.deepEqual([last.status, last.http_status, last.credential, last.error], ['ok', 200, 'second', null]);
    assert.equal(last.cost_nano_usd, 11 * 1000 + 7 * 2000);
    const costs = attempts.map(({ cost_nano_usd: cost }) => cost ?? 0);
    assert.equal(row.cost_nano_usd, costs.reduce((sum, cost) => sum + cost), 'the row has the sum');
    return { answer, row, attempts };
}

describe('whatever the first target does', () => {
    for (const [slug, { code, http, paid = false, credential = 'first' }] of Object.entries(FAILURES)) {
        test(`${slug}: the second one answers`, async () => {
            const { answer, attempts } = await answeredBySecond(slug);
            assert.equal(answer.json.meta.attempts, 2);
            assert.equal(attempts.length, 2);
            const [attempt] = attempts;
            assert.deepEqual([attempt.status, attempt.http_status, attempt.credential, attempt.model],
                             [code, http, credential, slug]);
            assert.ok(attempt.error, 'it says why');
            assert.equal(attempt.cost_nano_usd > 0, paid, `cost ${attempt.cost_nano_usd}`);
            assert.equal(secondary.requests.length, 1);
        });
    }

    for (const slug of ['status-400', 'status-413', 'status-422']) {
        test(`${slug}: the client hears it at once`, async () => {
            const answer = await gateway.post(slug, { message: 'Hi' });
            assertError(answer, 422, 'provider_rejected');
            const row = await gateway.row(answer.id);
            assert.equal(JSON.parse(row.attempts).length, 1);
            assert.equal(primary.requests.length, 1);
            assert.equal(secondary.requests.length, 0);
        });
    }

    test('when all fail the client hears what the last one said', async () => {
        const answer = await gateway.post('all-fail', { message: 'Hi' });
        const error = assertError(answer, 502, 'provider_error');
        assert.match(error.message, /status 503/);
        assert.equal(answer.headers.get('x-should-retry'), 'false', 'one of them was paid for');
        const attempts = JSON.parse((await gateway.row(answer.id)).attempts);
        assert.deepEqual(attempts.map((it) => [it.model, it.status, it.http_status]),
                         [['status-500', 'provider_error', 500],
                          ['malformed', 'provider_bad_response', 200],
                          ['status-503', 'provider_error', 503]]);
    });

    test('all of them together take no longer than the endpoint has time', async () => {
        const began = Date.now();
        const answer = await gateway.post('all-hang', { message: 'Hi' });
        assertError(answer, 504, 'provider_timeout');
        const ms = Date.now() - began;
        assert.ok(ms >= 900 && ms < 5000, `${ms} ms`);
        const attempts = JSON.parse((await gateway.row(answer.id)).attempts);
        assert.deepEqual(attempts.map(({ status }) => status), ['provider_timeout', 'provider_timeout']);
        assert.ok(Math.abs(attempts[0].ms - 500) < 200, `its half: ${attempts[0].ms}`);
    });

    test('nothing stays reserved', async () => {
        const usage = await (await fetch(`${gateway.base}/api/${PROJECT_ID}/usage`,
                                         { headers: { authorization: `Bearer ${gateway.reader}` } })).json();
        assert.ok(usage.endpoints.length > 20);
        for (const endpoint of usage.endpoints) {
            assert.equal(endpoint.reserved_usd, 0, endpoint.id);
        }
    });
});

describe('the same target again', () => {
    test('after a status 5xx, and on when it has had its tries', async () => {
        behaviours['again'] = behaviours['status-500'];
        const { attempts } = await answeredBySecond('again');
        assert.deepEqual(attempts.map(({ http_status: status }) => status), [500, 500, 500, 200]);
        assert.equal(primary.requests.length, 3);
    });

    test('until it answers', async () => {
        behaviours['again'] = inTurn('status-503', 'closes', 'good');
        const answer = await gateway.post('again', { message: 'Hi' });
        assert.equal(answer.status, 200, answer.text);
        assert.equal(answer.json.content, 'At last.');
        const row = await gateway.row(answer.id);
        assert.deepEqual(JSON.parse(row.attempts).map(({ status }) => status),
                         ['provider_error', 'provider_error', 'ok']);
        assert.equal(secondary.requests.length, 0);
    });

    test('after the time that a status 429 names', async () => {
        behaviours['told'] = inTurn('later-1', 'good');
        const began = Date.now();
        const answer = await gateway.post('told', { message: 'Hi' });
        assert.equal(answer.json.content, 'At last.', answer.text);
        assert.ok(Date.now() - began >= 1000, 'a second has passed');
        assert.ok((await gateway.row(answer.id)).gateway_us < 500_000, 'a pause is no work');
    });

    test('not when that is too long', async () => {
        const began = Date.now();
        const { attempts } = await answeredBySecond('told-long');
        assert.equal(attempts.length, 2);
        assert.ok(Date.now() - began < 15000, 'it asked for 20 seconds');
    });

    test('not when the client leaves meanwhile', async () => {
        behaviours['told'] = inTurn('later-1', 'good');
        const leaving = new AbortController();
        const left = gateway.post('told', { message: 'Hi' }, { signal: leaving.signal });
        await until('the first call', () => primary.requests.length === 1);
        setTimeout(() => leaving.abort(), 200);
        await assert.rejects(left);
        const row = await until('its row', () => gateway.rows("endpoint = 'told' AND status = 'client_closed'")[0]);
        assert.deepEqual(JSON.parse(row.attempts).map(({ http_status: status }) => status), [429]);
        assert.ok(row.gateway_us < 150_000, 'a pause is no work');
        await sleep(1200);
        assert.equal(primary.requests.length, 1);
    });

    test('not when the provider says that it would be in vain', async () => {
        const { attempts } = await answeredBySecond('for-good');
        assert.equal(attempts.length, 2);
    });
});

describe('targets that cannot be asked', () => {
    test('one that does not take such a request is passed over', async () => {
        const content = [{ type: 'text', text: 'What is it?' },
                         { type: 'image_url', image_url: { url: 'https://example.com/a.png' } }];
        const { answer, attempts } = await answeredBySecond('pictures', { message: undefined,
                                                                          messages: [{ role: 'user', content }] });
        assert.deepEqual(attempts.map(({ status, provider }) => [status, provider]),
                         [['parameter_unsupported', 'ollama'], ['ok', 'openai']]);
        assert.equal(answer.json.meta.attempts, 1, 'it was not asked');
    });

    test('what the last one takes is not named as ignored', async () => {
        const { answer } = await answeredBySecond('lacking', { temperature: 0.5 });
        assert.deepEqual(answer.json.meta.ignored, []);
        assert.equal(secondary.requests[0].json.temperature, 0.5);
    });

    test('one that the budget has no room for ends the chain', async () => {
        const answer = await gateway.post('pinched', { message: 'Hi' });
        const error = assertError(answer, 502, 'provider_error');
        assert.match(error.message, /status 500/, 'what the last one said');
        const attempts = JSON.parse((await gateway.row(answer.id)).attempts);
        assert.deepEqual(attempts.map(({ status, model }) => [status, model]),
                         [['provider_error', 'status-500'], ['budget_exceeded', 'dear-1']]);
        assert.match(attempts[1].error, /no room/);
        assert.equal(secondary.requests.length, 0);
    });
});

describe('streams', () => {
    const chunk = (delta, finish = null) => `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk',
        created: 1, model: 'x', choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`;
    const role = chunk({ role: 'assistant', content: '' });
    const error = 'data: {"error":{"message":"Overloaded","type":"server_error"}}\n\n';

    async function stream() {
        behaviours['spare-1'] = (exchange) => {
            exchange.response.writeHead(200, { 'content-type': 'text/event-stream' });
            exchange.response.end(role + chunk({ content: 'Spare.' }) + chunk({}, 'stop') + 'data: [DONE]\n\n');
        };
        const answer = await gateway.post('streams', { message: 'Hi', stream: true });
        delete behaviours['spare-1'];
        return { answer, told: events(answer.text), row: await gateway.row(answer.id) };
    }

    const before = {
        'is refused with a status': { status: 503, type: 'application/json', pieces: ['{"error":{"message":"no"}}'] },
        'breaks before anything': { pieces: [': hello\n\n'], end: 'cut' },
        'breaks behind a role': { pieces: [role], gap: 20, end: 'cut' },
        'ends behind a role': { pieces: [role] },
        'has an error for its first event': { pieces: [error] },
        'has an error behind a role': { pieces: [role, error] },
        'says nothing in its share of the time': { pieces: [role], gap: 20, end: 'hold' },
        'is no stream': { type: 'application/json', pieces: ['{"choices":[]}'] },
    };
    for (const [what, script] of Object.entries(before)) {
        test(`one that ${what} fails over unseen`, async () => {
            streaming.play(script);
            const { answer, told, row } = await stream();
            assert.equal(answer.status, 200, answer.text);
            assert.equal(told.at(-1), '[DONE]', answer.text);
            assert.equal(told.slice(0, -1).map((it) => JSON.parse(it).choices[0].delta.content ?? '').join(''),
                         'Spare.');
            assert.ok(!answer.text.includes('error'), answer.text);
            assert.equal(told.filter((it) => it.includes('"role"')).length, 1, 'one beginning');
            assert.deepEqual([row.status, row.credential], ['ok', 'second']);
            assert.equal(JSON.parse(row.attempts).length, 2);
        });
    }

    const behind = {
        // So far apart that they do not come together: then nothing would have been said yet.
        breaks: { pieces: [role, chunk({ content: 'Half' })], gap: 400, end: 'cut' },
        fails: { pieces: [role, chunk({ content: 'Half' }), error], gap: 400 },
    };
    for (const [what, script] of Object.entries(behind)) {
        test(`one that ${what} after it has said something ends with an error`, async () => {
            streaming.play(script);
            const { answer, told, row } = await stream();
            assert.equal(answer.status, 200);
            assert.match(answer.text, /Half/);
            assert.ok(JSON.parse(told.at(-1)).error, answer.text);
            assert.ok(!answer.text.includes('Spare'), answer.text);
            assert.equal(row.credential, 'stream');
            assert.equal(JSON.parse(row.attempts).length, 1);
        });
    }

    test('one that has begun has all the time there is', async () => {
        const words = Array.from({ length: 12 }, (_, i) => chunk({ content: `${i} ` }));
        streaming.play({ pieces: [role, ...words, chunk({}, 'stop'), 'data: [DONE]\n\n'], gap: 200 });
        const { told, row } = await stream(); // 2.8 s: its share of 4 s was 2
        assert.equal(told.at(-1), '[DONE]');
        assert.deepEqual([row.status, row.credential], ['ok', 'stream']);
    });
});
