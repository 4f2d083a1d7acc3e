// The providers, each with answers of its own shape: what it is asked, and what clients get.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';

import OpenAI from 'openai';

import { assertError, demo, startGateway } from './harness.mjs';

const KEY = 'sk-mock-key-0123456789';

/** An upstream that notes what it is asked and answers what the test says. */
class Upstream {
    asked = [];

    async start() {
        this.server = http.createServer((request, response) => {
            const chunks = [];
            request.on('data', (chunk) => chunks.push(chunk)).on('end', () => {
                this.asked.push({ path: request.url, headers: request.headers, body: JSON.parse(Buffer.concat(chunks)) });
                const { status = 200, body } = this.says;
                response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
            });
        });
        await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
        this.base = `http://127.0.0.1:${this.server.address().port}`;
        return this;
    }

    stop() {
        this.server.closeAllConnections();
        this.server.close();
    }
}

const usage = { prompt_tokens: 21, completion_tokens: 9, total_tokens: 30 };
const choice = (message, finish_reason = 'stop') => ({ index: 0, message: { role: 'assistant', ...message }, finish_reason });

/** What each says, in its own way, and what it is asked. */
const PROVIDERS = {
    mistral: {
        path: '/v1', asked: { max_tokens: 50, random_seed: 7, temperature: 1 }, ignored: ['user'],
        text: { id: 'cmpl-m1', object: 'chat.completion', model: 'm', usage,
                choices: [choice({ content: [{ type: 'text', text: 'Four ' }, { type: 'text', text: 'left.' }] })] },
        calls: [{ id: 'aB3dE6gH9', index: 0, function: { name: 'lookup', arguments: { sku: 'Q7' } } }],
        error: { status: 422, body: { detail: [{ loc: ['body'], msg: 'Field required' }] } },
    },
    groq: {
        path: '/openai/v1', asked: { max_completion_tokens: 50, seed: 7, temperature: 1.5, user: 'u' }, ignored: [],
        text: { id: 'chatcmpl-g1', object: 'chat.completion', model: 'm', usage: { ...usage, queue_time: 0.01 },
                choices: [choice({ content: 'Four left.', reasoning: 'count' })], x_groq: { id: 'req_1' } },
        calls: [{ id: 'call_1', type: 'function', function: { name: 'lookup', arguments: '{"sku":"Q7"}' } }],
        error: { status: 400, body: { error: { message: 'Field required', type: 'invalid_request_error' } } },
    },
    together: {
        path: '/v1', asked: { max_tokens: 50, seed: 7, temperature: 1.5, user: 'u', stop: ['x'] }, ignored: [],
        text: { id: 'tg-1', object: 'chat.completion', model: 'm', prompt: [], usage,
                choices: [choice({ content: 'Four left.' }, 'eos')] },
        calls: [{ id: 'call_1', type: 'function', function: { name: 'lookup', arguments: '{"sku":"Q7"}' } }],
        error: { status: 403, body: { error: { message: 'Field required' } } },
    },
};

const lookup = { name: 'lookup', description: 'Stock', parameters: { type: 'object', properties: { sku: { type: 'string' } } } };
const image = 'data:image/png;base64,AAAA';

