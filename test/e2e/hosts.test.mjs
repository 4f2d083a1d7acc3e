// Gateways that share a PostgreSQL share their conversations: two of them here, each with its own
// directories and ports.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, beforeEach, test } from 'node:test';

process.env.STORE = 'postgres'; // before the harness looks
const { postgresPrograms } = await import('./database.mjs');
const { assertError, demo, run, startGateway, until } = await import('./harness.mjs');
const { KEY } = await import('./mock.mjs');
const { CLOSED, holders, lives } = await import('./proc.mjs');
const { startUpstream } = await import('./upstream.mjs');

const skip = postgresPrograms() ? false : 'no PostgreSQL server is installed';
const PASSWORD = randomBytes(24).toString('hex'); // nobody asks for it
let upstream;
let one;
let two;

const say = (gateway, message, session, slug = 'talk', key = null) =>
    gateway.post(slug, { message, ...(session === undefined ? {} : { session_id: session }) },
                 { headers: { connection: 'close', ...(key ? { 'idempotency-key': key } : {}) } });
const told = (at) => upstream.asked.at(at).messages.map(({ role, content }) => `${role}: ${content}`);

/** Until sessions are served: a keeper that has no connection yet refuses them. */
const served = (gateway) => until('sessions to be served', async () => (await say(gateway, 'Hi')).status === 200);

const state = async (gateway) => JSON.parse((await run('status', '--json', '--config', gateway.config)).stdout).sessions;

async function open() {
    const answer = await say(one, 'one');
    assert.equal(answer.status, 200, answer.text);
    return answer.json.meta.session_id;
}

/** A turn that the upstream has and does not answer yet: { answer, finish }. */
async function hold(gateway, message, id) {
    const held = [];
    upstream.next = ({ finish }) => held.push(finish);
    const answer = say(gateway, message, id);
    answer.catch(() => {}); // of a gateway that is killed
    await until('it is asked', () => held.length === 1);
    upstream.next = null;
    return { answer, finish: held[0] };
}

before(async () => {
    if (skip) {
        return;
    }
    upstream = await startUpstream();
    const target = { provider: 'openai', credential: 'main', model: 'm', max_output_tokens: 100 };
    const options = {
        credentials: { main: { provider: 'openai', base_url: upstream.base, api_key: KEY } },
        projects: demo({ talk: { ...target, session: { ttl: '1h', max_messages: 200, max_tokens: 100_000 } }, none: target }),
    };
    one = await startGateway(options);
    two = await startGateway({
        ...options,
        service: { store: { driver: 'postgres', dsn: 'file:dsn' } },
        files: { dsn: `${one.database.dsn} password=${PASSWORD}\n` },
        token: false,
        prepare: (gateway) => {
            fs.cpSync(path.join(one.config, 'tokens.d'), path.join(gateway.config, 'tokens.d'), { recursive: true });
            gateway.token = one.token;
            gateway.database = one.database;
        },
    });
    await served(one);
    await served(two);
});

after(async () => {
    await one?.stop();
    await two?.stop();
    upstream?.stop();
});

beforeEach(() => {
    if (upstream) {
        upstream.asked = [];
        upstream.next = null;
    }
});

test('a conversation whose turns alternate between two hosts: all of it, in order', { skip }, async () => {
    let id;
    const wanted = [];
    for (let turn = 1; turn <= 30; turn++) {
        const answer = await say(turn % 2 ? one : two, `question ${turn}`, id);
        assert.equal(answer.status, 200, answer.text);
        id ??= answer.json.meta.session_id;
        assert.equal(answer.json.meta.session_id, id);
        assert.deepEqual(told(-1), [...wanted, `user: question ${turn}`]);
        wanted.push(`user: question ${turn}`, `assistant: answer ${turn}`);
    }
    for (const gateway of [one, two]) {
        assert.ok(!fs.existsSync(path.join(gateway.directory, 'state/sessions.db')), 'there is no file');
    }
});

