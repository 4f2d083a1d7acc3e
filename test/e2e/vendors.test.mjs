// What is sent to each provider is what the vendor's own SDK sends for the same call.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';

import Anthropic from '@anthropic-ai/sdk';
import { GoogleGenAI } from '@google/genai';
import { Mistral } from '@mistralai/mistralai';
import { CohereClientV2 } from 'cohere-ai';
import Groq from 'groq-sdk';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import Together from 'together-ai';

import { demo, startGateway } from './harness.mjs';

const KEY = 'sk-mock-key-0123456789';
const ID = 'aB3dE6gH9'; // a call's; Mistral takes no other form
const IMAGE = 'data:image/png;base64,iVBORw0KGgo=';
const schema = { type: 'object', properties: { sku: { type: 'string' } }, required: ['sku'] };
const lookup = { name: 'lookup', description: 'Stock of an article', parameters: schema };
const tools = [{ type: 'function', function: lookup }];

/** The conversation in OpenAI's shape: an image, a call and its result in it. */
const messages = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: [{ type: 'text', text: 'How many of these?' }, { type: 'image_url', image_url: { url: IMAGE } }] },
    { role: 'assistant', content: 'Let me look.', tool_calls: [{ id: ID, type: 'function', function: { name: 'lookup', arguments: '{"sku":"Q7"}' } }] },
    { role: 'tool', tool_call_id: ID, content: '4' },
    { role: 'user', content: 'And tomorrow?' },
];
const sampling = { temperature: 0.5, top_p: 0.9 };
const openaiCall = { model: 'm', messages, tools, tool_choice: 'required', ...sampling };
const base64 = IMAGE.split(',')[1];

const client = (Sdk, path) => (base) => new Sdk({ apiKey: KEY, baseURL: base + path, maxRetries: 0 });
const chat = (Sdk, path, more) => (base, stream) => client(Sdk, path)(base).chat.completions.create({ ...openaiCall, ...more, ...stream });

/** How each vendor's SDK is asked for that; `stream` are the members that ask for a stream there.
 * `apart`: what one of the two says and the other leaves to its default. */
