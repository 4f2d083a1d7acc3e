// Clients of streams that leave, that are slow, that are many; and streams through restarts.
import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { demo, PATIENCE, SANITIZE, startGateway, until } from './harness.mjs';
import { resident } from './proc.mjs';
import { RECORDINGS } from './recordings.mjs';
import { events, StreamUpstream } from './stream-upstream.mjs';

const KEY = 'sk-mock-key-0123456789';
const { pieces } = RECORDINGS.openai;
let upstream;
let gateway;

before(async () => {
    upstream = await new StreamUpstream().start();
    const endpoint = (name, more = {}) =>
        ({ provider: name, credential: name, model: 'm', streaming_enabled: true, max_output_tokens: 4000, timeout: '10m',
           price: { input: 1, output: 2 }, ...more });
    const credential = (name, path = '') => ({ provider: name, base_url: upstream.base + path, api_key: KEY });
    gateway = await startGateway({
        service: { upstream: { idle_timeout: '20s' } },
        credentials: { openai: credential('openai', '/v1'), groq: credential('groq', '/v1'), anthropic: credential('anthropic') },
        projects: demo({ openai: endpoint('openai'), groq: endpoint('groq'), anthropic: endpoint('anthropic') }),
    });
});

after(async () => {
    await gateway?.stop();
    upstream?.stop();
});