/** Those with a shape of their own: what they say, and what they are asked for two conversations. */
const NATIVE = {
    gemini: {
        path: '/v1beta/models/m:generateContent', key: ['x-goog-api-key', KEY], ignored: ['user'], reasoning: 4,
        text: { candidates: [{ content: { role: 'model', parts: [{ text: 'weighing', thought: true }, { text: 'Four ' }, { text: 'left.' }] },
                               finishReason: 'STOP', index: 0 }], responseId: 'rsp1', modelVersion: 'gemini-x',
                usageMetadata: { promptTokenCount: 21, candidatesTokenCount: 5, thoughtsTokenCount: 4, cachedContentTokenCount: 16 } },
        calls: { candidates: [{ content: { role: 'model', parts: [{ functionCall: { name: 'lookup', args: { sku: 'Q7' } }, thoughtSignature: 'c2ln' }] },
                                finishReason: 'STOP' }], responseId: 'rsp2' },
        asked: {
            contents: [{ role: 'user', parts: [{ text: 'How' }, { text: 'many?' }, { inlineData: { mimeType: 'image/png', data: 'AAAA' } }] }],
            systemInstruction: { parts: [{ text: 'Be brief.\n\nIn English.' }] },
            generationConfig: { maxOutputTokens: 50, temperature: 1.5, topP: 0.7, stopSequences: ['x'], seed: 7, candidateCount: 1,
                                thinkingConfig: { thinkingLevel: 'low' } },
            safetySettings: [],
        },
        parameters: { generationConfig: { thinkingConfig: { thinkingLevel: 'low' }, candidateCount: 3 }, safetySettings: [] },
        tools: [{ functionDeclarations: [{ name: 'lookup', description: 'Stock', parametersJsonSchema: lookup.parameters }] }],
        choices: ['toolConfig', { functionCallingConfig: { mode: 'ANY' } },
                  { functionCallingConfig: { mode: 'ANY', allowedFunctionNames: ['lookup'] } }],
        turns: (id) => ({ contents: [
            { role: 'user', parts: [{ text: 'How many?' }] },
            { role: 'model', parts: [{ functionCall: { id, name: 'lookup', args: { sku: 'Q7' } }, thoughtSignature: 'c2ln' }] },
            { role: 'user', parts: [{ functionResponse: { id, name: 'lookup', response: { output: '4' } } }, { text: 'So?' }] }] }),
        refusals: [
            [400, { error: { code: 400, message: 'Field required', status: 'INVALID_ARGUMENT' } }, 422, 'provider_rejected'],
            [400, [{ error: { code: 400, message: 'Field required', status: 'INVALID_ARGUMENT' } }], 422, 'provider_rejected'],
            [400, { error: { status: 'INVALID_ARGUMENT', details: [{ reason: 'API_KEY_INVALID' }] } }, 502, 'provider_error'],
            [400, { error: { status: 'FAILED_PRECONDITION' } }, 502, 'provider_error'],
            [503, { error: { status: 'UNAVAILABLE' } }, 502, 'provider_error'],
            [200, { candidates: [{ finishReason: 'MALFORMED_FUNCTION_CALL' }] }, 502, 'provider_bad_response'],
            [200, {}, 502, 'provider_bad_response']],
        unsupported: { type: 'image_url', image_url: { url: 'https://x/y.png' } },
    },
    ollama: {
        path: '/api/chat', key: ['authorization', `Bearer ${KEY}`], ignored: ['user'], reasoning: 0,
        text: { model: 'qwen3:8b', created_at: '2026-11-23T01:02:03.000Z', done: true, done_reason: 'stop',
                message: { role: 'assistant', content: 'Four left.', thinking: 'count' }, prompt_eval_count: 21, eval_count: 9 },
        calls: { model: 'qwen3:8b', created_at: '2026-11-23T01:02:03.000Z', done: true, done_reason: 'stop',
                 message: { role: 'assistant', content: '', tool_calls: [{ function: { name: 'lookup', arguments: { sku: 'Q7' } } }] } },
        asked: {
            model: 'm', stream: false,
            messages: [{ role: 'system', content: 'Be brief.' }, { role: 'system', content: 'In English.' },
                       { role: 'user', content: 'How' }, { role: 'user', content: 'many?', images: ['AAAA'] }],
            options: { num_predict: 50, temperature: 1.5, top_p: 0.7, stop: ['x'], seed: 7, num_ctx: 8192 }, keep_alive: '1h',
        },
        parameters: { options: { num_ctx: 8192, num_predict: 9999 }, keep_alive: '1h' },
        tools: [{ type: 'function', function: lookup }], choices: ['tool_choice', undefined, undefined],
        turns: (id) => ({ messages: [
            { role: 'user', content: 'How many?' },
            { role: 'assistant', content: '', tool_calls: [{ id, function: { name: 'lookup', arguments: { sku: 'Q7' } } }] },
            { role: 'tool', tool_name: 'lookup', tool_call_id: id, content: '4' }, { role: 'user', content: 'So?' }] }),
        refusals: [[400, { error: 'Field required' }, 422, 'provider_rejected'],
                   [404, { error: 'model not found' }, 502, 'provider_error'],
                   [200, { error: 'out of memory' }, 502, 'provider_bad_response']],
        unsupported: { type: 'image_url', image_url: { url: 'https://x/y.png' } },
    },
    cohere: {
        path: '/v2/chat', key: ['authorization', `Bearer ${KEY}`], ignored: ['user'], reasoning: 0,
        text: { id: 'co-1', finish_reason: 'COMPLETE', message: { role: 'assistant', content: [{ type: 'thinking', thinking: 'count' },
                { type: 'text', text: 'Four ' }, { type: 'text', text: 'left.' }] },
                usage: { billed_units: { input_tokens: 1, output_tokens: 2 }, tokens: { input_tokens: 21, output_tokens: 9 }, cached_tokens: 16 } },
        calls: { id: 'co-2', finish_reason: 'TOOL_CALL', message: { role: 'assistant', tool_plan: 'I will look.', tool_calls: [
            { id: 'lookup_x1', type: 'function', function: { name: 'lookup', arguments: '{"sku":"Q7"}' } }] } },
        asked: {
            model: 'm', stream: false, max_tokens: 50, temperature: 1.5, p: 0.7, stop_sequences: ['x'], seed: 7, safety_mode: 'OFF',
            messages: [{ role: 'system', content: 'Be brief.\n\nIn English.' }, { role: 'user', content: 'How' },
                       { role: 'user', content: [{ type: 'text', text: 'many?' }, { type: 'image_url', image_url: { url: image } }] }],
        },
        parameters: { safety_mode: 'OFF' },
        tools: [{ type: 'function', function: lookup }], choices: ['tool_choice', 'REQUIRED', 'REQUIRED'],
        turns: (id) => ({ messages: [
            { role: 'user', content: 'How many?' },
            { role: 'assistant', tool_calls: [{ id, type: 'function', function: { name: 'lookup', arguments: '{"sku":"Q7"}' } }] },
            { role: 'tool', tool_call_id: id, content: '4' }, { role: 'user', content: 'So?' }] }),
        refusals: [[400, { message: 'Field required' }, 422, 'provider_rejected'],
                   [498, { message: 'unsafe: Field required' }, 422, 'provider_rejected'],
                   [498, { message: 'invalid api token' }, 502, 'provider_error'],
                   [200, { finish_reason: 'ERROR', message: {} }, 502, 'provider_bad_response']],
        unsupported: { type: 'input_audio', input_audio: { data: 'x', format: 'wav' } },
    },
    responses: {
        provider: 'openai', base: '/v1', path: '/v1/responses', key: ['authorization', `Bearer ${KEY}`], ignored: ['stop', 'seed'], reasoning: 4,
        text: { id: 'resp_1', object: 'response', model: 'gpt-r', status: 'completed', error: null, incomplete_details: null, output: [
                    { type: 'reasoning', id: 'rs_1', summary: [] },
                    { type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'Four ' }, { type: 'output_text', text: 'left.' }] }],
                usage: { input_tokens: 21, input_tokens_details: { cached_tokens: 16 }, output_tokens: 9, output_tokens_details: { reasoning_tokens: 4 } } },
        calls: { id: 'resp_2', object: 'response', model: 'gpt-r', status: 'completed', output: [
            { type: 'function_call', id: 'fc_1', call_id: 'call_r1', name: 'lookup', arguments: '{"sku":"Q7"}', status: 'completed' }] },
        asked: {
            model: 'm', instructions: 'Be brief.\n\nIn English.', temperature: 1.5, top_p: 0.7, max_output_tokens: 50, user: 'u', store: false,
            input: [{ role: 'user', content: 'How' }, { role: 'user', content: [
                { type: 'input_text', text: 'many?' }, { type: 'input_image', image_url: image, detail: 'auto' }] }],
            reasoning: { effort: 'low' },
        },
        parameters: { reasoning: { effort: 'low' } },
        tools: [{ type: 'function', ...lookup }], choices: ['tool_choice', 'required', { type: 'function', name: 'lookup' }],
        turns: (id) => ({ input: [
            { role: 'user', content: 'How many?' },
            { type: 'function_call', call_id: id, name: 'lookup', arguments: '{"sku":"Q7"}' },
            { type: 'function_call_output', call_id: id, output: '4' }, { role: 'user', content: 'So?' }] }),
        refusals: [[400, { error: { message: 'Field required', type: 'invalid_request_error' } }, 422, 'provider_rejected'],
                   [429, { error: { message: 'slow', code: 'rate_limit_exceeded' } }, 502, 'provider_error'],
                   [200, { status: 'failed', error: { message: 'It broke.' }, output: [] }, 502, 'provider_bad_response'],
                   [200, { status: 'completed' }, 502, 'provider_bad_response']],
        unsupported: { type: 'input_audio', input_audio: { data: 'x', format: 'wav' } },
    },
};

