// The upstream of a soak run: everything the mock of the end-to-end tests can do, chosen by model,
// and answers that repeat the marker of the request. It keeps nothing but counts.
import http from 'node:http';

import { behaviours, completion } from '../e2e/mock.mjs';

const BIG_BYTES = 3 << 20;
const MARKERS = /m-\d+-/g; // the last one is the request's own: others stand in its history

function reply(response, body) {
    const bytes = Buffer.from(JSON.stringify(body));
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': bytes.length });
    response.end(bytes);
}

/** A stream in pieces with pauses, `cut` before its end or not. */
function stream(exchange, text, { cut = false } = {}) {
    const { response } = exchange;
    const event = (delta, finish = null, more = {}) => `data: ${JSON.stringify({
        id: 'chatcmpl-s1', object: 'chat.completion.chunk', created: 1795000000, model: exchange.json.model,
        choices: delta ? [{ index: 0, delta, finish_reason: finish }] : [], ...more })}\n\n`;
    const events = [event({ role: 'assistant', content: '' }), ...[text, ...Array(20).fill(' and more')].map((content) => event({ content })),
                    ...(cut ? [] : [event({}, 'stop'), event(null, null, { usage: { prompt_tokens: 9, completion_tokens: 21, total_tokens: 30 } }), 'data: [DONE]\n\n'])];
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const next = () => {
        if (response.destroyed) {
            return;
        }
        response.write(events.shift());
        if (events.length === 0) {
            response.end();
        } else {
            setTimeout(next, Math.random() * 60);
        }
    };
    next();
}

/** An answer that calls a tool with the marker. */
function toolCall(json, text) {
    const answer = completion(json, null);
    const call = { id: 'call_1', type: 'function', function: { name: 'look_up', arguments: JSON.stringify({ of: text }) } };
    answer.choices[0].message.tool_calls = [call];
    answer.choices[0].finish_reason = 'tool_calls';
    return answer;
}

/** Models that are this upstream's own; `text` is the marker. */
const own = {
    'marker': (exchange, text) => reply(exchange.response, completion(exchange.json, text)),
    'marker-late': (exchange, text) =>
        setTimeout(() => reply(exchange.response, completion(exchange.json, text)),
                   100 + Math.random() * 1200),
    'marker-stream': (exchange, text) => stream(exchange, text),
    'marker-stream-cut': (exchange, text) => stream(exchange, text, { cut: true }),
    'marker-fitting': (exchange, text) =>
        reply(exchange.response, completion(exchange.json, JSON.stringify(Math.random() < 0.5 ? { said: text } : { said: 7 }))),
    'marker-tools': (exchange, text) => reply(exchange.response, toolCall(exchange.json, text)),
    'marker-talk': (exchange, text) => reply(exchange.response, completion(exchange.json, `${text} ${exchange.messages}`)),
    'marker-big': (exchange, text) =>
        reply(exchange.response, completion(exchange.json, `${text} ${'x'.repeat(BIG_BYTES)}`)),
};

/** Lies and failures that end by themselves or by the endpoint's time limit: not what a test holds. */
export const LIES = Object.keys(behaviours).filter((name) => name !== 'held');

export class Upstream {
    calls = 0;
    connections = 0;

    /** `onCall(marker)` is told of each request, when it is whole. */
    constructor(onCall) {
        this.onCall = onCall;
    }

    async start() {
        this.server = http.createServer({ keepAliveTimeout: 600_000, requestTimeout: 0 },
                                        (request, response) => {
            const chunks = [];
            request.on('data', (chunk) => chunks.push(chunk));
            request.on('error', () => {});
            response.on('error', () => {});
            request.on('end', () => this.#take(request, response, Buffer.concat(chunks)));
        });
        this.server.on('connection', (socket) => {
            this.connections++;
            socket.on('error', () => {});
            socket.on('close', () => this.connections--);
        });
        await new Promise((resolve) => this.server.listen(0, '127.0.0.1', 4096, resolve));
        this.baseUrl = `http://127.0.0.1:${this.server.address().port}/v1`;
        return this;
    }

    /** Nobody can connect; who is connected is cut off, or not. */
    async goAway(cutting) {
        this.port = this.server.address().port;
        const closed = new Promise((resolve) => this.server.close(resolve));
        this.server.closeIdleConnections();
        if (cutting) {
            this.server.closeAllConnections();
        }
        this.closed = closed;
    }

    async comeBack() {
        this.server.closeAllConnections();
        await this.closed;
        await new Promise((resolve) => this.server.listen(this.port, '127.0.0.1', 4096, resolve));
    }

    #take(request, response, body) {
        const text = body.toString('latin1');
        // The marker may stand behind a prompt; the model is a member of its own.
        const marker = text.match(MARKERS)?.at(-1) ?? `no marker in: ${text.slice(0, 200)}`;
        const model = /"model":"([^"]*)"/.exec(text)?.[1];
        const exchange = { method: request.method, path: request.url, headers: request.headers,
                           json: { model }, response, socket: request.socket,
                           messages: text.match(/"role":/g)?.length };
        this.calls++;
        this.onCall(marker);
        (own[model] ?? behaviours[model])(exchange, marker);
    }

    async stop() {
        this.server.closeAllConnections();
        await new Promise((resolve) => this.server.close(resolve));
    }
}
