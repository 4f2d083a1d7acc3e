// Conversations that the gateway keeps.
import assert from 'node:assert/strict';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { POSTGRES } from './database.mjs';
import { assertError, createToken, demo, run, startGateway, until, UUID7 } from './harness.mjs';
import { KEY } from './mock.mjs';
import { events } from './stream-upstream.mjs';
import { startUpstream } from './upstream.mjs';

let upstream;
let gateway;
let other;

before(async () => {
    upstream = await startUpstream();
    const target = { provider: 'openai', credential: 'main', model: 'm', max_output_tokens: 100, streaming_enabled: true, client_parameters: ['tools', 'tool_choice'] };
    gateway = await startGateway({
        service: { workers: 2 },
        credentials: { main: { provider: 'openai', base_url: upstream.base, api_key: KEY } },
        projects: demo({
            talk: { ...target, session: { ttl: '1h', max_messages: 200, max_tokens: 100_000 } },
            pinned: { ...target, session: {}, system_prompt: 'Be brief.', user_prompt: 'Say: {{input}}' },
            short: { ...target, session: { max_messages: 5 } },
            scant: { ...target, session: { max_tokens: 40 } },
            fitting: { ...target, session: {}, output_repair: 1, output_schema: { type: 'object', required: ['a'] } },
            none: target,
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

/** A new connection each time, so that both workers have their share. */
const say = (slug, message, session, options = {}) => gateway.post(slug, { ...(typeof message === 'string' ? { message } : message), ...(session === undefined ? {} : { session_id: session }) },
                                                                   { ...options, headers: { connection: 'close', ...options.headers } });
const told = (at) => upstream.asked.at(at).messages.map(({ role, content }) => `${role}: ${content}`);

test('a conversation of 50 turns, over two workers and a reload: all of it, in order', async () => {
    let id;
    const wanted = [];
    for (let turn = 1; turn <= 50; turn++) {
        const answer = await say('talk', `question ${turn}`, id);
        assert.equal(answer.status, 200, answer.text);
        assert.match(answer.json.meta.session_id, UUID7);
        assert.equal(answer.headers.get('x-session-id'), answer.json.meta.session_id);
        id ??= answer.json.meta.session_id;
        assert.equal(answer.json.meta.session_id, id);
        assert.deepEqual(told(-1), [...wanted, `user: question ${turn}`]);
        wanted.push(`user: question ${turn}`, `assistant: answer ${turn}`);
        if (turn === 25) {
            assert.equal((await run('reload', '--config', gateway.config)).status, 0);
        }
    }
    const rows = await until('its rows', () => {
        const found = gateway.rows().filter(({ session_id: it }) => it === id);
        return found.length === 50 && found;
    });
    assert.ok(new Set(rows.map(({ worker }) => worker)).size === 2, 'both workers had turns');
});

describe('who takes part', () => {
    test('the member, the header, null and the dispatcher', async () => {
        const first = await say('talk', 'one');
        const id = first.json.meta.session_id;
        const second = await say('talk', 'two', undefined, { headers: { 'x-session-id': id } });
        assert.equal(second.json.meta.session_id, id);
        const third = await say('chat/completions', { model: 'talk', messages: [{ role: 'user', content: 'three' }] }, id);
        assert.equal(third.json.meta.session_id, id);
        assert.deepEqual(told(-1), ['user: one', 'assistant: answer 1', 'user: two', 'assistant: answer 2', 'user: three']);
        const alone = await say('talk', 'alone', null, { headers: { 'x-session-id': id } });
        assert.deepEqual([alone.status, alone.json.meta.session_id, alone.headers.get('x-session-id')], [200, undefined, null]);
        assert.deepEqual(told(-1), ['user: alone']);
        assert.equal((await gateway.row(alone.id)).session_id, null);
    });

    test('another token, another endpoint, a made-up id: the same 403', async () => {
        const id = (await say('talk', 'one')).json.meta.session_id;
        const asked = upstream.asked.length;
        const answers = [await say('talk', 'two', id, { token: other }), await say('pinned', 'two', id), await say('talk', 'two', crypto.randomUUID()),
                         await say('talk', 'two', 'no id'), await say('talk', 'two', '00000000-0000-0000-0000-000000000001'),
                         await say('talk', 'two', '00000000-0000-0000-0000-000000000000')];
        const texts = answers.map((answer) => {
            assertError(answer, 403, 'session_forbidden');
            return answer.json.error.message;
        });
        assert.equal(new Set(texts).size, 1);
        assert.equal(upstream.asked.length, asked, 'nobody is called');
        assertError(await say('talk', 'two', 7), 400, 'invalid_request');
        assertError(await say('none', 'two', id), 422, 'parameter_unsupported');
        assert.equal((await say('talk', 'two', id)).status, 200);
    });
});

describe('one turn at a time', () => {
    test('two at once: one 200, one 409; nothing in between', async () => {
        const id = (await say('talk', 'one')).json.meta.session_id;
        const held = [];
        upstream.next = ({ finish }) => held.push(finish);
        const first = say('talk', 'two', id);
        await until('the first one', () => held.length === 1);
        assertError(await say('talk', 'three', id), 409, 'session_busy');
        held[0]();
        assert.equal((await first).status, 200);
        upstream.next = null;
        await say('talk', 'four', id);
        assert.deepEqual(told(-1), ['user: one', 'assistant: answer 1', 'user: two', 'assistant: answer 2', 'user: four']);
    });

    test('one whose first turn fails never was', async () => {
        upstream.next = ({ response }) => response.writeHead(500).end('{}');
        const failed = await say('talk', 'one');
        assertError(failed, 502, 'provider_error');
        assert.equal(failed.headers.get('x-session-id'), null);
        const none = await say('talk', 'one', crypto.randomUUID());
        assertError(none, 403, 'session_forbidden');
        assert.equal(none.headers.get('x-session-id'), null);
        upstream.next = null;
        const id = (await say('talk', 'one')).json.meta.session_id;
        upstream.next = ({ response }) => response.writeHead(500).end('{}');
        assert.equal((await say('talk', 'two', id)).headers.get('x-session-id'), id, 'this one is there all the same');
    });

    test('what fails, or whose client leaves, leaves it as it was', async () => {
        const id = (await say('talk', 'one')).json.meta.session_id;
        upstream.next = ({ response }) => response.writeHead(500).end('{}');
        assertError(await say('talk', 'two', id), 502, 'provider_error');
        const leave = new AbortController();
        upstream.next = () => leave.abort();
        await assert.rejects(say('talk', 'three', id, { signal: leave.signal }));
        upstream.next = null;
        const answer = await until('the turn is over', async () => {
            const it = await say('talk', 'four', id);
            return it.status === 409 ? null : it;
        });
        assert.equal(answer.status, 200, answer.text);
        assert.deepEqual(told(-1), ['user: one', 'assistant: answer 1', 'user: four']);
    });

    test('an answer that does not fit is not stored; one that is mended is, alone', async () => {
        upstream.next = ({ finish }) => finish('{"a":1}');
        const id = (await say('fitting', 'one')).json.meta.session_id;
        upstream.next = ({ finish }) => finish('no');
        assertError(await say('fitting', 'two', id), 422, 'output_invalid');
        let answers = 0;
        upstream.next = ({ finish }) => finish(++answers === 1 ? 'no' : '{"a":2}');
        assert.equal((await say('fitting', 'three', id)).status, 200);
        await say('fitting', 'four', id);
        assert.deepEqual(told(-1).filter((it) => !it.startsWith('system')), ['user: one', 'assistant: {"a":1}', 'user: three', 'assistant: {"a":2}', 'user: four']);
    });
});

describe('what is kept', () => {
    test('with a pinned prompt: what went up, and the prompt once, in front', async () => {
        const id = (await say('pinned', 'one')).json.meta.session_id;
        await say('pinned', 'two', id);
        assert.deepEqual(told(-1), ['system: Be brief.', 'user: Say: one', 'assistant: answer 1', 'user: Say: two']);
    });

    test('calls of tools and their results', async () => {
        const calls = [{ id: 'call_1', type: 'function', function: { name: 'f', arguments: '{"a":1}' } }];
        const tools = [{ type: 'function', function: { name: 'f', parameters: { type: 'object' } } }];
        upstream.next = ({ finish }) => finish(null, { tool_calls: calls });
        const id = (await say('talk', { messages: [{ role: 'user', content: 'one' }], tools })).json.meta.session_id;
        upstream.next = null;
        const result = { role: 'tool', tool_call_id: 'call_1', content: '4' };
        assert.equal((await say('talk', { messages: [result], tools }, id)).status, 200);
        assert.deepEqual(upstream.asked.at(-1).messages, [{ role: 'user', content: 'one' }, { role: 'assistant', content: null, tool_calls: calls }, result]);
        await say('talk', 'three', id);
        assert.deepEqual(upstream.asked.at(-1).messages.length, 5);
    });

    test('a refusal, as what was said', async () => {
        upstream.next = ({ finish }) => finish(null, { refusal: 'I would rather not.' });
        const first = await say('talk', 'one');
        assert.equal(first.json.refusal, 'I would rather not.');
        upstream.next = null;
        await say('talk', 'two', first.json.meta.session_id);
        assert.deepEqual(told(-1), ['user: one', 'assistant: I would rather not.', 'user: two']);
    });

    test('streams, before their end', async () => {
        const first = await say('talk', { message: 'one', stream: true });
        const id = first.headers.get('x-session-id');
        assert.match(id, UUID7);
        assert.equal(events(first.text).at(-1), '[DONE]');
        assert.equal((await say('talk', 'two', id)).status, 200);
        assert.deepEqual(told(-1), ['user: one', 'assistant: answer 1', 'user: two']);
    });

    test('no more than the caps say', async () => {
        const id = (await say('short', 'one')).json.meta.session_id;
        assert.equal((await say('short', 'two', id)).status, 200);
        const full = await say('short', 'three', id);
        assertError(full, 429, 'session_full');
        assert.equal(full.headers.get('x-should-retry'), 'false');
        assert.match(full.json.error.message, /it may have 5 messages, and about \d+ tokens/);
        assertError(await say('scant', 'x'.repeat(200)), 429, 'session_full');
        const image = { type: 'image_url', image_url: { url: `data:image/png;base64,${'A'.repeat(200)}` } };
        assertError(await say('scant', { messages: [{ role: 'user', content: [{ type: 'text', text: 'x' }, image] }] }), 429, 'session_full');
        const scant = (await say('scant', 'x'.repeat(100))).json.meta.session_id;
        assertError(await say('scant', 'x'.repeat(100), scant), 429, 'session_full');
        assert.equal(upstream.asked.length, 3);
    });
});

describe('expiry', { skip: POSTGRES && 'this looks into the file; hosts.test.mjs has it for PostgreSQL' }, () => {
    const files = () => new DatabaseSync(path.join(gateway.directory, 'state/sessions.db'));
    const sql = (text, ...values) => {
        const db = files();
        try {
            return db.prepare(text).all(...values);
        } finally {
            db.close();
        }
    };
    const bytes = (id) => Buffer.from(id.replaceAll('-', ''), 'hex');

    test('to the second: 410 for its owner, 403 for others, before and after the sweep', async () => {
        const id = (await say('talk', 'one')).json.meta.session_id;
        const [{ number, created_at: created }] = sql('SELECT * FROM sessions WHERE id = ?', bytes(id));
        const expiry = () => sql('SELECT max(expires_at) AS at FROM session_messages WHERE session = ?', number)[0].at;
        const expireAt = (at) => {
            sql('UPDATE session_messages SET expires_at = ? WHERE session = ?', at, number);
            sql('UPDATE sessions SET look_at = ? WHERE number = ?', at, number);
        };
        assert.equal(expiry() - created, 3_600_000);
        expireAt(Date.now() + 1000);
        await sleep(500);
        assert.equal((await say('talk', 'two', id)).status, 200, 'a turn makes its time begin anew');
        assert.ok(expiry() > Date.now() + 3_500_000);
        expireAt(Date.now() - 1);
        for (const swept of [false, true]) {
            if (swept) {
                await until('the sweep', () => sql('SELECT 1 FROM session_messages WHERE session = ?', number).length === 0);
            }
            assertError(await say('talk', 'three', id), 410, 'session_expired');
            assertError(await say('talk', 'three', id, { token: other }), 403, 'session_forbidden');
            assertError(await say('pinned', 'three', id), 403, 'session_forbidden');
        }
    });

    test('a hundred thousand at once: the living are served meanwhile', async (t) => {
        let id;
        let turns = 0;
        const db = files();
        db.exec("BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) " +
                "INSERT INTO sessions SELECT NULL, randomblob(16), 'demo', 'talk', 'web', 0, 1000 + i, 0 FROM n; " +
                "INSERT INTO session_messages SELECT NULL, number, 0, randomblob(16), 1, 10, 0, look_at, '[{\"role\":\"user\",\"content\":\"Hi\"}]' " +
                "FROM sessions WHERE created_at = 0; COMMIT");
        db.close();
        const took = [];
        await until('the sweep', async () => {
            const began = performance.now();
            const answer = await say('talk', 'again', id);
            assert.equal(answer.status, 200, answer.text);
            id = ++turns % 50 === 0 ? undefined : answer.json.meta.session_id;
            took.push(performance.now() - began);
            return sql('SELECT 1 FROM sessions WHERE created_at = 0 AND ended = 0 LIMIT 1').length === 0;
        });
        took.sort((a, b) => a - b);
        t.diagnostic(`${took.length} turns meanwhile: median ${took[took.length >> 1].toFixed(1)} ms, longest ${took.at(-1).toFixed(1)} ms`);
        assert.ok(took.length > 10);
        assert.equal(sql('SELECT count(*) AS n FROM session_messages JOIN sessions ON number = session WHERE created_at = 0')[0].n, 0);
    });
});

test('the command line lists, shows and deletes', async () => {
    const id = (await say('talk', 'one')).json.meta.session_id;
    const command = (...args) => run('session', ...args, '--config', gateway.config);
    const listed = JSON.parse((await command('list', '--json', '--project', 'demo')).stdout);
    const found = listed.find((it) => it.session_id === id);
    assert.deepEqual([found.project, found.endpoint, found.turns, found.messages], ['demo', 'talk', 1, 2]);
    assert.deepEqual(JSON.parse((await command('list', '--json', '--project', 'none')).stdout), []);
    assert.match((await command('list')).stdout, new RegExp(`^${id} demo/talk `, 'm'));
    const shown = await command('show', id);
    assert.equal(shown.stdout.split('\n')[1], '{"role":"user","content":"one"}');
    assert.deepEqual(JSON.parse((await command('show', id, '--json')).stdout).messages_stored.map(({ content }) => content), ['one', 'answer 1']);
    assert.equal((await command('delete', id)).status, 0);
    for (const again of ['show', 'delete']) {
        const none = await command(again, id);
        assert.deepEqual([none.status, none.stderr], [1, 'promptgate session: there is no such session\n']);
    }
    assertError(await say('talk', 'two', id), 403, 'session_forbidden');
    assert.equal((await command('show', 'x')).status, 1);
    for (const args of [['--help'], ['list', '--help'], ['shows', id]]) {
        const help = await run('session', ...args);
        assert.equal(help.status, 2);
        assert.match(help.stderr, /^usage: promptgate session list/);
    }
    assert.equal((await command('show')).status, 2);
    assert.equal((await command()).status, 2);
});

describe('deaths', () => {
    const keeper = () => gateway.children().find(({ title }) => title === 'promptgate: keeper');

    test('the keeper: open turns go on, and others wait for the next one', async () => {
        const id = (await say('talk', 'one')).json.meta.session_id;
        const held = [];
        upstream.next = ({ finish }) => held.push(finish);
        const first = say('talk', 'two', id);
        await until('it is asked', () => held.length === 1);
        const before_ = keeper().pid;
        process.kill(before_, 'SIGKILL');
        await until('another one', () => keeper() && keeper().pid !== before_);
        assertError(await say('talk', 'three', id), 409, 'session_busy');
        held[0]();
        assert.equal((await first).status, 200);
        upstream.next = null;
        process.kill(keeper().pid, 'SIGKILL');
        assert.equal((await say('talk', 'four', id)).status, 200);
        assert.deepEqual(told(-1), ['user: one', 'assistant: answer 1', 'user: two', 'assistant: answer 2', 'user: four']);
        assert.equal((await say('none', 'hi')).status, 200);
    });

    test('a worker: its turn is over, and the session free', async () => {
        const id = (await say('talk', 'one')).json.meta.session_id;
        upstream.next = () => {};
        const lost = say('talk', 'two', id).catch((error) => error);
        await until('it is asked', () => upstream.asked.length === 2);
        const row = (await until('the open request', () => gateway.workers())).map(({ pid }) => pid);
        row.forEach((pid) => process.kill(pid, 'SIGKILL'));
        await lost;
        upstream.next = null;
        const answer = await until('a worker', () => say('talk', 'three', id).then((it) => it.status === 200 && it, () => null));
        assert.deepEqual(told(-1), ['user: one', 'assistant: answer 1', 'user: three']);
        assert.equal(answer.json.meta.session_id, id);
    });

    test('all of it: what was answered is there', async () => {
        const id = (await say('talk', 'one')).json.meta.session_id;
        process.kill(gateway.pid, 'SIGKILL');
        await gateway.exited;
        await gateway.restart();
        assert.equal((await say('talk', 'two', id)).status, 200);
        assert.deepEqual(told(-1), ['user: one', 'assistant: answer 1', 'user: two']);
    });

    test('a keeper that does not store in time: 503, and the turn is not stored later', async () => {
        for (const stream of [false, true]) {
            const id = (await say('talk', 'one')).json.meta.session_id;
            const before_ = told(-1).length;
            const { pid } = keeper();
            upstream.next = ({ finish }) => {
                process.kill(pid, 'SIGSTOP');
                setTimeout(() => process.kill(pid, 'SIGCONT'), 4000);
                finish();
            };
            const answer = await say('talk', { message: 'two', stream }, id);
            assert.match(answer.text, /"code":"sessions_unavailable"/);
            upstream.next = null;
            assert.equal((await say('talk', 'three', id)).status, 200);
            assert.equal(told(-1).length, before_ + 2);
            assert.deepEqual(told(-1).map((it) => it.split(' ')[1]), ['one', 'answer', 'three']);
        }
    });

    test('a client that leaves while its turn is being stored: it is, or it is not, and the next goes on', async () => {
        const id = (await say('talk', 'one')).json.meta.session_id;
        const leave = new AbortController();
        const { pid } = keeper();
        upstream.next = ({ finish }) => {
            process.kill(pid, 'SIGSTOP');
            finish();
            setTimeout(() => leave.abort(), 500); // by then it is with the keeper
        };
        await assert.rejects(say('talk', 'two', id, { signal: leave.signal }));
        upstream.next = null;
        setTimeout(() => process.kill(pid, 'SIGCONT'), 100);
        const answer = await until('the next turn', async () => {
            const asked = upstream.asked.length;
            const it = await say('talk', 'three', id);
            assert.ok(it.status === 200 || upstream.asked.length === asked, 'what is refused has not been asked for');
            return it.status === 409 ? null : it;
        });
        assert.equal(answer.status, 200, answer.text);
        assert.deepEqual(told(-1), ['user: one', 'assistant: answer 1', 'user: two', 'assistant: answer 2', 'user: three']);
    });

    test('a keeper that does not answer: 503 in two seconds, and others are served', async () => {
        const id = (await say('talk', 'one')).json.meta.session_id;
        const { pid } = keeper();
        process.kill(pid, 'SIGSTOP');
        const began = performance.now();
        assertError(await say('talk', 'two', id), 503, 'sessions_unavailable');
        assert.ok(performance.now() - began >= 1900);
        assert.equal((await say('none', 'hi')).status, 200);
        process.kill(pid, 'SIGCONT');
        await sleep(100);
        assert.equal((await say('talk', 'three', id)).status, 200);
    });

    test('a stop that waits no longer: 503 for open turns and held keys, which are free afterwards', async () => {
        const stopping = await startGateway({
            service: { workers: 2, shutdown_timeout: '1s' },
            credentials: { main: { provider: 'openai', base_url: upstream.base, api_key: KEY } },
            projects: demo({ talk: { provider: 'openai', credential: 'main', model: 'm', max_output_tokens: 100, session: {} } }),
        });
        const ask = (message, session_id, key) => stopping.post('talk', { message, session_id }, { headers: { 'connection': 'close', 'idempotency-key': key } });
        const id = (await ask('one', undefined, 'k1')).json.meta.session_id;
        const asked = upstream.asked.length;
        upstream.next = () => {};
        const open = ask('two', id, 'k2');
        await until('it is asked', () => upstream.asked.length === asked + 1);
        const stopped = stopping.stop();
        assertError(await open, 503, 'draining');
        await stopped;
        upstream.next = null;
        await stopping.restart();
        const again = await ask('two', id, 'k2');
        assert.deepEqual([again.status, again.headers.get('idempotent-replayed')], [200, null], again.text);
        assert.equal(told(-1).length, 3);
        await stopping.stop();
    });
});
