// Which target is asked first, and which are left alone.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { createToken, demo, PROJECT_ID, run, startGateway, until } from './harness.mjs';
import { behaviours, mockCredential, startMock } from './mock.mjs';

const PRICE = { input: 1, output: 2 };

function template(name, fields) {
    return { [`templates.d/${name}.yaml`]: { provider: 'openai', credential: 'mock', price: PRICE, ...fields } };
}

describe('routing rules', () => {
    let mock;
    let gateway;
    const own = { provider: 'openai', model: 'own', credential: 'mock', max_output_tokens: 1000, price: PRICE };

    before(async () => {
        mock = await startMock();
        behaviours['own'] = (exchange) => setTimeout(() => behaviours['length'](exchange), 5);
        behaviours['streamed-1'] = ({ response }) => {
            response.writeHead(200, { 'content-type': 'text/event-stream' });
            response.end('data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n');
        };
        gateway = await startGateway({
            credentials: { mock: mockCredential(mock) },
            files: {
                ...template('long', { model: 'long-1' }),
                ...template('cheap', { model: 'cheap-1' }),
                ...template('talk', { model: 'talk-1' }),
            },
            service: { http: { max_body: '2MiB' } },
            projects: demo({
                sized: {
                    ...own, streaming_enabled: true,
                    routing: { rules: [
                        { when: { input_tokens: '>= 100000' }, use: { template: 'long' }, decision: 'long-context' },
                        { when: { messages_count: '> 3', streaming: false }, use: { template: 'talk' } },
                        { when: { has_output_schema: false, streaming: true }, use: { model: 'streamed-1' },
                          decision: 'streamed' },
                    ] },
                },
                spent: {
                    ...own, budget: { monthly_usd: 0.025 },
                    routing: { rules: [
                        { when: { monthly_spend_pct: '>= 20' }, use: { template: 'cheap' }, decision: 'pinch' },
                    ] },
                },
                broken: {
                    ...own, failover: [{ template: 'cheap' }],
                    routing: { rules: [{ when: { messages_count: '>= 1' }, use: { model: 'status-503' },
                                         decision: 'behind-it' }] },
                },
            }),
        });
    });
    after(async () => {
        await gateway?.stop();
        await mock?.stop();
        delete behaviours['own'];
    });

    async function ask(slug, body) {
        mock.clear();
        const answer = await gateway.post(slug, body);
        assert.equal(answer.status, 200, answer.text);
        return { answer, row: await gateway.row(answer.id), asked: mock.requests.map(({ json }) => json.model) };
    }

    test('a prompt of exactly 100,000 estimated tokens, and one of a character less', async () => {
        const fits = await ask('sized', { message: 'x'.repeat(399_997) });
        assert.deepEqual(fits.asked, ['long-1']);
        assert.equal(fits.answer.headers.get('x-routing-decision'), 'long-context');
        assert.equal(fits.answer.json.meta.routing_decision, 'long-context');
        assert.equal(fits.row.routing_decision, 'long-context');
        assert.equal(fits.row.model, 'long-1');
        const less = await ask('sized', { message: 'x'.repeat(399_996) });
        assert.deepEqual(less.asked, ['own']);
        assert.equal(less.answer.headers.get('x-routing-decision'), null);
        assert.equal(less.answer.json.meta.routing_decision, undefined);
        assert.equal(less.row.routing_decision, null);
    });

    test('the first rule that fits, by the whole conversation and by streaming', async () => {
        const messages = ['user', 'assistant', 'user', 'assistant', 'user'].map((role) => ({ role, content: 'Hi' }));
        const many = await ask('sized', { messages });
        assert.deepEqual([many.asked, many.row.routing_decision], [['talk-1'], 'rule-2']);
        const few = await ask('sized', { messages: messages.slice(2) });
        assert.deepEqual([few.asked, few.row.routing_decision], [['own'], null]);
        const streamed = await ask('sized', { messages, stream: true });
        assert.deepEqual(streamed.asked, ['streamed-1']);
        assert.equal(streamed.answer.headers.get('x-routing-decision'), 'streamed');
    });

    test("a routed target keeps the endpoint's failover chain behind it", async () => {
        const { asked, row, answer } = await ask('broken', { message: 'Hi' });
        assert.deepEqual(asked, ['status-503', 'cheap-1']);
        assert.equal(row.routing_decision, 'behind-it');
        assert.equal(answer.json.meta.attempts, 2);
    });

    // What is spent when a request is routed lies between the costs of those that had ended when it
    // came and of those that have when it ends.
    test('rules flip at their share of a budget that many spend at once', async () => {
        const ids = [];
        await Promise.all(Array.from({ length: 16 }, async () => {
            for (let i = 0; i < 25; i++) {
                const answer = await gateway.post('spent', { message: 'Hi' });
                assert.equal(answer.status, 200, answer.text);
                ids.push(answer.id);
            }
        }));
        await until('all rows', () => gateway.rows("endpoint = 'spent'").length === ids.length);
        const rows = gateway.rows("endpoint = 'spent'");
        const flip = 0.2 * 0.025 * 1e9;
        const spentBy = (time) => rows.filter((row) => row.created_at + row.latency_ms <= time)
            .reduce((sum, row) => sum + row.cost_nano_usd, 0);
        const routed = rows.filter((row) => row.routing_decision === 'pinch');
        const unrouted = rows.filter((row) => row.routing_decision === null);
        assert.ok(routed.length > 50 && unrouted.length > 50, `${routed.length} and ${unrouted.length}`);
        for (const row of routed) {
            assert.ok(spentBy(row.created_at + row.latency_ms + 2) >= flip, 'not before');
        }
        for (const row of unrouted) {
            assert.ok(spentBy(row.created_at - 3) < flip, 'not after');
        }
    });
});