const VENDORS = {
    openai: {
        call: chat(OpenAI, '/v1', { max_completion_tokens: 50, stop: 'x', seed: 7 }), base: '/v1',
        stream: { stream: true, stream_options: { include_usage: true } },
    },
    groq: {
        call: chat(Groq, '', { max_completion_tokens: 50, stop: 'x', seed: 7 }), base: '/openai/v1', stream: { stream: true },
    },
    together: {
        call: chat(Together, '/v1', { max_tokens: 50, stop: ['x'], seed: 7 }), base: '/v1', stream: { stream: true },
    },
    mistral: {
        base: '/v1', stream: { stream: true },
        call: (base, stream) => new Mistral({ apiKey: KEY, serverURL: base }).chat[stream ? 'stream' : 'complete']({
            model: 'm', maxTokens: 50, temperature: 0.5, topP: 0.9, stop: 'x', randomSeed: 7, tools, toolChoice: 'required',
            messages: [messages[0],
                       { role: 'user', content: [{ type: 'text', text: 'How many of these?' }, { type: 'image_url', imageUrl: { url: IMAGE } }] },
                       { role: 'assistant', content: 'Let me look.', toolCalls: [{ id: ID, function: { name: 'lookup', arguments: '{"sku":"Q7"}' }, type: 'function' }] },
                       { role: 'tool', toolCallId: ID, content: '4' }, messages[4]],
        }),
        apart: (body) => {
            delete body.stream; // said by one even where it is false
            body.tools.forEach((tool) => { delete tool.function.strict; });
            body.messages.forEach((message) => {
                delete message.prefix;
                message.tool_calls?.forEach((call) => { delete call.index; });
            });
        },
    },
    anthropic: {
        base: '', stream: { stream: true },
        call: (base, stream) => new Anthropic({ apiKey: KEY, baseURL: base, maxRetries: 0 }).messages.create({
            model: 'm', max_tokens: 50, system: 'Be brief.', temperature: 0.5, stop_sequences: ['x'],
            tools: [{ name: 'lookup', description: lookup.description, input_schema: schema }], tool_choice: { type: 'any' },
            messages: [
                { role: 'user', content: [{ type: 'text', text: 'How many of these?' },
                                          { type: 'image', source: { type: 'base64', media_type: 'image/png', data: base64 } }] },
                { role: 'assistant', content: [{ type: 'text', text: 'Let me look.' }, { type: 'tool_use', id: ID, name: 'lookup', input: { sku: 'Q7' } }] },
                { role: 'user', content: [{ type: 'tool_result', tool_use_id: ID, content: '4' }, { type: 'text', text: 'And tomorrow?' }] }],
            ...stream,
        }),
    },
    gemini: {
        base: '', stream: {},
        call: (base, stream) => new GoogleGenAI({ apiKey: KEY, apiVersion: 'v1beta', httpOptions: { baseUrl: base, retryOptions: { attempts: 1 } } })
            .models[stream ? 'generateContentStream' : 'generateContent']({
                model: 'm',
                contents: [
                    { role: 'user', parts: [{ text: 'How many of these?' }, { inlineData: { mimeType: 'image/png', data: base64 } }] },
                    { role: 'model', parts: [{ text: 'Let me look.' }, { functionCall: { id: ID, name: 'lookup', args: { sku: 'Q7' } } }] },
                    { role: 'user', parts: [{ functionResponse: { id: ID, name: 'lookup', response: { output: '4' } } }, { text: 'And tomorrow?' }] }],
                config: { systemInstruction: { parts: [{ text: 'Be brief.' }] }, maxOutputTokens: 50, temperature: 0.5, topP: 0.9, stopSequences: ['x'],
                          seed: 7, candidateCount: 1, tools: [{ functionDeclarations: [{ name: 'lookup', description: lookup.description, parametersJsonSchema: schema }] }],
                          toolConfig: { functionCallingConfig: { mode: 'ANY' } } },
            }),
    },
    ollama: {
        base: '', stream: { stream: true },
        call: (base, stream) => new Ollama({ host: base }).chat({
            model: 'm', stream: Boolean(stream), tools, options: { num_predict: 50, temperature: 0.5, top_p: 0.9, stop: ['x'], seed: 7 },
            messages: [messages[0], { role: 'user', content: 'How many of these?', images: [base64] },
                       { role: 'assistant', content: 'Let me look.', tool_calls: [{ id: ID, function: { name: 'lookup', arguments: { sku: 'Q7' } } }] },
                       { role: 'tool', tool_name: 'lookup', tool_call_id: ID, content: '4' }, messages[4]],
        }),
    },
    cohere: {
        base: '', stream: { stream: true },
        call: (base, stream) => new CohereClientV2({ token: KEY, environment: base, maxRetries: 0 })[stream ? 'chatStream' : 'chat']({
            model: 'm', maxTokens: 50, temperature: 0.5, p: 0.9, stopSequences: ['x'], seed: 7, tools, toolChoice: 'REQUIRED',
            messages: [messages[0],
                       { role: 'user', content: [{ type: 'text', text: 'How many of these?' }, { type: 'image_url', imageUrl: { url: IMAGE } }] },
                       { role: 'assistant', content: 'Let me look.', toolCalls: [{ id: ID, type: 'function', function: { name: 'lookup', arguments: '{"sku":"Q7"}' } }] },
                       { role: 'tool', toolCallId: ID, content: '4' }, messages[4]],
        }),
    },
    responses: {
        provider: 'openai', base: '/v1', stream: { stream: true },
        call: (base, stream) => client(OpenAI, '/v1')(base).responses.create({
            model: 'm', instructions: 'Be brief.', max_output_tokens: 50, ...sampling, tools: [{ type: 'function', ...lookup }], tool_choice: 'required',
            store: false,
            input: [
                { role: 'user', content: [{ type: 'input_text', text: 'How many of these?' }, { type: 'input_image', image_url: IMAGE, detail: 'auto' }] },
                { role: 'assistant', content: 'Let me look.' },
                { type: 'function_call', call_id: ID, name: 'lookup', arguments: '{"sku":"Q7"}' },
                { type: 'function_call_output', call_id: ID, output: '4' },
                { role: 'user', content: 'And tomorrow?' }],
            ...stream,
        }),
    },
};