test('what leads to the database is seen by those who write to it', { skip: skip || CLOSED }, async () => {
    await served(two);
    assert.deepEqual(holders(two, PASSWORD), ['keeper', 'logger', 'master']);
});

test('two turns at once on two hosts: one 200, one 409; the next has what was stored', { skip }, async () => {
    const id = await open();
    const first = await hold(one, 'two', id);
    assertError(await say(two, 'three', id), 409, 'session_busy');
    first.finish();
    assert.equal((await first.answer).status, 200);
    assert.equal((await say(two, 'four', id)).status, 200);
    assert.deepEqual(told(-1), ['user: one', 'assistant: answer 1', 'user: two', 'assistant: answer 2', 'user: four']);
    assert.equal((await say(one, 'five', id)).status, 200);
    assert.deepEqual(told(-1).slice(-3), ['user: four', 'assistant: answer 3', 'user: five']);
});

test('a key is one on all hosts: held, then answered again', { skip }, async () => {
    const key = `key ${process.pid}`;
    const held = [];
    upstream.next = ({ finish }) => held.push(finish);
    const first = say(one, 'one', undefined, 'talk', key);
    await until('it is asked', () => held.length === 1);
    assertError(await say(two, 'one', undefined, 'talk', key), 409, 'idempotency_in_progress');
    held[0]();
    const answer = await first;
    assert.equal(answer.status, 200, answer.text);
    for (const gateway of [two, one]) {
        const again = await say(gateway, 'one', undefined, 'talk', key);
        assert.deepEqual([again.status, again.text, again.headers.get('idempotent-replayed')], [200, answer.text, 'true']);
        assertError(await say(gateway, 'another', undefined, 'talk', key), 422, 'idempotency_mismatch');
    }
    assert.equal(upstream.asked.length, 1);
    const failing = `${key} fails`;
    upstream.next = ({ response }) => response.writeHead(500).end('{}');
    assertError(await say(one, 'one', undefined, 'none', failing), 502, 'provider_error');
    upstream.next = null;
    assert.equal((await say(two, 'one', undefined, 'none', failing)).status, 200, 'what fails frees it for all');
});

test('many at once on two hosts: each that is served has all that were served before it', { skip }, async () => {
    const id = await open();
    let stored = 1;
    for (let round = 0; round < 10; round++) {
        const answers = await Promise.all([one, two, one, two].map((gateway) => say(gateway, `round ${round}`, id)));
        for (const answer of answers.filter(({ status }) => status !== 200)) {
            assertError(answer, 409, 'session_busy');
        }
        stored += answers.filter(({ status }) => status === 200).length;
    }
    assert.ok(stored > 10, 'one of each round at least');
    assert.equal((await say(two, 'last', id)).status, 200);
    const messages = told(-1);
    assert.equal(messages.length, 2 * stored + 1);
    messages.forEach((message, i) => assert.match(message, i % 2 ? /^assistant: / : /^user: /));
    assert.equal(new Set(messages.filter((_, i) => i % 2)).size, stored, 'each answer once');
});

test('a host is killed with a turn open: busy until its claim ends, then it goes on', { skip }, async () => {
    const id = await open();
    await hold(two, 'lost', id);
    two.children();
    for (const member of [...two.family.values()].filter(lives)) {
        process.kill(member.pid, 'SIGKILL');
    }
    await two.exited;
    assertError(await say(one, 'two', id), 409, 'session_busy');
    one.database.exec("UPDATE keeper_leases SET until = now() - interval '1 second'");
    assert.equal((await say(one, 'three', id)).status, 200);
    assert.deepEqual(told(-1), ['user: one', 'assistant: answer 1', 'user: three']);
    await two.restart();
    await served(two);
    assert.equal((await say(two, 'four', id)).status, 200);
    assert.equal(told(-1).length, 5);
});