describe('credentials that fail', () => {
    let first;
    let second;
    let gateway;
    let down = false;

    before(async () => {
        first = await startMock();
        second = await startMock();
        behaviours['first-1'] = (exchange) => (down ? behaviours[down] : behaviours['length'])(exchange);
        gateway = await startGateway({
            service: { upstream: { breaker: { failures: 5, error_rate: 50, window: '10s', probe: '1s' } } },
            credentials: { first: mockCredential(first), second: mockCredential(second) },
            projects: demo({ chained: { provider: 'openai', model: 'first-1', credential: 'first', price: PRICE,
                                        failover: [{ credential: 'second', model: 'second-1' }] },
                             alone: { provider: 'openai', model: 'first-1', credential: 'first' } }),
        });
        gateway.reader = await createToken(gateway.config, 'demo', '--name', 'reader', '--scopes', 'usage');
    });
    after(async () => {
        await gateway?.stop();
        await first?.stop();
        await second?.stop();
        delete behaviours['first-1'];
    });

    async function states() {
        const top = await run('top', '--json', '--config', gateway.config);
        const usage = await fetch(`${gateway.base}/api/${PROJECT_ID}/usage`,
                                  { headers: { authorization: `Bearer ${gateway.reader}` } });
        const shown = JSON.parse(top.stdout).credentials;
        const told = (await usage.json()).credentials;
        for (const one of told) {
            assert.ok(shown.some((it) => it.name === one.name && it.provider === one.provider), one.name);
        }
        return Object.fromEntries(shown.map(({ name, state }) => [name, state]));
    }

    /** Asks on 16 connections of both workers until `enough`; all must be answered. */
    async function load(enough) {
        const ids = [];
        let ended = false;
        const all = Promise.all(Array.from({ length: 16 }, async () => {
            while (!ended) {
                const answer = await gateway.post('chained', { message: 'Hi' });
                assert.equal(answer.status, 200, answer.text);
                ids.push(answer.id);
                await sleep(10);
            }
        }));
        await enough(ids);
        ended = true;
        await all;
        return ids;
    }

    const lines = (pattern) => gateway.stderr.split('\n').filter((line) => pattern.test(line)).length;

    test('are left alone by all workers, but for a probe, and taken up again', async () => {
        down = 'status-503';
        first.clear();
        const ids = await load(() => sleep(3500));
        assert.match((await states()).first, /open|probing/);
        assert.equal((await states()).second, 'closed');
        // 5 in a row open it; at most 16 are under way then, and a probe follows every second
        assert.ok(first.requests.length >= 5 + 2 && first.requests.length <= 16 + 5 + 4, `${first.requests.length} calls`);
        assert.ok(ids.length > 300, `${ids.length} requests`);
        await gateway.rowsReach(ids.length);
        const tried = gateway.rows("endpoint = 'chained'").filter((row) => JSON.parse(row.attempts).length > 1);
        assert.equal(tried.length, first.requests.length, 'each call is in a row');
        assert.equal(lines(/credential first \(openai\) fails too often/), 1, 'said once');
        down = false;
        second.clear();
        await load(() => until('the first one again', async () => (await states()).first === 'closed', 5));
        second.clear();
        await load(() => sleep(300));
        assert.equal(second.requests.length, 0, 'all workers have it again');
        assert.equal(lines(/credential first \(openai\) works again/), 1);
    });

    test('are tried when there is no other', async () => {
        down = 'status-500';
        for (let i = 0; i < 8; i++) {
            assert.equal((await gateway.post('alone', { message: 'Hi' })).status, 502);
        }
        assert.match((await states()).first, /open|probing/);
        down = false;
        await until('its probe', async () => {
            assert.equal((await gateway.post('alone', { message: 'Hi' })).status, 200);
            return (await states()).first === 'closed';
        }, 10);
    });

    test('are left alone until the next reload when the key is refused', async () => {
        down = 'status-401';
        first.clear();
        await load(() => sleep(300));
        assert.equal((await states()).first, 'refused');
        const calls = first.requests.length;
        assert.ok(calls >= 1 && calls <= 16, `${calls} calls`);
        assert.equal(lines(/error: .*credential first was refused by openai with status 401/), 1, gateway.stderr);
        down = false;
        await sleep(1500); // no probe
        await load(() => sleep(300));
        assert.equal(first.requests.length, calls);
        assert.equal((await run('reload', '--config', gateway.config)).status, 0);
        await load(() => sleep(300));
        assert.ok(first.requests.length > calls);
        assert.equal((await states()).first, 'closed');
    });
});