let upstream;
let gateway;

before(async () => {
    upstream = await new Upstream().start();
    const names = [...Object.keys(PROVIDERS), 'anthropic', ...Object.keys(NATIVE)];
    const endpoint = (name) => ({ provider: NATIVE[name]?.provider ?? name, credential: name, model: 'm', temperature: 1.5,
                                  price: { input: 1, output: 2 }, ...(NATIVE[name] && { top_p: 0.7, parameters: NATIVE[name].parameters }) });
    gateway = await startGateway({
        credentials: Object.fromEntries(names.map((name) => [name, {
            provider: NATIVE[name]?.provider ?? name, base_url: upstream.base + (PROVIDERS[name]?.path ?? NATIVE[name]?.base ?? ''), api_key: KEY }])),
        files: { 'credentials.d/anthropic-later.yaml': { provider: 'anthropic', base_url: upstream.base, api_key: KEY, headers: { 'anthropic-version': '2026-10-21' } },
                 'models.yaml': [{ provider: 'openai', model: 'm', api: 'responses' }] },
        projects: demo({ ...Object.fromEntries(names.map((name) => [name, endpoint(name)])),
                          'anthropic-later': { ...endpoint('anthropic'), credential: 'anthropic-later' } }),
    });
});

after(async () => {
    await gateway?.stop();
    upstream?.stop();
});

