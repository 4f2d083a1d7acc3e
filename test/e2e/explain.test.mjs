// What `explain` says is what happens, and nothing is called or counted for it.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';

import { demo, PROMPTGATE, run, startGateway } from './harness.mjs';
import { behaviours, KEY, mockCredential, startMock } from './mock.mjs';

let mock;
let gateway;

async function explain(slug, body, ...more) {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const { status, stdout, stderr } = await run('explain', '--config', gateway.config, `demo/${slug}`, text, '--json', ...more);
    assert.ok(stdout.startsWith('{'), stderr);
    assert.ok(!stdout.includes(KEY));
    return { status, told: JSON.parse(stdout) };
}

before(async () => {
    mock = await startMock();
    const own = { provider: 'openai', model: 'own', credential: 'mock', max_output_tokens: 100,
                  price: { input: 1, output: 2 }, streaming_enabled: true };
    gateway = await startGateway({
        credentials: { mock: mockCredential(mock), 
                       other: { ...mockCredential(mock), api_key: 'sk-other-0123456789abcdef' } },
        files: { 'templates.d/long.yaml': { provider: 'openai', model: 'long-1', credential: 'other',
                                            price: { input: 2, output: 4 } } },
        projects: demo({
            routed: {
                ...own, budget: { monthly_usd: 5, request_tokens: 2000 },
                user_prompt: 'Ticket in {{language}}:\n{{input}}',
                variables: [{ name: 'language', type: 'enum', enum: ['English', 'German'], default: 'English' }],
                failover: [{ credential: 'other' }],
                routing: { rules: [
                    { when: { input_tokens: '>= 1000' }, use: { template: 'long' }, decision: 'long-context' },
                    { when: { messages_count: '> 3', streaming: false }, use: { model: 'long-1', template: 'long' },
                      decision: 'talk' },
                ] },
            },
            spent: { ...own, budget: { monthly_usd: 0.0003 } },
            limited: { ...own, rate_limit: { per_minute: 2 } },
            off: { ...own, active: false },
            pictures: { provider: 'ollama', model: 'llava', failover: [{ template: 'long' }] },
        }),
    });
});

after(async () => {
    await gateway?.stop();
    await mock?.stop();
});

