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
        projects: demo(Object.fromEntries(names.map(([name, vendor]) => [name, {
            provider: vendor.provider ?? name, credential: name, model: name === 'responses' ? 'm-responses' : 'm', streaming_enabled: true, ...sampling }]))),
        files: { 'models.yaml': [{ provider: 'openai', model: 'm-responses', api: 'responses' }] },
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
