// Conversations of several turns with tools, by the OpenAI SDK's and the `ai` package's own loops,
// over each provider's wire format: the same calls and the same end everywhere. The upstream is
// aimock, which speaks all of them.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai';
import OpenAI from 'openai';

import { assertError, demo, startGateway, temporaryDirectory, until, writeFiles } from './harness.mjs';

const KEY = 'sk-mock-key-0123456789';
const QUESTION = 'Compare Q7 and Q8';
const END = 'Q7 has 4 at 7 each; Q8 has none.';
const CALLS = ['stock {"sku":"Q7"}', 'stock {"sku":"Q8"}', 'price {"sku":"Q7"}'];

/** The last that fits a conversation stands first. */
const fixtures = [
    { match: { toolResultContains: 'the price is 7' },
      response: { content: END, usage: { prompt_tokens: 40, completion_tokens: 12, total_tokens: 52, input_tokens: 40, output_tokens: 12 } } },
    { match: { toolResultContains: 'the stock is' }, response: { toolCalls: [{ id: 'call_c3', name: 'price', arguments: '{"sku":"Q7"}' }] } },
    { match: { userMessage: QUESTION }, response: { toolCalls: [
        { id: 'call_a1', name: 'stock', arguments: '{"sku":"Q7"}' }, { id: 'call_b2', name: 'stock', arguments: '{"sku":"Q8"}' }] } },
    { match: { userMessage: 'too often' }, response: { error: { message: 'slow', type: 'rate_limit_error' }, status: 429, retryAfter: 9 } },
    { match: { userMessage: 'cut' }, response: { content: 'This will be cut somewhere in the middle of it.' }, chunkSize: 5, latency: 30, truncateAfterChunks: 5 },
];

const PROVIDERS = {
    openai: '/v1', responses: '/v1', groq: '/openai/v1', together: '/v1', mistral: '/v1', anthropic: '', gemini: '', ollama: '', cohere: '',
};

let mock;
let gateway;

async function startAimock() {
    const folder = temporaryDirectory();
    writeFiles(folder, { 'fixtures.json': JSON.stringify({ fixtures }) });
    const cli = fileURLToPath(new URL('node_modules/@copilotkit/aimock/dist/cli.js', import.meta.url));
    const child = spawn(process.execPath, [cli, '-p', '0', '-f', path.join(folder, 'fixtures.json'), '--strict'],
                        { env: { ...process.env, AIMOCK_API_KEYS: KEY }, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (text) => { said += text; });
    }
    const port = await until(`aimock's port`, () => /127\.0\.0\.1:([1-9]\d+)/.exec(said)?.[1]);
    [child, child.stdout, child.stderr].forEach((it) => it.unref());
    process.on('exit', () => child.kill('SIGKILL'));
    return { child, base: `http://127.0.0.1:${port}` };
}

before(async () => {
    mock = await startAimock();
    const provider = (name) => name === 'responses' ? 'openai' : name;
    gateway = await startGateway({
        credentials: {
            ...Object.fromEntries(Object.entries(PROVIDERS).map(([name, base]) => [name, { provider: provider(name), base_url: mock.base + base, api_key: KEY }])),
            wrong: { provider: 'anthropic', base_url: mock.base, api_key: 'sk-other-key-0123456789' },
        },
        projects: demo({
            ...Object.fromEntries(Object.keys(PROVIDERS).map((name) => [name, {
                provider: provider(name), credential: name, model: name === 'responses' ? 'm-responses' : 'm', streaming_enabled: true }])),
            wrong: { provider: 'anthropic', credential: 'wrong', model: 'm' },
        }),
        files: { 'models.yaml': [{ provider: 'openai', model: 'm-responses', api: 'responses' }] },
    });
});

after(async () => {
    await gateway?.stop();
    mock?.child.kill();
});

