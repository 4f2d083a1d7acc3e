// The upstream of a soak run: everything the mock of the end-to-end tests can do, chosen by model,
// and answers that repeat the marker of the request. It keeps nothing but counts.
import http from 'node:http';

import { behaviours, completion } from '../e2e/mock.mjs';

const BIG_BYTES = 3 << 20;
const MARKER = /m-\d+-/;

function reply(response, body) {
    const bytes = Buffer.from(JSON.stringify(body));
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': bytes.length });
    response.end(bytes);
}

/** Models that are this upstream's own; `text` is the marker. */
const own = {
    'marker': (exchange, text) => reply(exchange.response, completion(exchange.json, text)),
    'marker-late': (exchange, text) =>
        setTimeout(() => reply(exchange.response, completion(exchange.json, text)),
                   100 + Math.random() * 1200),
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

    #take(request, response, body) {
        const text = body.toString('latin1');
        // The marker may stand behind a prompt; the model is a member of its own.
        const marker = MARKER.exec(text)?.[0] ?? `no marker in: ${text.slice(0, 200)}`;
        const model = /"model":"([^"]*)"/.exec(text)?.[1];
        const exchange = { method: request.method, path: request.url, headers: request.headers,
                           json: { model }, response, socket: request.socket };
        this.calls++;
        this.onCall(marker);
        (own[model] ?? behaviours[model])(exchange, marker);
    }

    async stop() {
        this.server.closeAllConnections();
        await new Promise((resolve) => this.server.close(resolve));
    }
}
