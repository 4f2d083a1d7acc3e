// The clients of a soak run. Each is a loop of its own; what it does next its own random source
// says, so that a seed repeats every client's plan.
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';

import { makeToken, OTHER_ID, PROJECT_ID } from '../e2e/harness.mjs';
import { Addresses, Broken, Connection, post } from './client.mjs';
import { Talk } from './talk.mjs';
import { LIES } from './upstream.mjs';

// The packages are the end-to-end tests'.
const OpenAI = createRequire(new URL('../e2e/package.json', import.meta.url))('openai');

const TARGET = { provider: 'openai', credential: 'mock' };
/** What `capped` may cost in a month: some hundred of its requests. */
export const CAP_USD = 0.001;
const SLUG_OF_LIE = (lie) => `lie-${lie}`;
const SLUG_OF_CHAIN = (lie) => `chain-${lie}`;

/** Slug -> endpoint, as in the project's file. */
export const ENDPOINTS = {
    'echo': { provider: 'echo', model: 'echo', streaming_enabled: true },
    'echo-late': { provider: 'echo', model: 'echo/slow-300' },
    'echo-fails': { provider: 'echo', model: 'echo/fail-503' },
    'plain': { ...TARGET, model: 'marker' },
    'prompted': { ...TARGET, model: 'marker', system_prompt: 'Be brief.',
                  user_prompt: 'Say this again: {{input}}' },
    'late': { ...TARGET, model: 'marker-late', timeout: '20s' },
    'stream': { ...TARGET, model: 'marker-stream', streaming_enabled: true },
    'stream-cut': { ...TARGET, model: 'marker-stream-cut', streaming_enabled: true },
    'fitting': { ...TARGET, model: 'marker-fitting', output_repair: 2, timeout: '20s',
                 output_schema: { type: 'object', required: ['said'], properties: { said: { type: 'string' } } } },
    'talk': { ...TARGET, model: 'marker-talk', timeout: '20s', session: { max_messages: 100 } },
    'big': { ...TARGET, model: 'marker-big', timeout: '20s' },
    'tools': { ...TARGET, model: 'marker-tools', timeout: '20s' },
    'capped': { ...TARGET, model: 'marker', max_output_tokens: 50, timeout: '20s', budget: { monthly_usd: CAP_USD } },
    'flap': { ...TARGET, credential: 'flappy', model: 'marker', timeout: '10s', retries: 1,
              failover: [{ credential: 'spare', model: 'marker' }] },
    ...Object.fromEntries(LIES.map((lie) =>
        [SLUG_OF_LIE(lie), { ...TARGET, model: lie, timeout: '2s' }])),
    ...Object.fromEntries(LIES.map((lie) =>
        [SLUG_OF_CHAIN(lie), { ...TARGET, model: lie, timeout: '6s', retries: 1,
                               failover: [{ credential: 'spare', model: 'marker' }] }])),
};

const isUpstream = (slug) => ENDPOINTS[slug]?.provider === 'openai';

const STRANGER = makeToken().token;

/** Requests that must be refused. `bytes` makes them, from { path, token, message }; `row` as the
 * audit has it; `expect` the outcomes that are right. */
