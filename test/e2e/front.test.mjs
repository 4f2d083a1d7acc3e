// The front door: methods, browsers, who the client is, how many there may be. Each test quotes the
// line of the HTTP contract that it proves.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import OpenAI from 'openai';

import { Connection } from '../soak/client.mjs';
import { assertError, demo, makeToken, OTHER_ID, PROJECT_ID, raw, startGateway, until,
         UUID7 } from './harness.mjs';

const APP = 'https://app.example.com';
const echo = { provider: 'echo', model: 'echo' };
const lister = makeToken({ scopes: ['models'], endpoints: ['hello'] });
const chatter = makeToken({ scopes: ['chat'] });
const all = makeToken({ scopes: ['models'] });

let gateway;
before(async () => {
    gateway = await startGateway({
        service: { http: { trusted_proxies: ['127.0.0.0/8', '10.0.0.0/8', '2001:db8:1::/48'] } },
        projects: {
            ...demo({ hello: echo, second: echo, off: { ...echo, active: false } },
                    { cors: { origins: [APP, 'http://localhost:3000'] } }),
            other: { id: OTHER_ID, endpoints: { hello: echo } },
        },
        tokens: { lister: lister.entry, chatter: chatter.entry, all: all.entry },
    });
});
after(() => gateway?.stop());

const ask = (route, options = {}) => fetch(`${gateway.base}${route}`, options);
const api = `/api/${PROJECT_ID}`;

describe('GET models', () => {
    for (const route of ['models', 'v1/models']) {
        test(`"GET /api/{project}/models: the endpoints this token may call, as an OpenAI model list" (${route})`, async () => {
            const answer = await ask(`${api}/${route}`, { headers: { authorization: `Bearer ${all.token}` } });
            assert.equal(answer.status, 200);
            const model = (id) => ({ id, object: 'model', created: 0, owned_by: 'Demo' });
            assert.deepEqual(await answer.json(), { object: 'list', data: [model('hello'), model('second')] });
            const row = await gateway.row(answer.headers.get('x-request-id'));
            assert.equal(row.status, 'ok');
            assert.equal(row.endpoint, null);
            assert.equal(row.provider, null);
            assert.equal(row.token, 'all');
        });
    }

    test('"the endpoints this token may call": a narrowed token sees its own', async () => {
        const client = new OpenAI({ baseURL: `${gateway.base}${api}`, apiKey: lister.token });
        const ids = [];
        for await (const model of client.models.list()) {
            ids.push(model.id);
        }
        assert.deepEqual(ids, ['hello']);
    });

    test('scope "models": without it 403 scope_missing; without a token 401', async () => {
        const stranger = makeToken();
        const refused = await ask(`${api}/models`, { headers: { authorization: `Bearer ${chatter.token}` } });
        const { error } = await refused.json();
        assert.deepEqual([refused.status, error?.code], [403, 'scope_missing']);
        assert.match(error.message, /scope models/);
        const unknown = await ask(`${api}/models`, { headers: { authorization: `Bearer ${stranger.token}` } });
        assert.equal(unknown.status, 401);
        const post = await gateway.post('models', {}, { token: all.token });
        assertError(post, 405, 'method_not_allowed');
        assert.equal(post.headers.get('allow'), 'GET, HEAD');
    });

    test('HEAD has the same headers and no body', async () => {
        const headers = { authorization: `Bearer ${all.token}` };
        const whole = await ask(`${api}/models`, { headers });
        const bytes = (await whole.arrayBuffer()).byteLength;
        const { text, closed } = await raw(gateway.port,
            `HEAD ${api}/models HTTP/1.1\r\nHost: x\r\nAuthorization: ${headers.authorization}\r\nConnection: close\r\n\r\n`);
        assert.ok(closed);
        assert.match(text, new RegExp(`Content-Length: ${bytes}\r\n`));
        assert.ok(text.endsWith('\r\n\r\n'));
    });
});