/** A schema of answers, as each is sent it: its own member, unless it is told in the prompt. */
const answer = { type: 'object', properties: { sum: { type: 'integer', minimum: 0 } }, required: ['sum'] };
const loose = { ...answer, required: [], additionalProperties: true };
const closed = { ...answer, additionalProperties: false };
const told = { ...closed, properties: { sum: { type: 'integer', description: 'minimum: 0' } } };
const format = (schema_, strict) => ({ type: 'json_schema', json_schema: { name: 'output', strict, schema: schema_ } });

/** `native` is what the vendor is sent; `m`: whether a model that models.yaml doesn't know is, too;
 * `loose`: the same for the schema that leaves more open; `tools`, `streams`: with those, too. */
const STRUCTURED = {
    openai: { m: true, tools: true, streams: true, native: { response_format: format(closed, true) }, loose: { response_format: format(loose, false) } },
    responses: { m: true, tools: true, streams: true, native: { text: { format: { type: 'json_schema', name: 'output', strict: true, schema: closed } } },
                 loose: { text: { format: { type: 'json_schema', name: 'output', strict: false, schema: loose } } } },
    mistral: { m: true, streams: true, native: { response_format: format(closed, true) }, loose: { response_format: format(loose, false) } },
    groq: { native: { response_format: format(closed, true) }, loose: { response_format: format(loose, false) } },
    together: { streams: true, both: true, native: { response_format: format(answer, false) }, loose: { response_format: format(loose, false) } },
    anthropic: { m: true, tools: true, streams: true, native: { output_config: { format: { type: 'json_schema', schema: told } } } },
    gemini: { m: true, streams: true, native: { responseMimeType: 'application/json', responseJsonSchema: answer }, inside: 'generationConfig',
              loose: { responseMimeType: 'application/json', responseJsonSchema: { ...answer, required: undefined, additionalProperties: true } } },
    ollama: { m: true, streams: true, both: true, native: { format: answer }, loose: { format: { ...answer, required: undefined, additionalProperties: true } } },
    cohere: { m: true, streams: true, native: { response_format: { type: 'json_object', json_schema: told } } },
};

let server;
let base;
let asked = [];
let gateway;

