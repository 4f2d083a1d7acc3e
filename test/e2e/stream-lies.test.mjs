// Streams of providers that garble, repeat, drop and cut what they say, at random, and clients that
// leave anywhere: whatever comes, the answer has one right end, and its row says the same.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Random } from '../soak/random.mjs';
import { demo, SANITIZE, startGateway } from './harness.mjs';
import { RECORDINGS } from './recordings.mjs';
import { events, StreamUpstream } from './stream-upstream.mjs';

const SEED = Number(process.env.SEED || 20261127);
const STREAMS = Number(process.env.STREAMS || (SANITIZE ? 400 : 1500));
const AT_ONCE = 20;
const names = Object.keys(RECORDINGS);
let upstream;
let gateway;

before(async () => {
    upstream = await new StreamUpstream().start();
    const target = (name) => ({ provider: RECORDINGS[name].provider ?? name, credential: name, model: RECORDINGS[name].model ?? 'm',
                                streaming_enabled: true, price: { input: 1, output: 2 }, max_output_tokens: 100, timeout: '5s' });
    gateway = await startGateway({
        service: { upstream: { idle_timeout: '300ms', max_response: '256KiB' }, gateway_logs: { bodies: 'all' } },
        credentials: Object.fromEntries(names.map((name) => [name, {
            provider: RECORDINGS[name].provider ?? name, api_key: 'sk-mock-key-0123456789',
            base_url: `${upstream.base}${RECORDINGS[name].path.startsWith('/v1/') && name !== 'anthropic' ? '/v1' : ''}` }])),
        projects: demo(Object.fromEntries(names.flatMap((name) => [
            [name, target(name)], [`${name}-native`, { ...target(name), streaming: { format: 'native' } }]]))),
        files: { 'models.yaml': [{ provider: 'openai', model: 'with-responses', api: 'responses' }] },
    });
});

after(async () => {
    await gateway?.stop();
    upstream?.stop();
});

/** One way to spoil a list of pieces. */
const SPOILERS = [
    (pieces, random) => pieces.toSpliced(random.between(0, pieces.length - 1), 1),
    (pieces, random) => pieces.toSpliced(random.between(0, pieces.length), 0, random.pick(pieces)),
    (pieces, random) => pieces.toSorted(() => (random.chance(0.1) ? 1 : -1)),
    (pieces, random) => pieces.slice(0, random.between(0, pieces.length)),
    (pieces, random) => {
        const bytes = Buffer.from(pieces.join(''));
        bytes[random.between(0, bytes.length - 1)] = random.between(0, 255);
        return [bytes];
    },
    (pieces, random) => [Buffer.from(pieces.join('')).subarray(0, random.between(0, 2000))],
    (pieces, random) => pieces.toSpliced(random.between(0, pieces.length), 0, random.pick([
        ': ping\n\n', '\n\n\n', 'data:\n\n', 'data: null\n\n', 'data: {}\n\n', 'data: []\n\n', 'data: {"error":null}\n\n', '{"error":"x"}\n', '\r',
        'data: {"error":{"message":"x"}}\n\n', 'data: [DONE]\n\n', 'event: error\ndata: x\n\n', '\u0000', 'x'.repeat(300_000),
        'data: {"choices":[{"delta":{"tool_calls":[{"index":-1},{"index":99999999},null,7]}}]}\n\n',
        'data: {"choices":[{"delta":{"tool_calls":{"a":1},"content":{"b":[]}},"finish_reason":7}],"usage":{"prompt_tokens":-1,"completion_tokens":1e99}}\n\n',
        'data: {"type":"content_block_delta","index":7,"delta":{"type":"input_json_delta","partial_json":"x"}}\n\n',
        'data: {"type":"tool-call-delta","index":3,"delta":{"message":{"tool_calls":{"function":{"arguments":"x"}}}}}\n\n',
        'data: {"type":"response.function_call_arguments.delta","output_index":5,"delta":"x"}\n\n',
        'data: {"candidates":[{"content":{"parts":[null,7,{"functionCall":null},{"functionCall":{"args":[]}}]},"finishReason":null}]}\n\n',
        '{"message":{"tool_calls":[null,{"function":7}]},"done":"yes"}\n'])),
    (pieces) => [pieces.join('').replaceAll('\n', '\r\n')],
    (pieces) => pieces.flatMap((piece) => [...Buffer.from(piece)].map((byte) => Buffer.from([byte]))),
];