describe('browsers', () => {
    const preflight = (origin, route = `${api}/hello`, more = {}) => ask(route, {
        method: 'OPTIONS',
        headers: { ...(origin && { origin }), 'access-control-request-method': 'POST',
                   'access-control-request-headers': 'authorization, content-type', ...more } });

    test('"OPTIONS answers 204 for a listed origin"', async () => {
        for (const [route, allow] of [['hello', 'POST'], ['chat/completions', 'POST'],
                                      ['models', 'GET, HEAD']]) {
            const answer = await preflight(APP, `${api}/${route}`);
            assert.equal(answer.status, 204);
            assert.equal(answer.headers.get('access-control-allow-origin'), APP);
            assert.equal(answer.headers.get('access-control-allow-methods'), allow);
            assert.equal(answer.headers.get('access-control-allow-headers'), 'authorization, content-type');
            assert.ok(Number(answer.headers.get('access-control-max-age')) > 0);
            assert.equal(answer.headers.get('vary'), 'Origin');
            assert.match(answer.headers.get('x-request-id'), UUID7);
            assert.equal(answer.headers.get('content-length'), null);
        }
    });

    test('"otherwise OPTIONS is 405"', async () => {
        for (const answer of [
            await preflight('https://evil.example.com'), await preflight(null),
            await preflight(APP, `/api/${OTHER_ID}/hello`), await preflight(APP, '/healthz'),
            await preflight(APP, '/api/0192f0c1-7e7a-7cc3-98c4-dc0c0c079999/hello'),
            await preflight('HTTPS://app.example.com'), await preflight(`${APP}/`),
        ]) {
            assert.equal(answer.status, 405);
            assert.ok(answer.headers.get('allow'));
            assert.equal(answer.headers.get('access-control-allow-origin'), null);
        }
    });

    test('"answers carry Access-Control-Allow-Origin for it alone", errors too', async () => {
        const post = (origin, token) =>
            gateway.post('hello', { message: 'Hi' }, { token, headers: { ...(origin && { origin }) } });
        for (const answer of [await post(APP), await post(APP, 'nonsense'),
                              await gateway.post('nothing', {}, { headers: { origin: APP } })]) {
            assert.equal(answer.headers.get('access-control-allow-origin'), APP);
            assert.match(answer.headers.get('access-control-expose-headers'), /X-Request-Id/);
        }
        for (const answer of [await post('https://evil.example.com'), await post(null)]) {
            assert.equal(answer.headers.get('access-control-allow-origin'), null);
            assert.equal(answer.headers.get('vary'), 'Origin');
        }
    });

    test('what a page names as headers cannot break out of the line', async () => {
        const { text } = await raw(gateway.port, `OPTIONS ${api}/hello HTTP/1.1\r\nHost: x\r\nOrigin: ${APP}\r\n` +
            'Access-Control-Request-Headers: x;y=<script>\r\nConnection: close\r\n\r\n');
        assert.match(text, /^HTTP\/1.1 204 /);
        assert.doesNotMatch(text, /script|Allow-Headers/);
    });
});

