// Requests with an Idempotency-Key: one call of the provider, one answer, however often they come.
import assert from 'node:assert/strict';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import OpenAI from 'openai';

import { POSTGRES } from './database.mjs';
import { assertError, createToken, demo, PROJECT_ID, run, startGateway, until } from './harness.mjs';
import { KEY } from './mock.mjs';
import { events } from './stream-upstream.mjs';
import { startUpstream } from './upstream.mjs';

let upstream;
let gateway;
let other;

before(async () => {
    upstream = await startUpstream();
    const target = { provider: 'openai', credential: 'main', model: 'gpt-4o', max_output_tokens: 100, streaming_enabled: true, client_parameters: ['tools', 'tool_choice'] };
    gateway = await startGateway({
        service: { workers: 2, 'store.idempotency_bytes': '1MiB' },
        credentials: { main: { provider: 'openai', base_url: upstream.base, api_key: KEY } },
        projects: demo({
            ask: target,
            twin: target,
            native: { ...target, streaming: { format: 'native' } },
            talk: { ...target, session: { max_messages: 100, max_tokens: 100_000 } },
            fitting: { ...target, output_schema: { type: 'object', required: ['a'] } },
            routed: { ...target, routing: { rules: [{ when: { messages_count: '>= 1' }, use: { model: 'gpt-4o' }, decision: 'short' }] } },
            chained: { ...target, failover: [{ model: 'gpt-4o-mini' }] },
            strict: { ...target, input_schema: { type: 'string', maxLength: 5 } },
        }),
    });
    other = await createToken(gateway.config, 'demo', '--name', 'other');
});

after(async () => {
    await gateway?.stop();
    upstream?.stop();
});

beforeEach(() => {
    upstream.asked = [];
    upstream.next = null;
});

let keys = 0;
const newKey = () => `key ${process.pid} ${++keys}`;
/** A new connection each time, so that both workers have their share. */
const ask = (slug, body, key, options = {}) => gateway.post(slug, typeof body === 'string' ? { message: body } : body,
                                                            { ...options, headers: { connection: 'close', ...(key === undefined ? {} : { 'idempotency-key': key }), ...options.headers } });
const replayed = (answer) => answer.headers.get('idempotent-replayed');

function assertReplay(answer, first) {
    assert.equal(answer.status, 200, answer.text);
    assert.equal(replayed(answer), 'true');
    assert.equal(answer.text, first.text);
    assert.notEqual(answer.id, first.id, 'a request of its own');
}

describe('the same again', () => {
    test('gets the first answer, without a call, and leaves a row that costs nothing', async () => {
        const key = newKey();
        const first = await ask('ask', 'one', key);
        assert.equal(first.status, 200, first.text);
        assert.equal(replayed(first), null);
        for (let i = 0; i < 6; i++) {
            const again = await ask('ask', 'one', key);
            assertReplay(again, first);
            const row = await gateway.row(again.id);
            assert.deepEqual([row.status, row.http_status, row.cost_nano_usd, row.total_tokens, row.provider, row.attempts, row.streamed],
                             ['replayed', 200, null, null, null, null, 0]);
            assert.equal(row.cost_basis, 'none');
        }
        assert.equal(upstream.asked.length, 1);
        assert.equal((await gateway.row(first.id)).status, 'ok');
    });

    test('on the dispatcher, by the SDK', async () => {
        const client = new OpenAI({ apiKey: gateway.token, baseURL: `${gateway.base}/api/${PROJECT_ID}`, maxRetries: 0 });
        const body = { model: 'ask', messages: [{ role: 'user', content: 'one' }] };
        const idempotencyKey = newKey();
        const first = await client.chat.completions.create(body, { idempotencyKey, headers: { 'Idempotency-Key': idempotencyKey } });
        const { data, response } = await client.chat.completions.create(body, { headers: { 'Idempotency-Key': idempotencyKey } }).withResponse();
        assert.deepEqual(data, first);
        assert.equal(response.headers.get('idempotent-replayed'), 'true');
        assert.equal(upstream.asked.length, 1);
        const stream = async () => {
            let text = '';
            for await (const part of await client.chat.completions.create({ ...body, stream: true }, { headers: { 'Idempotency-Key': `${idempotencyKey} stream` } })) {
                text += part.choices[0]?.delta.content ?? '';
            }
            return text;
        };
        assert.deepEqual([await stream(), await stream()], ['answer 2', 'answer 2']);
        assert.equal(upstream.asked.length, 2);
    });

    test('with its rule and its session named again', async () => {
        const key = newKey();
        const first = await ask('routed', 'one', key);
        assert.equal(first.headers.get('x-routing-decision'), 'short');
        const again = await ask('routed', 'one', key);
        assertReplay(again, first);
        assert.equal(again.headers.get('x-routing-decision'), 'short');
    });

    test('from whichever target of a chain it came', async () => {
        const key = newKey();
        let calls = 0;
        upstream.next = ({ response, finish }) => (++calls % 2 ? response.writeHead(503).end('{}') : finish());
        const first = await ask('chained', 'one', key);
        assert.deepEqual([first.status, first.json.meta.attempts], [200, 2], first.text);
        assertReplay(await ask('chained', 'one', key), first);
        assert.equal(calls, 2);
    });

    test('without a key it is asked again', async () => {
        const answers = [await ask('ask', 'one'), await ask('ask', 'one')];
        assert.notEqual(answers[0].text, answers[1].text);
        assert.equal(upstream.asked.length, 2);
    });
});