for (const [name, provider] of Object.entries(PROVIDERS)) {
    describe(name, () => {
        test('text, under the right names of parameters', async () => {
            upstream.says = { body: provider.text };
            const answer = await gateway.post(name, { message: 'How many?', max_tokens: 50, seed: 7, stop: 'x', user: 'u' });
            assert.equal(answer.status, 200, answer.text);
            const { content, finish_reason: finish, meta, usage: used } = answer.json;
            assert.deepEqual([content, finish, used.total_tokens, meta.cost_usd], ['Four left.', 'stop', 30, 0.000039]);
            assert.deepEqual(meta.ignored, provider.ignored);
            const { path, headers, body } = upstream.asked.at(-1);
            assert.equal(path, `${provider.path}/chat/completions`);
            assert.equal(headers.authorization, `Bearer ${KEY}`);
            assert.deepEqual(body, { model: 'm', messages: [{ role: 'user', content: 'How many?' }], stop: 'x',
                                     ...provider.asked });
        });

        test('a conversation with tools, by the OpenAI SDK', async () => {
            const client = new OpenAI({ baseURL: gateway.api, apiKey: gateway.token, maxRetries: 0 });
            const tools = [{ type: 'function', function: { name: 'lookup', parameters: { type: 'object' } } }];
            const messages = [{ role: 'user', content: 'How many?' }];
            upstream.says = { body: { ...provider.text, choices: [choice({ content: '', tool_calls: provider.calls }, 'tool_calls')] } };
            const first = await client.chat.completions.create({ model: name, messages, tools });
            const [{ message, finish_reason: finish }] = first.choices;
            assert.equal(finish, 'tool_calls');
            const [call] = message.tool_calls;
            assert.deepEqual([call.type, call.function.name, JSON.parse(call.function.arguments)],
                             ['function', 'lookup', { sku: 'Q7' }]);
            upstream.says = { body: provider.text };
            const second = await client.chat.completions.create({ model: name, tools, messages: [
                ...messages, message, { role: 'tool', tool_call_id: call.id, content: '4' }] });
            assert.equal(second.choices[0].message.content, 'Four left.');
            const sent = upstream.asked.at(-1).body.messages;
            assert.equal(sent[1].tool_calls[0].id, sent[2].tool_call_id, 'call and result have one id');
            assert.equal(typeof sent[1].tool_calls[0].function.arguments, 'string');
        });

        test('"A provider\'s own refusal of the request … comes back as 422 provider_rejected"', async () => {
            upstream.says = provider.error;
            const answer = await gateway.post(name, { message: 'x' });
            assertError(answer, 422, 'provider_rejected');
            assert.match(answer.json.error.message, /Field required/);
        });
    });
}

