// What a body says: variables, parameters, parts of messages. Each test quotes the line of the HTTP
// contract that it proves; what counts is what the provider was asked.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { assertError, demo, run, startGateway, writeFiles } from './harness.mjs';
import { mockCredential, startMock } from './mock.mjs';

let mock;
let gateway;

before(async () => {
    mock = await startMock();
    const target = { provider: 'openai', credential: 'mock', model: 'gpt-plain' };
    const variables = [
        { name: 'language', type: 'enum', enum: ['English', 'German'], default: 'English' },
        { name: 'limit', type: 'int', min: 1, max: 10, required: true },
        { name: 'name', pattern: '^[A-Z]', max_length: 5 },
        { name: 'note', type: 'text' },
        { name: 'share', type: 'float', max: 0.5 },
        { name: 'formal', type: 'bool', default: false },
        { name: 'since', type: 'date', min: '2026-01-01' },
    ];
    const system = '{{language}}|{{limit}}|{{name}}|{{note}}|{{share}}|{{formal}}|{{since}}';
    gateway = await startGateway({
        credentials: { mock: mockCredential(mock) },
        projects: demo({
            filled: { ...target, system_prompt: system, variables },
            prompt: { ...target, user_prompt: 'In {{language}}: {{input}}', variables: variables.slice(0, 1) },
            ready: { ...target, user_prompt: 'Say hello in {{language}}.', variables: variables.slice(0, 1) },
            free: { ...target, client_parameters: ['temperature', 'response_format', 'max_tokens'],
                    temperature: 0.2, max_output_tokens: 50 },
            strict: { ...target, client_parameters: [] },
            tuned: { ...target, parameters: { reasoning_effort: 'low', logit_bias: { 50256: -100 },
                                              metadata: { a: [1, 2.50, null, true, 'x'] } } },
            plain: target,
        }),
    });
});

after(async () => {
    await gateway?.stop();
    await mock?.stop();
});

/** What the provider was asked, and the answer. */
async function asked(slug, body) {
    mock.clear();
    const answer = await gateway.post(slug, body, { headers: { connection: 'close' } });
    assert.equal(answer.status, 200, answer.text);
    return { sent: mock.only().json, ignored: answer.json.meta.ignored };
}

const system = async (body) => (await asked('filled', body)).sent.messages[0].content;

async function refused(slug, body) {
    mock.clear();
    const answer = await gateway.post(slug, body);
    assert.equal(mock.requests.length, 0, 'nothing went up');
    return answer;
}

async function complaints(body, slug = 'filled') {
    const answer = await refused(slug, body);
    assertError(answer, 422, 'variables_invalid');
    return answer.json.error.details.map(({ path, keyword }) => `${path} ${keyword}`);
}