describe('whose key it is', () => {
    test('another token, another endpoint: another key', async () => {
        const key = newKey();
        const first = await ask('ask', 'one', key);
        for (const one of [await ask('ask', 'one', key, { token: other }), await ask('twin', 'one', key)]) {
            assert.equal(one.status, 200);
            assert.equal(replayed(one), null);
            assert.notEqual(one.json.content, first.json.content);
        }
    });

    test('another body, another shape of answer: 422', async () => {
        const key = newKey();
        const first = await ask('ask', { message: 'one' }, key);
        for (const one of [await ask('ask', { message: 'two' }, key), await ask('ask', { message: 'one', stream: true }, key), await ask('ask', { message: 'one', x: 1 }, key)]) {
            assertError(one, 422, 'idempotency_mismatch');
            assert.equal(one.headers.get('x-should-retry'), 'false');
        }
        assertError(await ask('chat/completions', { model: 'ask', message: 'one' }, key), 422, 'idempotency_mismatch');
        assertReplay(await ask('ask', { message: 'one' }, key), first);
        assert.equal(upstream.asked.length, 1);
    });

    test('1 to 255 characters, once', async () => {
        assert.equal((await ask('ask', 'one', 'k'.repeat(255))).status, 200);
        for (const one of [await ask('ask', 'one', 'k'.repeat(256)), await ask('ask', 'one', ''), await ask('ask', 'one', ' ')]) {
            assertError(one, 400, 'invalid_request');
            assert.equal(one.json.error.param, 'Idempotency-Key');
        }
        assert.equal(upstream.asked.length, 1);
    });
});

describe('while it is in flight', () => {
    test('409, and 422 for another body; afterwards the answer', async () => {
        const key = newKey();
        const held = [];
        upstream.next = ({ finish }) => held.push(finish);
        const first = ask('ask', 'one', key);
        await until('it is asked', () => held.length === 1);
        for (let i = 0; i < 4; i++) {
            assertError(await ask('ask', 'one', key), 409, 'idempotency_in_progress');
            assertError(await ask('ask', 'two', key), 422, 'idempotency_mismatch');
        }
        held[0]();
        const answer = await first;
        assertReplay(await ask('ask', 'one', key), answer);
        assert.equal(upstream.asked.length, 1);
    });

    test('what fails frees it: at the provider, in a schema, before it', async () => {
        const key = newKey();
        upstream.next = ({ response }) => response.writeHead(500).end('{}');
        assertError(await ask('ask', 'one', key), 502, 'provider_error');
        upstream.next = null;
        const good = await ask('ask', 'one', key);
        assert.deepEqual([good.status, replayed(good)], [200, null]);
        upstream.next = ({ finish }) => finish('no');
        assertError(await ask('fitting', 'one', key), 422, 'output_invalid');
        upstream.next = ({ finish }) => finish('{"a":1}');
        assert.equal((await ask('fitting', 'one', key)).status, 200);
        assertError(await ask('strict', 'too long', key), 422, 'input_invalid');
        assert.equal((await ask('strict', 'short', key)).status, 200, 'it never was this key\'s request');
    });

    test('a client that leaves frees it', async () => {
        const key = newKey();
        const leave = new AbortController();
        upstream.next = () => leave.abort();
        await assert.rejects(ask('ask', 'one', key, { signal: leave.signal }));
        upstream.next = null;
        const answer = await until('the key is free', async () => {
            const it = await ask('ask', 'one', key);
            return it.status === 409 ? null : it;
        });
        assert.deepEqual([answer.status, replayed(answer)], [200, null]);
    });
});

