// The official OpenAI SDK as a client, with nothing set but baseURL, apiKey and model.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import OpenAI from 'openai';

import { demo, makeToken, startGateway, UUID7 } from './harness.mjs';
import { mockCredential, startMock } from './mock.mjs';

let mock;
let gateway;

before(async () => {
    mock = await startMock();
    gateway = await startGateway({
        credentials: { mock: mockCredential(mock) },
        projects: demo({
            hello: { provider: 'echo', model: 'echo' },
            real: { provider: 'openai', credential: 'mock', model: 'gpt-plain' },
            full: { provider: 'openai', credential: 'mock', model: 'status-503' },
            picky: { provider: 'openai', credential: 'mock', model: 'status-400' },
        }),
    });
});

after(async () => {
    await gateway?.stop();
    await mock?.stop();
});

function client({ apiKey = gateway.token, version = '', maxRetries = 0 } = {}) {
    return new OpenAI({ baseURL: gateway.api + version, apiKey, maxRetries });
}

const messages = [{ role: 'user', content: 'Say hi to Ann.' }];

for (const version of ['', '/v1']) {
    test(`"an OpenAI SDK with baseURL …/api/{project}${version} and model: slug works unchanged"`, async () => {
        const completion = await client({ version }).chat.completions.create({ model: 'hello', messages });
        assert.equal(completion.object, 'chat.completion');
        assert.match(completion.choices[0].message.content, /Say hi to Ann\./);
        assert.equal(completion.choices[0].finish_reason, 'stop');
        const { prompt_tokens: prompt, completion_tokens: out, total_tokens: total } = completion.usage;
        assert.ok(prompt > 0 && out > 0 && total === prompt + out, JSON.stringify(completion.usage));
    });
}

test('a completion of a provider comes through whole', async () => {
    const completion = await client().chat.completions.create({ model: 'real', messages });
    assert.equal(completion.id, 'chatcmpl-mock-1');
    assert.equal(completion.choices[0].message.content, 'Hello from the mock.');
    assert.equal(completion.usage.total_tokens, 18);
    assert.deepEqual(mock.requests.at(-1).json.messages, messages);
});

test('the request id is the one of the row, and the SDK shows it', async () => {
    const { data, request_id: id } =
        await client().chat.completions.create({ model: 'hello', messages }).withResponse();
    assert.match(id, UUID7);
    assert.equal(data._request_id, id);
    assert.equal((await gateway.row(id)).status, 'ok');
});

/** The error that a call raises. */
async function raised(promise, kind, code) {
    const error = await promise.then(() => assert.fail('nothing was raised'), (reason) => reason);
    assert.ok(error instanceof kind, `${error?.constructor?.name}: ${error}`);
    assert.equal(error.code, code);
    assert.match(error.requestID, UUID7);
    return error;
}

test('"so SDKs raise their own exception classes": 401 AuthenticationError', async () => {
    const { token } = makeToken();
    const call = client({ apiKey: token }).chat.completions.create({ model: 'hello', messages });
    const error = await raised(call, OpenAI.AuthenticationError, 'unauthorized');
    assert.equal(error.status, 401);
    assert.equal(error.type, 'authentication_error');
});

test('"so SDKs raise their own exception classes": 404 NotFoundError', async () => {
    const call = client().chat.completions.create({ model: 'no-such-slug', messages });
    await raised(call, OpenAI.NotFoundError, 'not_found');
});

test('"so SDKs raise their own exception classes": 422 UnprocessableEntityError', async () => {
    const call = client().chat.completions.create({ model: 'hello', messages, n: 2 });
    const error = await raised(call, OpenAI.UnprocessableEntityError, 'parameter_unsupported');
    assert.equal(error.param, 'n');
    await raised(client().chat.completions.create({ model: 'hello', messages, stream: true }),
                 OpenAI.UnprocessableEntityError, 'streaming_disabled');
    await raised(client().chat.completions.create({ model: 'picky', messages }),
                 OpenAI.UnprocessableEntityError, 'provider_rejected');
});

test('"so SDKs raise their own exception classes": 400 BadRequestError', async () => {
    await raised(client().chat.completions.create({ model: 'hello' }),
                 OpenAI.BadRequestError, 'input_missing');
});

test('"so SDKs raise their own exception classes": 502 InternalServerError', async () => {
    await raised(client().chat.completions.create({ model: 'full', messages }),
                 OpenAI.InternalServerError, 'provider_error');
});

test('many calls at once from one client', async () => {
    const openai = client();
    const calls = Array.from({ length: 100 }, (_, i) => openai.chat.completions.create({
        model: 'hello', messages: [{ role: 'user', content: `number ${i}` }] }));
    const answers = await Promise.all(calls);
    answers.forEach((answer, i) => {
        assert.match(answer.choices[0].message.content, new RegExp(`number ${i}\\b`));
    });
    assert.equal(new Set(answers.map((answer) => answer._request_id)).size, 100);
});