describe('anthropic', () => {
    const text = { id: 'msg_01', type: 'message', role: 'assistant', model: 'claude-x', stop_reason: 'end_turn',
                   content: [{ type: 'thinking', thinking: 'count' }, { type: 'text', text: 'Four ' },
                             { type: 'text', text: 'left.' }],
                   usage: { input_tokens: 5, cache_creation_input_tokens: 2, cache_read_input_tokens: 14,
                            output_tokens: 9, output_tokens_details: { thinking_tokens: 4 } } };
    const calls = { ...text, stop_reason: 'tool_use', content: [
        { type: 'text', text: 'Let me look.' },
        { type: 'tool_use', id: 'toolu_01', name: 'lookup', input: { sku: 'Q7' } }] };
    const parameters = { type: 'object', properties: { sku: { type: 'string' } } };

    test('text: system apart, sampling within its range, usage with what the cache has', async () => {
        upstream.says = { body: text };
        const answer = await gateway.post('anthropic', { messages: [
            { role: 'system', content: 'Be brief.' }, { role: 'developer', content: 'In English.' },
            { role: 'user', content: 'How' }, { role: 'user', content: [{ type: 'text', text: 'many?' },
                { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }] },
        ], stop: 'x', seed: 7, user: 'u' });
        assert.equal(answer.status, 200, answer.text);
        const { content, finish_reason: finish, meta, usage: used } = answer.json;
        assert.deepEqual([content, finish, meta.ignored], ['Four left.', 'stop', ['seed']]);
        assert.deepEqual([used.prompt_tokens, used.completion_tokens, used.total_tokens,
                          used.prompt_tokens_details.cached_tokens, used.completion_tokens_details.reasoning_tokens],
                         [21, 9, 30, 14, 4]);
        const { path, headers, body } = upstream.asked.at(-1);
        assert.equal(path, '/v1/messages');
        assert.deepEqual([headers['x-api-key'], headers['anthropic-version'], headers.authorization],
                         [KEY, '2023-06-01', undefined]);
        assert.deepEqual(body, {
            model: 'm', max_tokens: 4096, system: 'Be brief.\n\nIn English.', temperature: 1, stop_sequences: ['x'],
            metadata: { user_id: 'u' },
            messages: [{ role: 'user', content: [
                { type: 'text', text: 'How' }, { type: 'text', text: 'many?' },
                { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'AAAA' } }] }],
        });
    });

    test('a conversation with tools, by the OpenAI SDK', async () => {
        const client = new OpenAI({ baseURL: gateway.api, apiKey: gateway.token, maxRetries: 0 });
        const tools = [{ type: 'function', function: { name: 'lookup', description: 'Stock', parameters } }];
        const messages = [{ role: 'user', content: 'How many?' }];
        upstream.says = { body: calls };
        const first = await client.chat.completions.create({ model: 'anthropic', messages, tools, tool_choice: 'required' });
        const [{ message, finish_reason: finish }] = first.choices;
        assert.deepEqual([message.content, finish], ['Let me look.', 'tool_calls']);
        assert.deepEqual(message.tool_calls, [{ id: 'toolu_01', type: 'function',
                                                function: { name: 'lookup', arguments: '{"sku":"Q7"}' } }]);
        assert.deepEqual(upstream.asked.at(-1).body.tools, [{ name: 'lookup', description: 'Stock', input_schema: parameters }]);
        assert.deepEqual(upstream.asked.at(-1).body.tool_choice, { type: 'any' });
        upstream.says = { body: text };
        await client.chat.completions.create({ model: 'anthropic', tools, messages: [
            ...messages, message, { role: 'tool', tool_call_id: 'toolu_01', content: '4' }, { role: 'user', content: 'So?' }],
            tool_choice: { type: 'function', function: { name: 'lookup' } } });
        const { body } = upstream.asked.at(-1);
        assert.deepEqual(body.tool_choice, { type: 'tool', name: 'lookup' });
        assert.deepEqual(body.messages, [
            { role: 'user', content: [{ type: 'text', text: 'How many?' }] },
            { role: 'assistant', content: [{ type: 'text', text: 'Let me look.' },
                                           { type: 'tool_use', id: 'toolu_01', name: 'lookup', input: { sku: 'Q7' } }] },
            { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'toolu_01', content: '4' },
                                      { type: 'text', text: 'So?' }] }]);
    });

    test('"unless the credential\'s headers say otherwise": a later version takes no sampling', async () => {
        upstream.says = { body: text };
        const answer = await gateway.post('anthropic-later', { message: 'How many?' });
        assert.deepEqual(answer.json.meta.ignored, ['temperature']);
        const { headers, body } = upstream.asked.at(-1);
        assert.equal(headers['anthropic-version'], '2026-10-21');
        assert.equal(body.temperature, undefined);
    });

    test('refusals, and what is another matter than its status says', async () => {
        const says = (status, type, details) => ({ status, body: { type: 'error', error: { type, message: 'Field required', details } } });
        for (const [said, status, code] of [
            [says(400, 'invalid_request_error'), 422, 'provider_rejected'],
            [says(400, 'invalid_request_error', { error_code: 'organization_on_hold' }), 502, 'provider_error'],
            [says(401, 'authentication_error'), 502, 'provider_error'],
            [says(529, 'overloaded_error'), 502, 'provider_error']]) {
            upstream.says = said;
            assertError(await gateway.post('anthropic', { message: 'x' }), status, code);
        }
    });

    test('what it has no word for is refused before the call', async () => {
        const before_ = upstream.asked.length;
        for (const messages of [
            [{ role: 'user', content: [{ type: 'input_audio', input_audio: { data: 'x', format: 'wav' } }] }],
            [{ role: 'user', content: 'x' }, { role: 'assistant', tool_calls: [{ id: 'a', type: 'function',
                function: { name: 'f', arguments: '[1]' } }] }]]) {
            assertError(await gateway.post('anthropic', { messages }), 422, 'parameter_unsupported');
        }
        assert.equal(upstream.asked.length, before_);
    });
});