describe('streams', () => {
    const deltas = (text) => events(text).filter((it) => it !== '[DONE]').map((it) => (typeof it === 'string' ? JSON.parse(it) : it));
    const contentOf = (text) => deltas(text).map(({ choices }) => choices[0]?.delta.content ?? '').join('');

    test('are put together and come as a stream again', async () => {
        for (const usage of [false, true]) {
            const key = newKey();
            const body = { message: 'one', stream: true, stream_options: { include_usage: usage } };
            const first = await ask('ask', body, key);
            const again = await ask('ask', body, key);
            assert.equal(again.headers.get('content-type'), 'text/event-stream');
            assert.equal(again.headers.get('cache-control'), 'no-store');
            assert.equal(replayed(again), 'true');
            assert.equal(contentOf(again.text), contentOf(first.text));
            assert.equal(events(again.text).at(-1), '[DONE]');
            const parts = deltas(again.text);
            assert.deepEqual(parts[0].choices[0].delta.role, 'assistant');
            assert.equal(parts.filter(({ choices }) => choices[0]?.finish_reason === 'stop').length, 1);
            assert.deepEqual(parts.filter(({ usage: it }) => it).map(({ usage: it }) => it.total_tokens), usage ? [12] : []);
            assert.equal(new Set(parts.map(({ id }) => id)).size, 1);
            const row = await gateway.row(again.id);
            assert.deepEqual([row.status, row.streamed], ['replayed', 1]);
        }
        assert.equal(upstream.asked.length, 2);
    });

    test('with reasoning and calls of tools', async () => {
        const key = newKey();
        const chunk = (delta, finish_reason = null) => `data: ${JSON.stringify({ id: 'x', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
        upstream.next = ({ response }) => {
            response.writeHead(200, { 'content-type': 'text/event-stream' });
            response.end(chunk({ role: 'assistant', reasoning_content: 'Hm' }) + chunk({ reasoning_content: 'm.' }) + chunk({ content: 'Well' }) + chunk({ content: ', "é"' }) +
                         chunk({ tool_calls: [{ index: 0, id: 'call_1', type: 'function', function: { name: 'f', arguments: '{"a"' } }] }) + chunk({ tool_calls: [{ index: 0, function: { arguments: ':1}' } }] }) +
                         chunk({}, 'tool_calls') + 'data: [DONE]\n\n');
        };
        const body = { message: 'one', stream: true, tools: [{ type: 'function', function: { name: 'f', parameters: {} } }] };
        await ask('ask', body, key);
        const again = deltas((await ask('ask', body, key)).text);
        const all = again.map(({ choices }) => choices[0].delta);
        assert.deepEqual(all.map(({ reasoning_content: it }) => it ?? '').join(''), 'Hmm.');
        assert.deepEqual(all.map(({ content }) => content ?? '').join(''), 'Well, "é"');
        const calls = all.flatMap(({ tool_calls: it }) => it ?? []);
        assert.deepEqual([calls[0].id, calls[0].function.name, calls.map(({ function: it }) => it.arguments).join('')], ['call_1', 'f', '{"a":1}']);
        assert.equal(again.at(-1).choices[0].finish_reason, 'tool_calls');
        assert.equal(upstream.asked.length, 1);
    });

    test('the provider\'s own come byte for byte', async () => {
        const key = newKey();
        const first = await ask('native', { message: 'one', stream: true }, key);
        const again = await ask('native', { message: 'one', stream: true }, key);
        assertReplay(again, first);
        assert.equal(upstream.asked.length, 1);
    });

    test('one that does not fit its schema is not kept', async () => {
        const key = newKey();
        const body = { message: 'one', stream: true };
        upstream.next = ({ finish }) => finish('no');
        assert.match((await ask('fitting', body, key)).text, /"output_invalid"/);
        upstream.next = ({ finish }) => finish('{"a":1}');
        const good = await ask('fitting', body, key);
        assert.deepEqual([replayed(good), contentOf(good.text)], [null, '{"a":1}']);
        const again = await ask('fitting', body, key);
        assert.deepEqual([replayed(again), contentOf(again.text)], ['true', '{"a":1}']);
    });

    test('one that breaks off is not kept', async () => {
        const key = newKey();
        upstream.next = ({ response }) => {
            response.writeHead(200, { 'content-type': 'text/event-stream' });
            response.write(`data: ${JSON.stringify({ id: 'x', choices: [{ index: 0, delta: { content: 'We' } }] })}\n\n`, () => response.socket.resetAndDestroy());
        };
        const body = { message: 'one', stream: true };
        assert.match((await ask('ask', body, key)).text, /"error"/);
        upstream.next = null;
        const good = await ask('ask', body, key);
        assert.deepEqual([replayed(good), contentOf(good.text)], [null, 'answer 2']);
    });
});

describe('in a conversation', () => {
    const told = (at) => upstream.asked.at(at).messages.map(({ role, content }) => `${role}: ${content}`);

    test('the turn with its key again is the same turn', async () => {
        const keyOf = [newKey(), newKey()];
        const first = await ask('talk', 'one', keyOf[0]);
        const id = first.json.meta.session_id;
        const again = await ask('talk', 'one', keyOf[0]);
        assertReplay(again, first);
        assert.equal(again.headers.get('x-session-id'), id);
        assert.equal((await gateway.row(again.id)).session_id, id);
        const second = await ask('talk', { message: 'two', session_id: id }, keyOf[1]);
        assertReplay(await ask('talk', { message: 'two', session_id: id }, keyOf[1]), second);
        await ask('talk', { message: 'three', session_id: id });
        assert.deepEqual(told(-1), ['user: one', 'assistant: answer 1', 'user: two', 'assistant: answer 2', 'user: three']);
        assert.equal(upstream.asked.length, 3);
    });

    test('the header names another session: another request', async () => {
        const key = newKey();
        const id = (await ask('talk', 'one')).json.meta.session_id;
        const first = await ask('talk', 'two', key, { headers: { 'x-session-id': id } });
        assert.equal(first.json.meta.session_id, id);
        assertError(await ask('talk', 'two', key), 422, 'idempotency_mismatch');
        assertReplay(await ask('talk', 'two', key, { headers: { 'x-session-id': id } }), first);
    });
});

describe('what is kept', { skip: POSTGRES && 'this looks into the file' }, () => {
    const sql = (text, ...values) => {
        const db = new DatabaseSync(path.join(gateway.directory, 'state/sessions.db'));
        try {
            return db.prepare(text).all(...values);
        } finally {
            db.close();
        }
    };

    test('for 24 hours', async () => {
        const key = newKey();
        const first = await ask('ask', 'one', key);
        const [{ rowid, stored_at: stored, expires_at: expires }] = sql('SELECT rowid, * FROM idempotent_answers ORDER BY rowid DESC LIMIT 1');
        assert.equal(expires - stored, 86_400_000);
        sql('UPDATE idempotent_answers SET expires_at = ? WHERE rowid = ?', Date.now() + 60_000, rowid);
        assertReplay(await ask('ask', 'one', key), first);
        sql('UPDATE idempotent_answers SET expires_at = ? WHERE rowid = ?', Date.now() - 1, rowid);
        const later = await ask('ask', 'one', key);
        assert.deepEqual([later.status, replayed(later)], [200, null]);
        assertReplay(await ask('ask', 'one', key), later);
        sql('UPDATE idempotent_answers SET expires_at = 1');
        await until('the sweep', () => sql('SELECT 1 FROM idempotent_answers').length === 0);
    });

    test('one that is larger than all may be: answered, not kept, at nobody\'s cost', async () => {
        const keys = [newKey(), newKey()];
        const first = await ask('ask', 'one', keys[0]);
        upstream.next = ({ finish }) => finish('x'.repeat(1_500_000));
        assert.equal((await ask('ask', 'one', keys[1])).status, 200);
        const again = await ask('ask', 'one', keys[1]);
        assert.deepEqual([again.status, replayed(again)], [200, null]);
        assertReplay(await ask('ask', 'one', keys[0]), first);
        assert.match(gateway.stderr, /an answer of demo\/ask for an Idempotency-Key has more than/);
    });

    test('no more than store.idempotency_bytes: the oldest go first', async () => {
        const long = 'x'.repeat(150_000);
        upstream.next = ({ finish }) => finish(long);
        const all = [];
        for (let i = 0; i < 10; i++) {
            const key = newKey();
            all.push({ key, answer: await ask('ask', 'one', key) });
        }
        const [{ bytes }] = sql('SELECT sum(bytes) AS bytes FROM idempotent_answers');
        assert.ok(bytes <= 1 << 20, `${bytes} bytes`);
        assert.ok(bytes > 700_000, `${bytes} bytes`);
        assertReplay(await ask('ask', 'one', all.at(-1).key), all.at(-1).answer);
        assert.equal(replayed(await ask('ask', 'one', all[0].key)), null);
    });
});

describe('deaths', () => {
    const keeper = () => gateway.children().find(({ title }) => title === 'promptgate: keeper');

    test('the keeper: held keys stay held, and what was answered is there', async () => {
        const key = newKey();
        const held = [];
        upstream.next = ({ finish }) => held.push(finish);
        const first = ask('ask', 'one', key);
        await until('it is asked', () => held.length === 1);
        const { pid } = keeper();
        process.kill(pid, 'SIGKILL');
        await until('another one', () => keeper() && keeper().pid !== pid);
        assertError(await ask('ask', 'one', key), 409, 'idempotency_in_progress');
        held[0]();
        const answer = await first;
        assertReplay(await ask('ask', 'one', key), answer);
        assert.equal(upstream.asked.length, 1);
    });

    test('a worker: its keys are free', async () => {
        const key = newKey();
        upstream.next = () => {};
        const lost = ask('ask', 'one', key).catch((error) => error);
        await until('it is asked', () => upstream.asked.length === 1);
        gateway.workers().forEach(({ pid }) => process.kill(pid, 'SIGKILL'));
        await lost;
        upstream.next = null;
        const answer = await until('a worker', () => ask('ask', 'one', key).then((it) => it.status === 200 && it, () => null));
        assert.equal(replayed(answer), null);
    });

    test('a keeper that does not answer: 503 in two seconds; without a key nobody notices', async () => {
        const { pid } = keeper();
        process.kill(pid, 'SIGSTOP');
        const began = performance.now();
        assertError(await ask('ask', 'one', newKey()), 503, 'sessions_unavailable');
        assert.ok(performance.now() - began >= 1900);
        assert.equal((await ask('ask', 'one')).status, 200);
        process.kill(pid, 'SIGCONT');
        await sleep(100);
        assert.equal((await ask('ask', 'one', newKey())).status, 200);
    });

    test('a client that leaves while its answer is being stored: the next one gets it', async () => {
        for (const body of [{ message: 'one' }, { message: 'one', stream: true }]) {
            upstream.asked = [];
            const key = newKey();
            const leave = new AbortController();
            const { pid } = keeper();
            upstream.next = ({ finish }) => {
                process.kill(pid, 'SIGSTOP');
                finish();
                setTimeout(() => leave.abort(), 500); // by then it is with the keeper
            };
            await assert.rejects(async () => (await ask('ask', body, key, { signal: leave.signal })).text);
            upstream.next = null;
            setTimeout(() => process.kill(pid, 'SIGCONT'), 100);
            const again = await until('it is stored', async () => {
                const answer = await ask('ask', body, key);
                return answer.status === 409 ? null : answer;
            });
            assert.deepEqual([again.status, replayed(again), upstream.asked.length], [200, 'true', 1]);
            const row = await gateway.row(again.id);
            assert.deepEqual([row.status, row.cost_nano_usd], ['replayed', null]);
        }
    });

    test('a worker that dies while its answer is being stored: the next ones get it, by whichever worker', async () => {
        for (let i = 0; i < 8; i++) {
            assert.equal((await ask('ask', 'hello', newKey())).status, 200, 'all workers know the keeper');
        }
        upstream.asked = [];
        const key = newKey();
        const { pid } = keeper();
        upstream.next = ({ finish }) => {
            process.kill(pid, 'SIGSTOP');
            finish();
        };
        const lost = ask('ask', 'one', key).catch(() => null);
        await until('it is asked', () => upstream.asked.length === 1);
        await sleep(500); // by then it is with the keeper
        upstream.next = null;
        const { generations } = JSON.parse((await run('status', '--json', '--config', gateway.config)).stdout);
        const holder = generations.flatMap(({ workers }) => workers).find(({ in_flight: open }) => open > 0);
        process.kill(holder.pid, 'SIGKILL');
        await lost;
        const next = Array.from({ length: 8 }, () => ask('ask', 'one', key));
        await sleep(300);
        process.kill(pid, 'SIGCONT');
        const answers = await Promise.all(next);
        for (const answer of answers.filter(({ status }) => status !== 200)) {
            assertError(answer, 409, 'idempotency_in_progress'); // it was looked at before what was being stored
        }
        answers.push(await ask('ask', 'one', key));
        assert.ok(answers.filter(({ status }) => status === 200).every((it) => replayed(it) === 'true'));
        assert.equal(answers.at(-1).status, 200);
        assert.equal(upstream.asked.length, 1);
    });

    test('fifty at once: one call', async () => {
        upstream.next = ({ finish }) => setTimeout(finish, 100);
        const key = newKey();
        const answers = await Promise.all(Array.from({ length: 50 }, () => ask('ask', 'one', key)));
        const good = answers.filter(({ status }) => status === 200);
        assert.ok(answers.every(({ status }) => status === 200 || status === 409));
        assert.equal(new Set(good.map(({ text }) => text)).size, 1);
        assert.equal(upstream.asked.length, 1);
    });

    test('fifty at once, while worker and keeper die: one answer, called for once', async (t) => {
        let kills = 0;
        for (let round = 0; round < 6; round++) {
            upstream.asked = [];
            upstream.next = ({ finish }) => setTimeout(finish, 60 + 40 * Math.random());
            const key = newKey();
            const given = [];
            let over = false;
            const client = async () => {
                while (!over || given.length === 0) {
                    const answer = await ask('ask', `round ${round}`, key).catch(() => null);
                    if (answer?.status === 200) {
                        given.push(answer);
                        return;
                    }
                    assert.ok(answer === null || [409, 503].includes(answer.status), answer?.text);
                    await sleep(20 * Math.random());
                }
            };
            const killer = async () => {
                while (!over) {
                    await sleep(40 + 60 * Math.random());
                    const victims = [...gateway.workers(), ...(keeper() ? [keeper()] : [])];
                    const victim = victims[Math.floor(Math.random() * victims.length)];
                    if (victim && ++kills) {
                        process.kill(victim.pid, 'SIGKILL');
                    }
                    await sleep(500);
                }
            };
            const killing = killer();
            await Promise.all(Array.from({ length: 50 }, client));
            over = true;
            await killing;
            const texts = new Set(given.map(({ text }) => text));
            assert.equal(texts.size, 1, 'every answer is the same');
            const content = given[0].json.content;
            assert.match(content, /^answer \d+$/);
            assert.equal(given.filter((it) => replayed(it) === null).length <= 1, true);
            t.diagnostic(`round ${round}: the provider was called ${upstream.asked.length} times, ${content} was given`);
        }
        t.diagnostic(`${kills} kills`);
    });
});