describe('trusted proxies: "CIDRs whose X-Forwarded-For is believed"', () => {
    const from = async (forwarded, headers = {}) => {
        const { id } = await gateway.post('hello', { message: 'Hi' }, {
            headers: { ...(forwarded !== null && { 'x-forwarded-for': forwarded }), ...headers } });
        return (await gateway.row(id)).client_ip;
    };

    test('the last one that is no trusted proxy is the client', async () => {
        assert.equal(await from(null), '127.0.0.1');
        assert.equal(await from('203.0.113.9'), '203.0.113.9');
        assert.equal(await from('198.51.100.1, 203.0.113.9'), '203.0.113.9');
        assert.equal(await from('1.1.1.1,203.0.113.9 , 10.1.2.3'), '203.0.113.9');
        assert.equal(await from('10.0.0.1, 10.0.0.2'), '10.0.0.1');
        assert.equal(await from('2001:DB8:2::9, 2001:db8:1::1'), '2001:db8:2::9');
        assert.equal(await from('203.0.113.9:4711'), '203.0.113.9');
        assert.equal(await from('[2001:db8:2::9]:80'), '2001:db8:2::9');
        assert.equal(await from('::ffff:203.0.113.9'), '203.0.113.9');
    });

    test('what is no address ends the reading', async () => {
        assert.equal(await from('unknown'), '127.0.0.1');
        assert.equal(await from('203.0.113.9, unknown, 10.0.0.1'), '10.0.0.1');
        assert.equal(await from(''), '127.0.0.1');
        assert.equal(await from(', 203.0.113.9,'), '127.0.0.1');
        assert.equal(await from('203.0.113.9, _hidden'), '127.0.0.1');
    });

    test('several headers are one list', async () => {
        const body = '{"message":"Hi"}';
        const { headers } = await raw(gateway.port, [
            `POST ${api}/hello HTTP/1.1`, 'Host: x', `Authorization: Bearer ${gateway.token}`,
            'Content-Type: application/json', `Content-Length: ${body.length}`,
            'X-Forwarded-For: 198.51.100.1, 203.0.113.9', 'X-Forwarded-For: 10.0.0.7',
            'Connection: close', '', body].join('\r\n'));
        assert.equal((await gateway.row(headers['x-request-id'])).client_ip, '203.0.113.9');
    });

    test('refusals are counted for that client', async () => {
        await gateway.post('hello', {}, { token: 'x', headers: { 'x-forwarded-for': '192.0.2.77' } });
        await until('the summary row', () => gateway.refused().some(({ network, code }) =>
            network === '192.0.2.0/24' && code === 'unauthorized'));
    });
});

describe('health', () => {
    test('"/healthz and /readyz (?verbose adds state as JSON)"', async () => {
        for (const route of ['/healthz', '/readyz']) {
            assert.deepEqual(await (await ask(route)).json(), { ok: true });
            const { worker, ...state } = await (await ask(`${route}?verbose`)).json();
            assert.ok(Number.isInteger(worker));
            assert.ok(state.connections >= 1);
            assert.equal(typeof state.spool_pending_bytes, 'number');
            assert.deepEqual({ ...state, connections: 1, spool_pending_bytes: 0 }, {
                ok: true, generation: 1, draining: false, connections: 1, requests_in_flight: 0,
                store: 'ok', spool_pending_bytes: 0 });
            const head = await ask(route, { method: 'HEAD' });
            assert.equal(head.status, 200);
            assert.equal(await head.text(), '');
        }
    });
});

describe('"max_connections: per worker … above it 503"', () => {
    test('those that are there go on; the surplus is told, and counted', async () => {
        const small = await startGateway({
            workers: 1, service: { http: { max_connections: 3 } }, projects: demo({ hello: echo }) });
        const request = `GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n`;
        const kept = Array.from({ length: 3 }, () => new Connection(small.port, '127.0.0.1'));
        const ok = async (line) => {
            await line.send(Buffer.from(request));
            return (await line.answer()).status;
        };
        for (const line of kept) {
            assert.equal(await ok(line), 200);
        }
        for (let i = 0; i < 5; i++) {
            const { status, json, headers, closed } = await raw(small.port, request);
            assert.equal(status, 503);
            assert.equal(json.error.code, 'overloaded');
            assert.equal(headers['retry-after'], '1');
            assert.ok(closed);
        }
        for (const line of kept) {
            assert.equal(await ok(line), 200);
            line.leave();
        }
        await until('the summary row', () => small.refused().some(({ code }) => code === 'overloaded'));
        await until('room', async () => (await raw(small.port,
            request.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'))).status === 200);
        await small.stop();
        const counted = small.refused().filter(({ code }) => code === 'overloaded')
            .reduce((sum, { count }) => sum + count, 0);
        assert.ok(counted >= 5);
        assert.equal(small.rowCount(), 0);
    });
});