before(async () => {
    server = http.createServer((request, response) => {
        const chunks = [];
        request.on('data', (chunk) => chunks.push(chunk)).on('end', () => {
            asked.push({ path: request.url, headers: request.headers, body: JSON.parse(Buffer.concat(chunks)) });
            response.writeHead(400, { 'content-type': 'application/json' }).end('{"error":{"message":"enough"},"message":"enough"}');
        });
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    base = `http://127.0.0.1:${server.address().port}`;
    const names = Object.entries(VENDORS);
    gateway = await startGateway({
        credentials: Object.fromEntries(names.map(([name, vendor]) => [name, { provider: vendor.provider ?? name, base_url: base + vendor.base, api_key: KEY }])),
        projects: demo(Object.fromEntries(names.flatMap(([name, vendor]) => {
            const target = { provider: vendor.provider ?? name, credential: name, streaming_enabled: true };
            const model = name === 'responses' ? 'm-responses' : 'm';
            return [[name, { ...target, model, ...sampling }],
                    ...[model, 'able', 'unable'].map((one) => [`${name}-${one}`, { ...target, model: one, output_schema: answer }]),
                    [`${name}-loose`, { ...target, model: name === 'responses' ? model : 'able', output_schema: loose }]];
        }))),
        files: { 'models.yaml': [
            { provider: 'openai', model: 'm-responses', api: 'responses' },
            ...names.filter(([, vendor]) => !vendor.provider).flatMap(([provider]) => [
                { provider, model: 'able', structured_output: 'native' }, { provider, model: 'unable', lacks: ['response_format'] }]),
        ] },
    });
});

after(async () => {
    await gateway?.stop();
    server?.closeAllConnections();
    server?.close();
});

/** The one request that this makes. */
async function sentBy(call) {
    asked = [];
    try {
        const stream = await call();
        for await (const _ of stream ?? []) {
            // some ask only when they are read
        }
    } catch {
        // 400, as all get
    }
    assert.equal(asked.length, 1);
    return asked[0];
}

for (const [name, vendor] of Object.entries(VENDORS)) {
    describe(name, () => {
        for (const stream of [undefined, vendor.stream]) {
            test(stream ? 'streamed' : 'whole', async () => {
                const theirs = await sentBy(() => vendor.call(base, stream));
                const ours = await sentBy(() => gateway.post(name, {
                    messages, tools, tool_choice: 'required', max_tokens: 50, stop: 'x', seed: 7, ...(stream ? { stream: true } : {}) }));
                ours.body.model &&= 'm';
                [ours.body, theirs.body].forEach((body) => vendor.apart?.(body));
                assert.deepEqual(ours.body, theirs.body);
                assert.equal(ours.path, theirs.path);
                assert.match(theirs.headers['content-type'], /^application\/json/);
                assert.match(ours.headers['content-type'], /^application\/json/);
                const key = [ours, theirs].map(({ headers }) => headers.authorization ?? headers['x-api-key'] ?? headers['x-goog-api-key']);
                assert.equal(key[0].replace('Bearer ', ''), KEY);
                assert.ok(name === 'ollama' || key[1].replace('Bearer ', '') === KEY);
            });
        }
    });
}

describe('output_schema', () => {
    const without = (value) => JSON.parse(JSON.stringify(value));

    /** What a request was told: { native, prompt }. */
    async function toldBy(slug, fields = {}) {
        const { body } = await sentBy(() => gateway.post(slug, { message: 'Hi', ...fields }));
        const name = slug.split('-')[0];
        const { inside, native } = STRUCTURED[name];
        const place = (inside ? body[inside] : body) ?? {};
        const found = Object.fromEntries(Object.keys(native).filter((key) => key in place).map((key) => [key, place[key]]));
        return { native: Object.keys(found).length > 0 ? found : null, prompt: /JSON Schema/.test(JSON.stringify(body)) };
    }

    for (const [name, { m = false, tools: withTools = false, streams = false, both = false, native, loose: open = null }] of Object.entries(STRUCTURED)) {
        const model = name === 'responses' ? 'm-responses' : 'm';
        const able = name === 'responses' ? model : 'able';
        const way = (is, what = native) => is ? { native: without(what), prompt: both } : { native: null, prompt: true };

        test(`${name}: natively, where provider and model can`, async () => {
            assert.deepEqual(await toldBy(`${name}-${able}`), way(true));
            assert.deepEqual(await toldBy(`${name}-${model}`), way(m), 'a model that models.yaml does not know');
            if (name !== 'responses') {
                assert.deepEqual(await toldBy(`${name}-unable`), way(false));
            }
            assert.deepEqual(await toldBy(`${name}-loose`), way(open !== null, open));
        });

        test(`${name}: with tools, and streamed`, async () => {
            assert.deepEqual(await toldBy(`${name}-${able}`, { tools }), way(withTools));
            assert.deepEqual(await toldBy(`${name}-${able}`, { stream: true }), way(streams));
        });
    }
});