const MALFORMED = [
    { kind: 'bad JSON', row: 'must', expect: ['invalid_json'],
      bytes: ({ path, auth, message }) => post(path, `{"message":"${message}"`, auth) },
    { kind: 'a key twice', row: 'must', expect: ['invalid_json'],
      bytes: ({ path, auth, message }) => post(path, `{"message":"a","message":"${message}"}`, auth) },
    { kind: 'no object', row: 'must', expect: ['invalid_request'],
      bytes: ({ path, auth, message }) => post(path, `["${message}"]`, auth) },
    { kind: 'no input', row: 'must', expect: ['input_missing'],
      bytes: ({ path, auth, message }) => post(path, `{"other":"${message}"}`, auth) },
    { kind: 'no type', row: 'must', expect: ['unsupported_media_type'],
      bytes: ({ path, auth }) => post(path, '{}', { ...auth, 'Content-Type': 'text/plain' }) },
    { kind: 'unknown slug', row: 'must', expect: ['not_found'], endpoint: null,
      bytes: ({ path, auth, message }) => post(`${path}-none`, `{"message":"${message}"}`, auth) },
    { kind: 'too large', row: 'must', expect: ['body_too_large'],
      bytes: ({ path, auth }) => post(path, '{}', { ...auth, 'Content-Length': 200 << 20 }) },
    { kind: 'a stranger', row: 'never', expect: ['unauthorized'],
      bytes: ({ path, message }) =>
          post(path, `{"message":"${message}"}`, { Authorization: `Bearer ${STRANGER}` }) },
    { kind: 'another project', row: 'never', expect: ['not_found'],
      bytes: ({ path, auth, message }) =>
          post(path.replace(PROJECT_ID, OTHER_ID), `{"message":"${message}"}`, auth) },
    { kind: 'unknown path', row: 'never', expect: ['not_found'],
      bytes: ({ auth }) => post('/nowhere', '{}', auth) },
    { kind: 'GET', row: 'never', expect: ['method_not_allowed'],
      bytes: ({ path }) => Buffer.from(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`) },
    { kind: 'not HTTP', row: 'never', expect: ['bad_http'],
      bytes: () => Buffer.from('SSH-2.0-OpenSSH_9.2\r\n\r\n') },
    { kind: 'two lengths', row: 'never', expect: ['bad_http'],
      bytes: ({ path, auth }) => post(path, '{}', { ...auth, 'content-length': 7 }) },
    { kind: 'a folded header', row: 'never', expect: ['bad_http'],
      bytes: ({ path, auth }) => post(path, '{}', { ...auth, 'X-Folded': 'a\r\n b' }) },
    { kind: 'a huge head', row: 'never', expect: ['headers_too_large'],
      bytes: ({ path, auth }) => post(path, '{}', { ...auth, 'X-Huge': 'x'.repeat(20_000) }) },
];

export class Traffic {
    #addresses = new Addresses();
    #markers = 0;
    #loops = [];
    stopping = false;
    wrong = []; // what conversations lacked, or had twice

    /** `gateway` and `audit` are the harness's and the auditor's. */
    constructor({ gateway, audit, random }) {
        Object.assign(this, { gateway, audit, random });
        this.auth = { Authorization: `Bearer ${gateway.token}` };
    }

    /** `more` are clients beside the usual ones. They may be stopped, and started again. */
    start(more = []) {
        this.stopping = false;
        const clients = [...more,
            ...Array(8).fill(this.quick), this.fresh, this.fresh, this.late, this.late, this.late,
            this.late, this.dispatched, this.bigSender, this.slowSender, this.slowReader,
            this.slowReader, this.pipelined, this.malformed, this.lied, this.lied, this.lied,
            this.lied, this.tooled, this.tooled, this.capped, this.flapping, this.flapping, this.chained, this.chained, this.chained, this.fitting, this.fitting, this.talking, this.talking, this.talking, this.leaver, this.leaver, this.leaver, this.leaver, this.sdk, this.sdk,
            ...Array(6).fill(this.streamed),
        ];
        this.#loops = clients.map((client) => this.#loop(client, this.random.fork()));
        return clients.length;
    }

    async stop() {
        this.stopping = true;
        await Promise.all(this.#loops);
    }

    async #loop(client, random) {
        const state = { random };
        while (!this.stopping) {
            await client.call(this, state);
        }
        state.connection?.leave();
    }

    // ---- parts of a client

    #connect() {
        return new Connection(this.gateway.port, this.#addresses.next());
    }

    #path(slug) {
        return `/api/${PROJECT_ID}/${slug}`;
    }

    /** Tells the audit of a request; its message begins with the marker. */
    #begin(kind, connection, endpoint, fields = {}) {
        const marker = fields.marker ?? `m-${++this.#markers}-`;
        const request = this.audit.request({ kind, ip: connection.ip, endpoint,
                                             upstream: isUpstream(endpoint), ...fields, marker });
        // A kept connection that has ended meanwhile: its end is the one to be explained.
        request.began = connection.overSince ?? request.began;
        return request;
    }

    #body(request, more = '') {
        return JSON.stringify({ message: `${request.marker} ${more}` });
    }

    /** Waits for the answer and tells the audit; true when the connection may be used again. */
    async #finish(request, connection) {
        try {
            request.answered(await connection.answer());
            return !connection.closing && !connection.over;
        } catch (error) {
            if (!(error instanceof Broken)) {
                throw error;
            }
            request.broke(error.message, error.id);
            connection.leave();
            return false;
        }
    }

    async #ask(kind, connection, slug, { more = '', sending = {}, ...fields } = {}) {
        const request = this.#begin(kind, connection, slug, fields);
        await connection.send(post(this.#path(slug), this.#body(request, more), this.auth), sending);
        return this.#finish(request, connection);
    }

    /** A request on a connection of its own, and a pause. */
    async askOnce(kind, slug, fields) {
        const connection = this.#connect();
        await this.#ask(kind, connection, slug, fields);
        connection.leave();
        await sleep(50);
    }

    // ---- clients

    /** One small request after the other on a connection that is kept. */
    async quick(state) {
        const { random } = state;
        state.connection ??= this.#connect();
        const slug = random.pick(['echo', 'plain', 'plain', 'prompted']);
        const kept = await this.#ask('quick', state.connection, slug,
                                     { expect: ['ok'], echoes: true });
        if (!kept || random.chance(0.01)) {
            state.connection.leave();
            state.connection = null;
        }
        await sleep(random.between(0, 30));
    }

    /** A connection for each request. */
    async fresh({ random }) {
        const connection = this.#connect();
        await this.#ask('fresh', connection, random.pick(['echo', 'plain']),
                        { expect: ['ok'], echoes: true });
        connection.leave();
        await sleep(random.between(0, 60));
    }

    async late({ random }) {
        const connection = this.#connect();
        await this.#ask('late', connection, random.pick(['late', 'late', 'echo-late', 'echo-fails']),
                        { expect: ['ok', 'provider_error'] });
        connection.leave();
    }

    /** The slug in the body, OpenAI's shape. */
    async dispatched(state) {
        const { random } = state;
        state.connection ??= this.#connect();
        const slug = random.pick(['echo', 'plain']);
        const request = this.#begin('dispatched', state.connection, slug,
                                    { expect: ['ok'], echoes: true });
        const body = { model: slug, messages: [{ role: 'user', content: request.marker }] };
        await state.connection.send(post(this.#path('chat/completions'), JSON.stringify(body),
                                         this.auth));
        if (!await this.#finish(request, state.connection)) {
            state.connection = null;
        }
        await sleep(random.between(0, 100));
    }

    async bigSender({ random }) {
        const connection = this.#connect();
        const more = 'y'.repeat(random.between(1 << 16, 6 << 20));
        await this.#ask('big', connection, random.pick(['echo', 'plain']),
                        { expect: ['ok'], more });
        connection.leave();
        await sleep(random.between(200, 1000));
    }

    async slowSender({ random }) {
        const connection = this.#connect();
        await this.#ask('slow sender', connection, random.pick(['echo', 'plain']), {
            expect: ['ok'], echoes: true, more: 'y'.repeat(random.between(10, 100_000)),
            sending: { pieces: random.between(2, 40), pause: random.between(1, 50) },
        });
        connection.leave();
    }

    /** Takes megabytes in small sips. */
    async slowReader({ random }) {
        const connection = this.#connect();
        connection.pace = random.between(5, 30);
        await this.#ask('slow reader', connection, 'big', { expect: ['ok'], echoes: true });
        connection.leave();
        await sleep(random.between(100, 500));
    }

    /** Two requests at once on one connection. Told to close after the first answer, it can't
     * know what became of the second. */
    async pipelined({ random }) {
        const connection = this.#connect();
        const both = ['echo', 'plain'].map((slug) => {
            const request = this.#begin('pipelined', connection, slug, { expect: ['ok'], echoes: true });
            return { request, bytes: post(this.#path(slug), this.#body(request), this.auth) };
        });
        await connection.send(Buffer.concat(both.map(({ bytes }) => bytes)));
        for (const { request } of both) {
            Object.assign(request, connection.closing ? { row: 'may', leaves: true } : {});
            await this.#finish(request, connection);
        }
        connection.leave();
        await sleep(random.between(50, 200));
    }

    async malformed({ random }) {
        const connection = this.#connect();
        const { kind, row, expect, bytes, endpoint = 'plain' } = random.pick(MALFORMED);
        const request = this.#begin(kind, connection, endpoint, { row, expect });
        await connection.send(bytes({ path: this.#path('plain'), auth: this.auth,
                                      message: request.marker }));
        await this.#finish(request, connection);
        connection.leave();
        await sleep(random.between(10, 100));
    }

    /** Upstreams that fail and lie: whatever the answer is, the row must say the same. */
    async lied({ random }) {
        const connection = this.#connect();
        await this.#ask('lied', connection, SLUG_OF_LIE(random.pick(LIES)));
        connection.leave();
        await sleep(random.between(0, 50));
    }

    /** Whatever the first target does, the second one answers. */
    async chained({ random }) {
        const connection = this.#connect();
        await this.#ask('chained', connection, SLUG_OF_CHAIN(random.pick(LIES)),
                        { expect: ['ok', 'provider_rejected'], mostCalls: 3 });
        connection.leave();
        await sleep(random.between(0, 50));
    }

    /** An answer that fits its schema at once, or when the model was told what is wrong, or never. */
    async fitting({ random }) {
        const connection = this.#connect();
        await this.#ask('fitting', connection, 'fitting', { expect: ['ok', 'output_invalid'], mostCalls: 3 });
        connection.leave();
        await sleep(random.between(0, 50));
    }

    /** The model calls a tool, and gets its result. */
    async tooled({ random }) {
        const connection = this.#connect();
        const tools = [{ type: 'function', function: { name: 'look_up', parameters: { type: 'object' } } }];
        const request = this.#begin('tooled', connection, 'tools', { expect: ['ok'], echoes: true });
        const asked = [{ role: 'user', content: request.marker }];
        const call = { id: 'call_1', type: 'function', function: { name: 'look_up', arguments: '{}' } };
        const messages = random.chance(0.5) ? asked
            : [...asked, { role: 'assistant', content: null, tool_calls: [call] },
               { role: 'tool', tool_call_id: 'call_1', content: 'nothing' }];
        await connection.send(post(this.#path('chat/completions'), JSON.stringify({ model: 'tools', messages, tools }), this.auth));
        await this.#finish(request, connection);
        connection.leave();
        await sleep(random.between(0, 50));
    }

    /** Its budget is soon used up, and stays as it is. */
    async capped({ random }) {
        const connection = this.#connect();
        await this.#ask('capped', connection, 'capped', { expect: ['ok', 'budget_exceeded'] });
        connection.leave();
        await sleep(random.between(0, 100));
    }

    /** Of its two providers one may be away at any time. */
    async flapping({ random }) {
        const connection = this.#connect();
        await this.#ask('flapping', connection, 'flap', { expect: ['ok'], echoes: true, mostCalls: 3 });
        connection.leave();
        await sleep(random.between(0, 50));
    }

    /** One conversation after the other: each answer tells how much of it there was. */
    async talking(state) {
        const { random } = state;
        state.talk ??= new Talk(this.wrong, { keyed: random.chance(0.5) });
        const connection = this.#connect();
        const expect = ['ok', 'session_busy', 'sessions_unavailable', ...(state.talk.keyed ? ['replayed', 'idempotency_in_progress'] : [])];
        const marker = `m-${++this.#markers}-`;
        const { body, headers, said } = state.talk.next(marker);
        const request = this.#begin('talking', connection, 'talk', { expect, marker, said });
        try {
            await connection.send(post(this.#path('talk'), body, { ...headers, ...this.auth }));
            const answer = await connection.answer();
            request.answered(answer);
            state.talk.answered(request.outcome, answer);
        } catch (error) {
            if (!(error instanceof Broken)) {
                throw error;
            }
            request.broke(error.message, error.id);
            state.talk.broke();
        }
        connection.leave();
        await sleep(random.between(0, 50));
    }

    /** Goes away in any phase, by FIN or by RST. What a reset leaves unread is lost: such a
     * request may have its row or not. */
    async leaver({ random }) {
        const connection = this.#connect();
        const phase = random.pick(['connected', 'in the head', 'in the body', 'waiting', 'half closed',
                                   'reading']);
        const how = random.pick(['close', 'reset']);
        const slug = phase === 'reading' ? 'big' : 'late';
        const request = this.#begin(`leaver ${phase}, ${how}`, connection, slug,
                                    { row: 'may', leaves: true });
        const bytes = post(this.#path(slug), this.#body(request, 'z'.repeat(2000)), this.auth);
        const head = bytes.indexOf('\r\n\r\n') + 4;
        await connection.connected;
        if (phase === 'connected') {
            request.row = 'never';
        } else if (phase === 'in the head') {
            request.row = 'never';
            await connection.send(bytes.subarray(0, random.between(1, head - 2)));
        } else if (phase === 'in the body') {
            await connection.send(bytes.subarray(0, random.between(head, bytes.length - 1)));
        } else {
            await connection.send(bytes);
        }
        if (phase === 'reading') {
            const read = random.between(1, 2 << 20);
            connection.pace = 1;
            await connection.bytes(read).catch(() => {});
        } else {
            await sleep(random.between(0, 150));
        }
        // All of it was read long ago unless the worker was busy: a FIN behind it loses nothing.
        if (request.row === 'may' && (how === 'close' || phase === 'half closed')) {
            request.row = phase === 'reading' ? 'may' : 'must';
        }
        if (phase === 'half closed') {
            connection.leave('fin');
            await this.#finish(request, connection);
            return;
        }
        connection.leave(how);
        request.broke('left');
    }

    /** A stream by OpenAI's own client, read to its end or left in the middle. */
    async streamed({ random }) {
        const slug = random.pick(['echo', 'stream', 'stream', 'stream', 'stream-cut']);
        const leaves = slug === 'stream' && random.chance(0.2);
        const request = this.#begin(`streamed${leaves ? ', left' : ''}`, { ip: '127.0.0.1' }, slug,
                                    leaves ? { leaves } : { expect: [slug === 'stream-cut' ? 'provider_bad_response' : 'ok'], echoes: true });
        const client = new OpenAI({ baseURL: this.gateway.api, apiKey: this.gateway.token, maxRetries: 0 });
        let text = '';
        let id;
        const tell = (json, status = 200) =>
            request.answered({ status, id, text, json: { ...json, meta: { request_id: id } } });
        try {
            const { data, response } = await client.chat.completions.create({
                model: slug, stream: true, messages: [{ role: 'user', content: request.marker }] }).withResponse();
            id = response.headers.get('x-request-id');
            for await (const { choices: [choice] } of data) {
                text += choice?.delta.content ?? '';
                if (leaves && text.length > 60) {
                    break;
                }
            }
            leaves ? request.broke('left', id) : tell({});
        } catch (error) {
            // An error event has no status of its own; a connection that breaks has no code.
            if (error.requestID) {
                id = error.requestID;
                tell({ error: error.error }, error.status);
            } else if (error.code && id) {
                tell({ error: { code: error.code } });
            } else {
                request.broke(`${error.message}: ${error.cause?.message}`, id);
            }
        }
        await sleep(random.between(0, 50));
    }

    /** OpenAI's own client over the runtime's own fetch; only the request id is looked at on the
     * way. All of them come from 127.0.0.1. */
    async sdk(state) {
        const { random } = state;
        const slug = random.pick(['echo', 'plain', 'late', 'lie-status-400']);
        const request = this.#begin('sdk', { ip: '127.0.0.1' }, slug,
                                    { expect: ['ok', 'provider_rejected'] });
        const client = new OpenAI({ baseURL: this.gateway.api, apiKey: this.gateway.token,
                                    maxRetries: 0 });
        const messages = [{ role: 'user', content: request.marker }];
        try {
            const { data, response } =
                await client.chat.completions.create({ model: slug, messages }).withResponse();
            request.answered({ status: response.status, id: response.headers.get('x-request-id'),
                               text: JSON.stringify(data), json: data });
        } catch (error) {
            if (error instanceof OpenAI.APIConnectionError || error.status === undefined) {
                request.broke(`${error.message}: ${error.cause?.message}`);
            } else {
                const meta = { request_id: error.requestID }; // the SDK keeps only `error`
                request.answered({ status: error.status, id: error.requestID, text: '',
                                   json: { error: error.error, meta } });
            }
        }
        await sleep(random.between(0, 100));
    }
}