test('gemini says in the body when to come back', async () => {
    upstream.says = { status: 429, body: { error: { code: 429, message: 'slow', status: 'RESOURCE_EXHAUSTED', details: [
        { '@type': 'type.googleapis.com/google.rpc.RetryInfo', retryDelay: '16.2s' }] } } };
    const answer = await gateway.post('gemini', { message: 'x' });
    assertError(answer, 502, 'provider_error');
    assert.equal(answer.headers.get('retry-after'), '17');
});

for (const [name, provider] of Object.entries(NATIVE)) {
    describe(name, () => {
        const tools = [{ type: 'function', function: lookup }];

        test('text and an image, sampling, limits, and what the configuration adds', async () => {
            upstream.says = { body: provider.text };
            const answer = await gateway.post(name, { messages: [
                { role: 'system', content: 'Be brief.' }, { role: 'developer', content: 'In English.' },
                { role: 'user', content: 'How' }, { role: 'user', content: [{ type: 'text', text: 'many?' },
                    { type: 'image_url', image_url: { url: image } }] },
            ], max_tokens: 50, stop: 'x', seed: 7, user: 'u' });
            assert.equal(answer.status, 200, answer.text);
            const { content, finish_reason: finish, meta, usage: used } = answer.json;
            assert.deepEqual([content, finish, meta.ignored], ['Four left.', 'stop', provider.ignored]);
            assert.deepEqual([used.prompt_tokens, used.completion_tokens, used.total_tokens,
                              used.completion_tokens_details.reasoning_tokens], [21, 9, 30, provider.reasoning]);
            const { path, headers, body } = upstream.asked.at(-1);
            assert.equal(path, provider.path);
            assert.equal(headers[provider.key[0]], provider.key[1]);
            assert.deepEqual(body, provider.asked);
        });

        test('a conversation with tools, by the OpenAI SDK', async () => {
            const client = new OpenAI({ baseURL: gateway.api, apiKey: gateway.token, maxRetries: 0 });
            const messages = [{ role: 'user', content: 'How many?' }];
            const [member, ...choices] = provider.choices;
            upstream.says = { body: provider.calls };
            const first = await client.chat.completions.create({ model: name, messages, tools, tool_choice: 'required' });
            const [{ message, finish_reason: finish }] = first.choices;
            const [{ id, ...call }] = message.tool_calls;
            assert.deepEqual([message.content, finish, call.type, call.function],
                             [null, 'tool_calls', 'function', { name: 'lookup', arguments: '{"sku":"Q7"}' }]);
            assert.match(id, /^[a-z]+_[a-z0-9]+$/);
            assert.deepEqual([upstream.asked.at(-1).body.tools, upstream.asked.at(-1).body[member]], [provider.tools, choices[0]]);
            upstream.says = { body: provider.text };
            await client.chat.completions.create({ model: name, messages: [
                ...messages, message, { role: 'tool', tool_call_id: id, content: '4' }, { role: 'user', content: 'So?' }],
                tools: [...tools, { type: 'function', function: { name: 'other' } }],
                tool_choice: { type: 'function', function: { name: 'lookup' } } });
            const { body } = upstream.asked.at(-1);
            assert.deepEqual(body[member], choices[1]);
            for (const [key, value] of Object.entries(provider.turns(id))) {
                assert.deepEqual(body[key], value);
            }
        });

        test('refusals, and what is another matter than its status says', async () => {
            for (const [said, body, status, code] of provider.refusals) {
                upstream.says = { status: said, body };
                const answer = await gateway.post(name, { message: 'x' });
                assertError(answer, status, code);
                if (code === 'provider_rejected') {
                    assert.match(answer.json.error.message, /Field required/);
                }
            }
        });

        test('what it has no word for is refused before the call', async () => {
            const before_ = upstream.asked.length;
            assertError(await gateway.post(name, { messages: [{ role: 'user', content: [provider.unsupported] }] }),
                        422, 'parameter_unsupported');
            assert.equal(upstream.asked.length, before_);
        });
    });
}

test('gemini: a prompt that was blocked is no failure', async () => {
    upstream.says = { body: { promptFeedback: { blockReason: 'SAFETY' }, usageMetadata: { promptTokenCount: 3 } } };
    const answer = await gateway.post('gemini', { message: 'x' });
    assert.deepEqual([answer.status, answer.json.finish_reason, answer.json.content], [200, 'content_filter', '']);
});