test('a turn that takes long keeps its claim', { skip }, async () => {
    const id = await open();
    const turn = await hold(two, 'two', id);
    one.database.exec("UPDATE keeper_leases SET until = now() + interval '15 seconds'");
    await until('another 30 seconds', () => one.database.prepare(
        "SELECT until > now() + interval '20 seconds' AS renewed FROM keeper_leases").all().some(({ renewed }) => renewed));
    assertError(await say(one, 'three', id), 409, 'session_busy');
    turn.finish();
    assert.equal((await turn.answer).status, 200);
    assert.equal((await say(one, 'three', id)).status, 200);
    assert.deepEqual(one.database.prepare('SELECT host FROM keeper_leases').all(), [], 'nothing is claimed any more');
});

test('what has expired is told by both hosts, before and after the sweep', { skip }, async () => {
    const id = await open();
    const sql = (text) => one.database.prepare(text.replaceAll('ID', `(SELECT number FROM sessions WHERE id = '${id}')`)).all();
    const then = Date.now() - 1000;
    one.database.exec(`UPDATE session_messages SET expires_at = ${then} FROM sessions WHERE session = number AND id = '${id}'`);
    for (const swept of [false, true]) {
        if (swept) {
            one.database.exec(`UPDATE sessions SET look_at = 1 WHERE id = '${id}'`);
            await until('the sweep', () => sql('SELECT turn FROM session_messages WHERE session = ID').length === 0);
        }
        for (const gateway of [one, two]) {
            assertError(await say(gateway, 'two', id), 410, 'session_expired');
        }
    }
    assert.deepEqual(sql('SELECT ended, look_at FROM sessions WHERE number = ID'), [{ ended: 1, look_at: then }]);
});

test('the database is away: 503 for sessions alone, and back by itself', { skip }, async () => {
    const id = await open();
    const { server } = one.database;
    server.stop('fast');
    for (const gateway of [one, two]) {
        const began = performance.now();
        assertError(await say(gateway, 'two', id), 503, 'sessions_unavailable');
        assert.ok(performance.now() - began < 2500);
        assert.equal((await say(gateway, 'hi', undefined, 'none')).status, 200);
        assert.equal(await state(gateway), 'away');
    }
    server.start();
    await served(one);
    await served(two);
    await until('all is well', async () => await state(one) === 'ok' && await state(two) === 'ok');
    assert.equal((await say(two, 'three', id)).status, 200);
    assert.deepEqual(told(-1), ['user: one', 'assistant: answer 1', 'user: three']);
});

test('connections are cut with a turn open: it is stored by the next one', { skip }, async () => {
    const id = await open();
    const turn = await hold(one, 'two', id);
    one.database.disconnectOthers();
    await served(one);
    turn.finish();
    const answer = await turn.answer;
    assert.equal(answer.status, 200, answer.text);
    await served(two);
    assert.equal((await say(two, 'three', id)).status, 200);
    assert.deepEqual(told(-1).slice(0, 3), ['user: one', 'assistant: answer 1', 'user: two']);
});

test('the command line of either host lists, shows and deletes', { skip }, async () => {
    const id = await open();
    const command = (gateway, ...args) => run('session', ...args, '--config', gateway.config);
    for (const gateway of [one, two]) {
        const listed = JSON.parse((await command(gateway, 'list', '--json', '--project', 'demo')).stdout);
        assert.equal(listed[0].session_id, id);
        assert.deepEqual([listed[0].turns, listed[0].messages], [1, 2]);
        assert.equal((await command(gateway, 'show', id)).stdout.split('\n')[1], '{"role":"user","content":"one"}');
    }
    const turn = await hold(one, 'two', id);
    assert.equal((await command(two, 'delete', id)).status, 0);
    turn.finish();
    assert.notEqual((await turn.answer).status, 200, 'what can not be stored is not answered');
    for (const gateway of [one, two]) {
        assertError(await say(gateway, 'three', id), 403, 'session_forbidden');
        const none = await command(gateway, 'show', id);
        assert.deepEqual([none.status, none.stderr], [1, 'promptgate session: there is no such session\n']);
    }
});