/** A request over a socket of its own: { socket, received, until(n bytes), leave() }. */
function connect(slug, { stream = true, port = gateway.port } = {}) {
    const body = JSON.stringify({ message: 'How many?', ...(stream ? { stream: true } : {}) });
    const socket = net.connect(port, '127.0.0.1');
    const client = { socket, received: '', bytes: 0 };
    socket.on('error', () => {});
    socket.on('data', (data) => {
        client.bytes += data.length;
        client.received = (client.received + data).slice(0, 100_000);
    });
    client.ended = new Promise((resolve) => socket.on('close', resolve));
    socket.write(`POST ${new URL(gateway.api).pathname}/${slug} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${gateway.token}\r\n` +
                 `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
    return client;
}

/** When the provider has seen its connection closed, after the client's end by `leave`. */
async function leaves(client, leave) {
    const left = Date.now();
    leave(client.socket);
    const closed = await Promise.race([upstream.only().closed, sleep(5000).then(() => { throw new Error('not closed'); })]);
    return closed - left;
}

/** The client's row; before its answer has begun, the one that comes when there are `count`. */
async function rowOf(client, count) {
    const id = /x-request-id: (\S+)/i.exec(client.received)?.[1];
    if (id) {
        return gateway.row(id);
    }
    await gateway.rowsReach(count + 1);
    return gateway.rows().at(-1);
}

describe('"A client that goes away closes the upstream transfer within 100 ms"', () => {
    const waits = { status: 200, type: 'text/event-stream' };
    const points = {
        'before the provider says anything': [{ ...waits, pieces: [], end: 'hold' }, true, async () => until('the call', () => upstream.calls.length === 1)],
        'after its head': [{ ...waits, pieces: pieces.slice(0, 1), gap: 1, end: 'hold' }, true,
                           async () => until('the call', () => upstream.calls[0]?.sent > 0)],
        'in mid-stream': [{ ...waits, pieces: pieces.slice(0, 4), gap: 5, end: 'hold' }, true, async (client) => until('text', () => client.received.includes('Let me'))],
        'at the last event': [{ ...waits, pieces: pieces.slice(0, 7), gap: 5, end: 'hold' }, true, async (client) => until('the end', () => client.received.includes('"tool_calls"}'))],
        'in a call that is not streamed': [{ type: 'application/json', pieces: ['{"id":"x",'], end: 'hold' }, false, async () => until('the call', () => upstream.calls[0]?.sent > 0)],
    };
    const ways = { 'closes': (socket) => socket.destroy(), 'resets': (socket) => socket.resetAndDestroy(), 'ends its half': (socket) => socket.end() };
    for (const [point, [script, stream, ready]] of Object.entries(points)) {
        for (const [way, leave] of Object.entries(ways)) {
            test(`${point}; it ${way}`, async () => {
                const count = gateway.rowCount();
                upstream.play(script);
                const client = connect('openai', { stream });
                await ready(client);
                await sleep(20);
                const ms = await leaves(client, leave);
                assert.ok(ms < 100 * PATIENCE, `after ${ms} ms`);
                const row = await rowOf(client, count);
                assert.equal(row.status, 'client_closed');
                assert.equal(row.streamed, stream ? 1 : 0);
                assert.ok(row.prompt_tokens > 0, 'its tokens');
                const said = client.received.includes('Let me');
                assert.equal(row.completion_tokens > 0, said);
                assert.equal(row.cost_basis, said ? 'bound' : 'worst_case');
                assert.ok(row.cost_nano_usd > 0);
            });
        }
    }

    test('what it costs: what was said, and a little under way; a provider that goes on is paid to the end', async () => {
        const costs = {};
        for (const name of ['openai', 'groq']) {
            const count = gateway.rowCount();
            upstream.play({ pieces: RECORDINGS[name].pieces.slice(0, 3), gap: 5, end: 'hold' });
            const client = connect(name);
            await until('text', () => client.received.includes('Let me'));
            await leaves(client, (socket) => socket.destroy());
            costs[name] = await rowOf(client, count);
        }
        assert.equal(costs.openai.cost_basis, 'bound');
        assert.equal(costs.groq.cost_basis, 'worst_case');
        const output = (row) => row.cost_nano_usd / 2000;
        assert.ok(output(costs.openai) > 1024 && output(costs.openai) < 2500, `${output(costs.openai)} tokens`);
        assert.ok(output(costs.groq) > 4000, `${output(costs.groq)} tokens`);
    });

    test('usage that was reported for the whole answer is what it costs', async () => {
        const count = gateway.rowCount();
        upstream.play({ pieces: pieces.slice(0, 8), gap: 5, end: 'hold' });
        const client = connect('openai');
        await until('the reason', () => client.received.includes('"finish_reason":"tool_calls"'));
        await sleep(30);
        await leaves(client, (socket) => socket.destroy());
        const row = await rowOf(client, count);
        assert.equal(row.cost_basis, 'reported');
        assert.equal(row.completion_tokens, 9);
    });

    test('usage of a beginning is no usage of the whole', async () => {
        const count = gateway.rowCount();
        upstream.play({ pieces: RECORDINGS.anthropic.pieces.slice(0, 5), gap: 5, end: 'hold' });
        const client = connect('anthropic');
        await until('text', () => client.received.includes('1F600') || client.received.includes('\u{1F600}'));
        await leaves(client, (socket) => socket.destroy());
        const row = await rowOf(client, count);
        assert.equal(row.cost_basis, 'bound');
        assert.equal(row.prompt_tokens, 21, 'what it says of the prompt is right');
        assert.ok(row.completion_tokens >= 4);
    });
});

describe('a slow client', () => {
    const MEBIBYTE = 1 << 20;
    const large = (count) => {
        const event = pieces[1].replace('Let me look. ', 'x'.repeat(16_000));
        return [pieces[0], ...Array(Math.ceil(count * MEBIBYTE / event.length)).fill(event), ...pieces.slice(6)];
    };

    test('"A slow client never makes the worker buffer more than http.stream_buffer": others go on', async (t) => {
        const workers = gateway.workers();
        const memory = () => workers.reduce((sum, { pid }) => sum + resident(pid), 0);
        upstream.play({ pieces: large(0.1), gap: 0.01 });
        await gateway.post('openai', { message: 'warm', stream: true });
        const before = memory();
        upstream.play({ pieces: large(10), gap: 0.01 });
        const slow = Array.from({ length: 8 }, () => connect('openai'));
        const timers = slow.map(({ socket }) => {
            socket.pause();
            return setInterval(() => {
                socket.resume();
                setTimeout(() => socket.pause(), 1);
            }, 1000);
        });
        t.after(() => timers.forEach(clearInterval));
        await until('the provider waits', async () => {
            const sent = upstream.calls.map((call) => call.sent);
            await sleep(1500);
            return upstream.calls.length === 8 && upstream.calls.every((call, i) => call.sent - sent[i] < MEBIBYTE);
        });
        const grown = memory() - before;
        // A sanitizer keeps what was freed.
        assert.ok(SANITIZE || grown < 8 * 2 * 262_144 + 4 * MEBIBYTE, `${grown} bytes`);
        upstream.play({ pieces, gap: 1 });
        for (let i = 0; i < 20; i++) {
            const began = Date.now();
            const answer = await gateway.post('openai', { message: 'quick', stream: true });
            assert.ok(answer.text.endsWith('data: [DONE]\n\n'));
            assert.ok(Date.now() - began < 1000 * PATIENCE);
        }
        timers.forEach(clearInterval);
        const all = large(10).slice(0, -3).join('').length;
        slow.forEach(({ socket }) => socket.resume());
        await until('all of it', () => slow.every(({ bytes }) => bytes > all));
        slow.forEach(({ socket }) => socket.destroy());
    });

    test('one that leaves is noticed while its provider waits', async () => {
        upstream.play({ pieces: large(20), gap: 0.01 });
        const client = connect('openai');
        await until('its head', () => client.received.includes('\r\n\r\n'));
        client.socket.pause();
        await until('the provider waits', async () => {
            const { sent } = upstream.calls[0] ?? { sent: -1 };
            await sleep(500);
            return sent > MEBIBYTE / 2 && upstream.calls[0].sent === sent;
        });
        const ms = await leaves(client, (socket) => socket.resetAndDestroy());
        assert.ok(ms < 100 * PATIENCE, `after ${ms} ms`);
        const row = await rowOf(client);
        assert.equal(row.status, 'client_closed');
        assert.equal(row.cost_basis, 'worst_case', 'a provider that waited may be far ahead');
    });
});

/** The chunks of an answer's body, as HTTP has them. */
function chunksOf(received) {
    const chunks = [];
    for (let rest = Buffer.from(received.slice(received.indexOf('\r\n\r\n') + 4)); rest.length > 0;) {
        const end = rest.indexOf('\r\n');
        const size = parseInt(rest.subarray(0, end), 16);
        chunks.push(rest.subarray(end + 2, end + 2 + size).toString());
        rest = rest.subarray(end + 4 + size);
    }
    return chunks;
}

test('"Chunks are written when they arrive, several that arrived together in one write"', async () => {
    upstream.play({ pieces: [pieces.slice(0, 2).join(''), pieces.slice(2, 6).join(''), pieces.slice(6).join('')], gap: 60 });
    const client = connect('openai');
    await until('the end', () => client.received.endsWith('\r\n0\r\n\r\n'));
    client.socket.destroy();
    assert.deepEqual(chunksOf(client.received), [pieces.slice(0, 2).join(''), pieces.slice(2, 6).join(''), pieces[6] + pieces[8], '']);
});

describe('many, and restarts', () => {
    test('the connection is good for the next request; an old client reads to the end', async () => {
        upstream.play({ pieces, gap: 1 });
        const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
        const once = () => new Promise((resolve, reject) => {
            const request = http.request(`${gateway.api}/openai`, {
                method: 'POST', agent, headers: { authorization: `Bearer ${gateway.token}`, 'content-type': 'application/json' } });
            request.on('error', reject).on('response', (response) => {
                let text = '';
                response.on('data', (data) => { text += data; }).on('end', () => resolve({ text, port: request.socket.localPort }));
            });
            request.end('{"message":"x","stream":true}');
        });
        const first = await once();
        const second = await once();
        assert.equal(first.port, second.port);
        assert.equal(first.text, second.text);
        agent.destroy();
        const body = '{"message":"x","stream":true}';
        const socket = net.connect(gateway.port, '127.0.0.1');
        let text = '';
        socket.write(`POST ${new URL(gateway.api).pathname}/openai HTTP/1.0\r\nAuthorization: Bearer ${gateway.token}\r\n` +
                     `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
        await new Promise((resolve) => socket.on('data', (data) => { text += data; }).on('end', resolve));
        assert.doesNotMatch(text, /transfer-encoding/i);
        assert.ok(text.endsWith(first.text));
    });

    test('the provider\'s connection is used again, though its answer ends after [DONE]', async () => {
        upstream.play({ pieces, gap: 10 });
        let connections = 0;
        upstream.server.on('connection', () => { connections++; });
        for (let i = 0; i < 6; i++) {
            await gateway.post('openai', { message: 'x', stream: true });
            await sleep(50);
        }
        assert.ok(connections <= 2, `${connections} connections`);
    });

    test('a reload and a stop let streams end', async () => {
        upstream.play({ pieces: [...pieces.slice(0, 3), ...Array(30).fill(pieces[2]), ...pieces.slice(6)], gap: 50 });
        const answers = Array.from({ length: 10 }, () => gateway.post('openai', { message: 'x', stream: true }));
        await until('all begun', () => upstream.calls.length === 10);
        process.kill(gateway.pid, 'SIGHUP');
        for (const answer of await Promise.all(answers)) {
            assert.equal(events(answer.text).at(-1), '[DONE]');
        }
    });

    test('a killed worker\'s stream breaks off, and has its row and its cost', async () => {
        upstream.play({ pieces: pieces.slice(0, 4), gap: 5, end: 'hold' });
        const client = connect('openai');
        await until('text', () => client.received.includes('Let me'));
        for (const { pid } of gateway.workers()) {
            process.kill(pid, 'SIGKILL');
        }
        await client.ended;
        assert.ok(!client.received.endsWith('0\r\n\r\n'), 'the client sees that something is missing');
        const row = await gateway.row(/x-request-id: (\S+)/i.exec(client.received)[1]);
        assert.equal(row.status, 'worker_died');
        assert.equal(row.cost_basis, 'worst_case');
        assert.ok(row.cost_nano_usd > 0);
    });

    test('a stop does not wait longer than shutdown_timeout: an error event', async () => {
        const other = await startGateway({
            service: { shutdown_timeout: '1s' },
            credentials: { openai: { provider: 'openai', base_url: `${upstream.base}/v1`, api_key: KEY } },
            projects: demo({ openai: { provider: 'openai', credential: 'openai', model: 'm', streaming_enabled: true } }),
        });
        upstream.play({ pieces: [...pieces.slice(0, 3), ...Array(100).fill(pieces[2])], gap: 100 });
        const answer = other.post('openai', { message: 'x', stream: true });
        await until('it has begun', () => upstream.calls[0]?.sent > 1000);
        await other.stop();
        const { text, id } = await answer;
        const told = events(text);
        assert.equal(JSON.parse(told.at(-1)).error.code, 'draining');
        assert.ok(told.length > 3);
        assert.equal(other.rows().find((row) => row.request_id === id).status, 'draining');
    });
});