describe('what it says happens', () => {
    const talk = ['user', 'assistant', 'user', 'assistant', 'user'].map((role) => ({ role, content: 'Hi' }));
    const picture = [{ type: 'text', text: 'What?' }, { type: 'image_url', image_url: { url: 'https://e.com/a.png' } }];
    const cases = {
        'a plain request': ['routed', { message: 'Hello' }],
        'a variable': ['routed', { message: 'Hello', variables: { language: 'German' } }],
        'a wrong variable': ['routed', { message: 'Hello', variables: { language: 'French' } }],
        'a long prompt': ['routed', { message: 'x'.repeat(4000) }],
        'a prompt just not long': ['routed', { message: 'x'.repeat(3950) }],
        'a prompt beyond request_tokens': ['routed', { message: 'x'.repeat(8000) }],
        'a conversation': ['routed', { messages: talk }],
        'what is not used': ['routed', { message: 'Hello', temperature: 1, logprobs: true }],
        'no input': ['routed', {}],
        'no JSON': ['routed', '{"message":'],
        'a list': ['routed', '[]'],
        'an unbounded part': ['routed', { messages: [{ role: 'user', content: picture }] }],
        'a target that cannot be asked': ['pictures', { messages: [{ role: 'user', content: picture }] }],
        'an endpoint that is off': ['off', { message: 'Hello' }],
    };
    for (const [what, [slug, body]] of Object.entries(cases)) {
        test(what, async () => {
            mock.clear();
            const before = gateway.rowCount();
            const { status, told } = await explain(slug, body);
            assert.equal(mock.requests.length, 0, 'no provider is called');
            assert.equal(gateway.rowCount(), before, 'nothing is counted');
            assert.equal(told.counters, 'those of the gateway');
            const answer = await gateway.post(slug, body);
            const row = await gateway.row(answer.id);
            if (answer.status !== 200) {
                assert.equal(told.outcome, `would be refused with ${answer.status} ${answer.json.error.code}`);
                assert.equal(status, 1);
                return;
            }
            assert.equal(status, 0);
            assert.equal(told.outcome,
                         `would be sent to ${row.provider}, model ${row.model}, with credential ${row.credential}`);
            assert.equal(told.decision, row.routing_decision);
            assert.deepEqual(told.ignored, answer.json.meta.ignored);
            assert.deepEqual(told.prompt, mock.only().json.messages, 'the prompt as it goes up');
        });
    }

    test('budgets and limits as they stand', async () => {
        assert.equal((await gateway.post('limited', { message: 'Hi' })).status, 200);
        assert.deepEqual((await explain('limited', { message: 'Hi' })).told.rate_limits,
                         [{ of: 'endpoint', window: 'minute', limit: 2, left: 1 }]);
        assert.equal((await gateway.post('limited', { message: 'Hi' })).status, 200);
        assert.equal((await explain('limited', { message: 'Hi' })).told.outcome, 'would be refused with 429 rate_limited');
        assert.equal((await gateway.post('limited', { message: 'Hi' })).status, 429);
        const cost = 11 * 1e-6 + 7 * 2e-6;
        for (let spent = 0; ; spent++) {
            const { told } = await explain('spent', { message: 'Hi' });
            const [budget] = told.chain[0].budgets;
            assert.ok(Math.abs(budget.spent_usd - spent * cost) < 1e-12, `${budget.spent_usd}`);
            const answer = await gateway.post('spent', { message: 'Hi' });
            if (answer.status !== 200) {
                assert.ok(spent > 0);
                assert.equal(answer.json.error.code, 'budget_exceeded');
                assert.equal(told.outcome, 'would be refused with 422 budget_exceeded');
                return;
            }
            await gateway.row(answer.id);
            assert.match(told.outcome, /^would be sent/);
        }
    });

    test('a credential that is left alone', async () => {
        behaviours['own'] = (exchange) =>
            behaviours[exchange.headers.authorization.includes(KEY) ? 'status-500' : 'length'](exchange);
        for (let i = 0; i < 5; i++) {
            assert.equal((await gateway.post('routed', { message: 'Hi' })).status, 200);
        }
        delete behaviours['own'];
        const { told } = await explain('routed', { message: 'Hi' });
        assert.deepEqual(told.chain.map(({ credential, state }) => [credential, state]),
                         [['mock', 'open'], ['other', 'closed']]);
        assert.match(told.outcome, /model own, with credential other$/);
    });
});

describe('the command', () => {
    test('prints words for people, and reads a body from its input', async () => {
        const { stdout, status } = await new Promise((resolve) => {
            const child = execFile(PROMPTGATE, ['explain', '--config', gateway.config, 'demo/routed', '-'],
                                   (error, out) => resolve({ stdout: out, status: error?.code ?? 0 }));
            child.stdin.end('{"message":"two\\nlines \\u001b[31m"}');
        });
        assert.equal(status, 0);
        assert.match(stdout, /decision: none\n/);
        assert.match(stdout, /content: \|\n {6}Ticket in English:\n {6}two\n {6}lines {2}\[31m\n/);
        assert.match(stdout, /outcome: would be sent to openai, model own, with credential (mock|other)\n/);
    });

    test('a token has limits of its own', async () => {
        const made = await run('token', 'create', '--config', gateway.config, '--project', 'demo', '--name', 'small');
        assert.equal(made.status, 0, made.stderr);
        const { told } = await explain('routed', { message: 'Hi' }, '--token', 'small');
        assert.match(told.outcome, /^would be sent/);
        const wrong = await run('explain', '--config', gateway.config, '--token', 'nobody', 'demo/routed');
        assert.equal(wrong.status, 1);
        assert.match(wrong.stderr, /has no token nobody/);
    });

    test('mistakes', async () => {
        assert.match((await run('explain', '--config', gateway.config, 'demo/nowhere')).stderr, /no endpoint nowhere/);
        assert.match((await run('explain', '--config', gateway.config, 'nobody/x')).stderr, /no project nobody/);
        assert.equal((await run('explain', '--config', gateway.config)).status, 2);
    });

    test('without a gateway nothing is spent', async () => {
        await gateway.stop();
        const stopped = (await explain('limited', { message: 'Hi' })).told;
        assert.match(stopped.counters, /^those of the gateway$/);
        assert.match(stopped.outcome, /^would be/);
    });
});