describe('variables', () => {
    test('"Variables … come from `variables`"', async () => {
        assert.equal(await system({ message: 'Hi', variables: {
            language: 'German', limit: 3, name: 'Zoe', note: 'a\nb', share: 0.25, formal: true, since: '2026-11-26',
        } }), 'German|3|Zoe|a\nb|0.25|true|2026-11-26');
    });

    test('"else from the payload\'s own members", which are then not named in meta.ignored', async () => {
        const { sent, ignored } = await asked('filled', { message: 'Hi', limit: 4, name: 'Ann', other: 1 });
        assert.equal(sent.messages[0].content, 'English|4|Ann|||false|');
        assert.deepEqual(ignored, ['other']);
    });

    test('"else from a JSON object that is the text of the last user message"', async () => {
        assert.equal(await system({ messages: [
            { role: 'user', content: '{"limit":9}' }, { role: 'assistant', content: 'ok' },
            { role: 'user', content: ' {"limit": "5", "name": "Bob", "unrelated": [1]}' }] }), 'English|5|Bob|||false|');
        assert.equal(await system({ message: '{"limit":6}' }), 'English|6||||false|');
        assert.equal(await system({ input: { limit: 7 } }), 'English|7||||false|');
    });

    test('the first of these places that has one counts; null is as if it were not there', async () => {
        assert.equal(await system({ message: '{"limit":1,"name":"Msg"}', limit: 2, name: 'Body', variables: { limit: 3, name: null } }),
                     'English|3|Body|||false|');
    });

    test('"Numeric and boolean strings are coerced"', async () => {
        assert.equal(await system({ message: 'Hi', variables: { limit: '3', share: '0.5', formal: 'true' } }),
                     'English|3|||0.5|true|');
    });

    test('"all errors are listed"', async () => {
        assert.deepEqual(await complaints({ message: 'Hi', variables: {
            language: 'French', limit: 11, name: 'zoe', note: 7, share: 0.6, formal: 'maybe', since: '2025-12-31', tone: 1,
        } }), ['/variables/language enum', '/variables/limit max', '/variables/name pattern', '/variables/note type',
               '/variables/share max', '/variables/formal type', '/variables/since min', '/variables/tone unknown']);
        assert.deepEqual(await complaints({ message: 'Hi', name: 'Zoelle' }), ['/variables/limit required', '/name max_length']);
        assert.deepEqual(await complaints({ message: '{"limit":[]}' }), ['/input/limit type']);
    });

    test('"values are never echoed in errors or logs"', async () => {
        const value = 'a-very-private-value';
        const { text, id } = await refused('filled', { message: 'Hi', variables: {
            language: value, limit: value, name: value, share: value, formal: value, since: value } });
        assert.doesNotMatch(text, /private/);
        const row = await gateway.row(id);
        assert.equal(row.status, 'variables_invalid');
        assert.doesNotMatch(JSON.stringify(row), /private/);
        assert.doesNotMatch(gateway.stderr, /private/);
    });

    test('"Unknown keys are refused inside `variables` and, in case 4, in the payload"', async () => {
        assert.deepEqual(await complaints({ limit: 1, tone: 'x', 'a/b': 1 }), ['/tone unknown', '/a~1b unknown']);
        assert.deepEqual(await complaints({ language: 'German', text: 'x' }, 'prompt'), ['/text unknown']);
    });

    test('"the whole payload, when the endpoint declares variables": no way in is needed', async () => {
        const { sent } = await asked('filled', { limit: 2, language: 'German', stop: 'x' });
        assert.deepEqual(sent.messages, [{ role: 'system', content: 'German|2||||false|' },
                                         { role: 'user', content: '{"limit":2,"language":"German"}' }]);
        assert.equal(sent.stop, 'x');
        assert.deepEqual((await asked('ready', {})).sent.messages, [{ role: 'user', content: 'Say hello in English.' }]);
        assert.deepEqual((await asked('ready', { variables: { language: 'German' } })).sent.messages,
                         [{ role: 'user', content: 'Say hello in German.' }]);
        assertError(await refused('filled', { variables: { limit: 1 } }), 400, 'input_missing');
    });

    test('"One pass: what was substituted is never looked at again"', async () => {
        const { sent } = await asked('filled', { message: 'Hi', variables: { limit: 1, note: '{{language}} {{input}} {{{{' } });
        assert.equal(sent.messages[0].content, 'English|1||{{language}} {{input}} {{{{||false|');
        assert.equal((await asked('prompt', { message: '{{language}}' })).sent.messages[0].content, 'In English: {{language}}');
    });
});