function spoiled(name, random) {
    let { pieces } = RECORDINGS[name];
    for (let i = random.between(0, 3); i > 0 && pieces.length > 0; i--) {
        pieces = random.pick(SPOILERS)(pieces.map(String), random);
    }
    return pieces;
}

/** { id, outcome } of one stream; outcome undefined when its client has left. */
async function stream(name, native, random) {
    upstream.play({ type: RECORDINGS[name].type, pieces: spoiled(name, random), gap: random.pick([0, 0, 0.01, 3]),
                    end: random.pick(['clean', 'clean', 'cut', 'hold']) });
    const leaves = random.chance(0.15) ? AbortSignal.timeout(random.between(1, 30)) : undefined;
    let answer;
    try {
        answer = await gateway.post(native ? `${name}-native` : name, {
            message: 'x', stream: true, ...(random.chance(0.5) ? { stream_options: { include_usage: true } } : {}) }, { signal: leaves });
    } catch (error) {
        assert.equal(error.name, 'TimeoutError', error);
        return {};
    }
    if (answer.status !== 200) {
        return { id: answer.id, outcome: answer.json.error.code };
    }
    if (native) {
        return { id: answer.id, answer };
    }
    const told = events(answer.text);
    const done = told.filter((data) => data === '[DONE]').length;
    const parsed = told.filter((data) => data !== '[DONE]').map((data) => JSON.parse(data));
    const failures = parsed.filter(({ error }) => error);
    assert.equal(done + failures.length, 1, `one end: ${answer.text}`);
    assert.equal(told.length - 1, told.findIndex((data) => data === '[DONE]' || JSON.parse(data).error), 'nothing behind it');
    return { id: answer.id, outcome: done ? 'ok' : failures[0].error.code };
}

test(`${STREAMS} spoiled streams (SEED=${SEED})`, async () => {
    const random = new Random(SEED);
    const workers = gateway.workers().map(({ pid }) => pid);
    const seen = {};
    const results = [];
    while (results.length < STREAMS) {
        // One script at a time is played: all that ask together get the same, and end each their own way.
        const [name, native] = [random.pick(names), random.chance(0.3)];
        results.push(...await Promise.all(Array.from({ length: AT_ONCE }, () => stream(name, native, random))));
    }
    await gateway.rowsReach(results.filter(({ id }) => id).length);
    await sleep(300);
    const rows = new Map(gateway.rows().map((row) => [row.request_id, row]));
    for (const { id, outcome, answer } of results.filter(({ id: it }) => it)) {
        const row = rows.get(id);
        assert.ok(row, `a row of ${id}`);
        seen[row.status] = (seen[row.status] ?? 0) + 1;
        if (!answer) {
            assert.equal(row.status, outcome, id);
        }
        assert.ok(row.cost_basis === 'none' || row.cost_nano_usd !== null);
        assert.ok(row.status !== 'ok' || row.finish_reason, id);
        assert.ok(row.http_status === 200 || row.status !== 'ok');
    }
    assert.deepEqual(gateway.workers().map(({ pid }) => pid), workers, 'the workers live');
    assert.equal(new Set(gateway.rows().map(({ request_id: id }) => id)).size, gateway.rowCount());
    for (const status of ['ok', 'provider_error', 'provider_bad_response', 'provider_timeout']) {
        assert.ok(seen[status] > 0, `${status}: ${JSON.stringify(seen)}`);
    }
});