const answers = {
    stock: ({ sku }) => `${sku}: the stock is ${sku === 'Q7' ? 4 : 0}`,
    price: ({ sku }) => `${sku}: the price is 7`,
};
const parameters = { type: 'object', properties: { sku: { type: 'string' } }, required: ['sku'] };

/** Tools for the OpenAI SDK's loop, which note their calls. */
function runnable(calls) {
    return Object.entries(answers).map(([name, answer]) => ({ type: 'function', function: {
        name, description: `The ${name} of an article`, parameters, parse: JSON.parse,
        function: (args) => {
            calls.push(`${name} ${JSON.stringify(args)}`);
            return answer(args);
        } } }));
}

/** The same for the `ai` package. */
function tools(calls) {
    return Object.fromEntries(Object.entries(answers).map(([name, answer]) => [name, tool({
        description: `The ${name} of an article`, inputSchema: jsonSchema(parameters),
        execute: async (args) => {
            calls.push(`${name} ${JSON.stringify(args)}`);
            return answer(args);
        } })]));
}

for (const name of Object.keys(PROVIDERS)) {
    describe(name, () => {
        for (const stream of [false, true]) {
            test(`the OpenAI SDK's runTools${stream ? ', streamed' : ''}`, async () => {
                const client = new OpenAI({ baseURL: gateway.api, apiKey: gateway.token, maxRetries: 0 });
                const calls = [];
                const runner = client.chat.completions.runTools({ model: name, messages: [{ role: 'user', content: QUESTION }],
                                                                  tools: runnable(calls), stream });
                assert.equal(await runner.finalContent(), END);
                assert.deepEqual(calls.toSorted(), CALLS.toSorted());
                const finishes = (await runner.allChatCompletions()).map(({ choices }) => choices[0].finish_reason);
                assert.deepEqual(finishes, ['tool_calls', 'tool_calls', 'stop']);
            });
        }

        test('the `ai` package, whole and streamed', async () => {
            const model = createOpenAICompatible({ name: 'promptgate', baseURL: gateway.api, apiKey: gateway.token, includeUsage: true })(name);
            const calls = [];
            const whole = await generateText({ model, prompt: QUESTION, tools: tools(calls), stopWhen: stepCountIs(5), maxRetries: 0 });
            assert.equal(whole.text, END);
            assert.deepEqual(calls.toSorted(), CALLS.toSorted());
            calls.length = 0;
            const streamed = streamText({ model, prompt: QUESTION, tools: tools(calls), stopWhen: stepCountIs(5), maxRetries: 0,
                                          onError: ({ error }) => { throw error; } });
            assert.equal(await streamed.text, END);
            assert.deepEqual(calls.toSorted(), CALLS.toSorted());
            assert.equal(await streamed.finishReason, 'stop');
            if (['openai', 'responses', 'anthropic', 'gemini', 'cohere'].includes(name)) { // aimock tells it as these do
                assert.equal((await streamed.steps).at(-1).usage.outputTokens, 12);
            }
        });

        test('an answer that is cut in the middle is no answer', async () => {
            const client = new OpenAI({ baseURL: gateway.api, apiKey: gateway.token, maxRetries: 0 });
            let text = '';
            await assert.rejects(async () => {
                const stream = await client.chat.completions.create({ model: name, stream: true, messages: [{ role: 'user', content: 'cut' }] });
                for await (const chunk of stream) {
                    text += chunk.choices[0]?.delta.content ?? '';
                }
            }, /cut off|complete/);
            assert.ok('This will be cut somewhere in the middle of it.'.startsWith(text));
        });

        test('asked too often', async () => {
            const answer = await gateway.post(name, { message: 'too often' });
            assertError(answer, 502, 'provider_error');
            assert.equal(answer.headers.get('retry-after'), '9');
        });
    });
}

test('a key that the provider does not know', async () => {
    assert.match(assertError(await gateway.post('wrong', { message: QUESTION }), 502, 'provider_error').message, /credential/);
});