describe('client parameters', () => {
    test('"pinned by the endpoint: accepted, not used, and named in meta.ignored"', async () => {
        const { sent, ignored } = await asked('plain', { message: 'Hi', temperature: 2, top_p: 1, response_format: {}, logprobs: true });
        assert.deepEqual(ignored, ['temperature', 'top_p', 'response_format', 'logprobs']);
        assert.deepEqual(Object.keys(sent), ['model', 'messages']);
    });

    test('"unless client_parameters allows them"; the list replaces the default', async () => {
        const { sent, ignored } = await asked('free', {
            message: 'Hi', temperature: 0.9, response_format: { type: 'json_object' }, max_tokens: 20, stop: 'x', seed: 1, user: 'u' });
        assert.equal(sent.temperature, 0.9);
        assert.deepEqual(sent.response_format, { type: 'json_object' });
        assert.equal(sent.max_completion_tokens, 20);
        assert.deepEqual(ignored, ['stop', 'seed', 'user']);
        assert.ok(!('stop' in sent || 'seed' in sent || 'user' in sent));
        assert.equal((await asked('free', { message: 'Hi' })).sent.temperature, 0.2);
        assertError(await refused('free', { message: 'Hi', temperature: 'hot' }), 400, 'invalid_request');
    });

    test('an empty list: none is taken, none is checked', async () => {
        const { sent, ignored } = await asked('strict', { message: 'Hi', max_tokens: -1, tools: 7, stop: 'x' });
        assert.deepEqual(Object.keys(sent), ['model', 'messages']);
        assert.deepEqual(ignored, ['max_tokens', 'tools', 'stop']);
    });

    test('"parameters: sent to the provider as they are"', async () => {
        const { sent } = await asked('tuned', { message: 'Hi' });
        assert.equal(sent.reasoning_effort, 'low');
        assert.deepEqual(sent.logit_bias, { 50256: -100 });
        assert.deepEqual(sent.metadata, { a: [1, 2.5, null, true, 'x'] });
    });
});

describe('models.yaml', () => {
    const rows = (...more) => writeFiles(gateway.config, { 'models.yaml': [
        { provider: 'openai', model: 'gpt', parameters: { verbosity: 'low' } }, ...more] });
    const ask = () => asked('plain', {
        messages: [{ role: 'user', content: 'Hi' }, { role: 'assistant', content: 'Well' }],
        max_tokens: 5000, stop: 'x', tool_choice: 'required', tools: [] });

    test('"lacks … dropped before sending, named in meta.ignored … a reload picks it up"', async () => {
        rows();
        assert.equal((await run('reload', '--config', gateway.config)).status, 0);
        const before_ = await ask();
        assert.deepEqual(Object.keys(before_.sent).sort(), ['max_completion_tokens', 'messages',
            'model', 'stop', 'tool_choice', 'tools', 'verbosity']);
        assert.deepEqual(before_.ignored, []);

        rows({ provider: 'openai', model: 'gpt-plain', limits: { output: 4096 },
               lacks: ['stop', 'prefill', 'forced_tool_choice'] });
        assert.equal((await run('reload', '--config', gateway.config)).status, 0);
        const { sent, ignored } = await ask();
        assert.deepEqual(sent, { model: 'gpt-plain', messages: [{ role: 'user', content: 'Hi' }],
                                 max_completion_tokens: 4096, tools: [] });
        assert.deepEqual(ignored.sort(), ['max_tokens', 'prefill', 'stop', 'tool_choice']);
    });
});

describe('messages', () => {
    test('"tools passed through", their calls and results too', async () => {
        const tools = [{ type: 'function', function: { name: 'look_up', parameters: { type: 'object' } } }];
        const messages = [
            { role: 'user', content: 'Where is it?' },
            { role: 'assistant', content: null, tool_calls: [{ id: 'c1', type: 'function', function: { name: 'look_up', arguments: '{"a":1}' } }] },
            { role: 'tool', tool_call_id: 'c1', content: 'there' },
        ];
        const { sent } = await asked('plain', { messages, tools, tool_choice: 'auto' });
        assert.deepEqual(sent.messages, messages);
        assert.deepEqual(sent.tools, tools);
        assert.equal(sent.tool_choice, 'auto');
    });

    test('parts with images go up; with a user_prompt they stay behind the rendered text', async () => {
        const image = { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA', detail: 'low' } };
        const messages = [{ role: 'user', content: [{ type: 'text', text: 'What ' }, image, { type: 'text', text: 'is it?' }] }];
        assert.deepEqual((await asked('plain', { messages })).sent.messages, messages);
        assert.deepEqual((await asked('prompt', { messages })).sent.messages,
                         [{ role: 'user', content: [{ type: 'text', text: 'In English: What is it?' }, image] }]);
    });

    test('a message that cannot be one is pointed to', async () => {
        const answer = await refused('plain', { messages: [{ role: 'user', content: [{ type: 'video' }] }] });
        assertError(answer, 400, 'invalid_request');
        assert.equal(answer.json.error.param, 'messages[0].content[0].type');
    });
});
