// A small OpenAI upstream that can delay, fail, cut and lie. What it does is chosen by the model in
// the request: a name of `behaviours`, else a normal answer. It keeps every request.
import http from 'node:http';
import { gzipSync } from 'node:zlib';

export const KEY = 'sk-mock-5up3r-53cr3t-key';

export function completion(request, content = 'Hello from the mock.') {
    return {
        id: 'chatcmpl-mock-1',
        object: 'chat.completion',
        created: 1700000000,
        model: `${request.model}-2026-01-01`,
        choices: [{ index: 0, message: { role: 'assistant', content, refusal: null },
                    logprobs: null, finish_reason: 'stop' }],
        usage: { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18,
                 prompt_tokens_details: { cached_tokens: 3 },
                 completion_tokens_details: { reasoning_tokens: 2 } },
    };
}

function answer(exchange, body, { status = 200, headers = {} } = {}) {
    const bytes = Buffer.isBuffer(body) ? body
        : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
    exchange.response.writeHead(status, { 'content-type': 'application/json',
                                          'content-length': bytes.length, ...headers });
    exchange.response.end(bytes);
}

function refuse(status, message, { type = 'invalid_request_error', code = null, headers } = {}) {
    return (exchange) => answer(exchange, { error: { message, type, param: null, code } },
                                { status, headers });
}

/** The normal answer without some of its parts. */
function altered(change) {
    return (exchange) => {
        const body = completion(exchange.json);
        answer(exchange, change(body) ?? body);
    };
}

function head(status, lines) {
    return [`HTTP/1.1 ${status}`, ...lines, '', ''].join('\r\n');
}

function whole(exchange) {
    return JSON.stringify(completion(exchange.json));
}

const JSON_TYPE = 'Content-Type: application/json';
const PAGE = '<!doctype html><html><body><h1>Service Unavailable</h1></body></html>';
const MEBIBYTE = Buffer.alloc(1 << 20, 0x20);

/** Sends 100 MiB of white space in front of an answer, as fast as the peer reads. */
function flood(exchange) {
    const { response } = exchange;
    let left = 100;
    response.writeHead(200, { 'content-type': 'application/json' });
    const more = () => {
        while (left-- > 0 && !response.destroyed) {
            exchange.sent = (exchange.sent ?? 0) + MEBIBYTE.length;
            if (!response.write(MEBIBYTE)) {
                response.once('drain', more);
                return;
            }
        }
        response.end(whole(exchange));
    };
    more();
}

/** One header line after the other, without an end. */
function endlessHead(exchange) {
    const { socket } = exchange;
    socket.write('HTTP/1.1 200 OK\r\n');
    const timer = setInterval(() => {
        if (socket.destroyed) {
            clearInterval(timer);
        } else {
            socket.write('X-More: and more\r\n');
        }
    }, 50);
}

export const behaviours = {
    // late
    'delay-300': (exchange) => setTimeout(() => answer(exchange, completion(exchange.json)), 300),
    'delay-1500': (exchange) => setTimeout(() => answer(exchange, completion(exchange.json)), 1500),
    'never-answers': () => {},
    'held': (exchange) => exchange.held(() => answer(exchange, completion(exchange.json))),
    'never-ends-head': (exchange) => exchange.socket.write('HTTP/1.1 200 OK\r\nX-Slow: yes\r\n'),
    'endless-head': endlessHead,
    'never-ends-body': (exchange) => exchange.socket.write(
        head('200 OK', [JSON_TYPE, 'Content-Length: 4096']) + whole(exchange).slice(0, 40)),
    // refusals
    'status-400': refuse(400, 'Unsupported value: this model wants other messages.'),
    'status-413': refuse(413, 'Request too large for this model.'),
    'status-422': refuse(422, 'Unprocessable: the parameter is wrong.'),
    'status-401': refuse(401, `Incorrect API key provided: ${KEY}.`, { code: 'invalid_api_key' }),
    'status-403': refuse(403, 'Country not supported.'),
    'status-404': refuse(404, 'The model does not exist.', { code: 'model_not_found' }),
    'status-429': refuse(429, 'Rate limit reached.',
                         { type: 'requests', code: 'rate_limit_exceeded',
                           headers: { 'retry-after': '20' } }),
    'status-500': refuse(500, 'The server had an error.', { type: 'server_error' }),
    'status-503': refuse(503, 'Overloaded.', { type: 'server_error' }),
    'never-again': refuse(500, 'Broken for good.', { headers: { 'x-should-retry': 'false', 'retry-after': '5' } }),
    'not-our-fault': refuse(400, 'Busy.', { headers: { 'x-should-retry': 'true' } }),
    'page-503': (exchange) => answer(exchange, PAGE, { status: 503,
                                                       headers: { 'content-type': 'text/html' } }),
    'page-200': (exchange) => answer(exchange, PAGE, { headers: { 'content-type': 'text/html' } }),
    'redirects': (exchange) => answer(exchange, '', { status: 302,
                                                      headers: { location: '/must-never-be-hit' } }),
    // broken connections
    'closes': (exchange) => exchange.socket.end(),
    'resets': (exchange) => exchange.socket.resetAndDestroy(),
    'cuts-length': (exchange) => exchange.socket.end(
        head('200 OK', [JSON_TYPE, `Content-Length: ${whole(exchange).length + 100}`]) + whole(exchange)),
    'cuts-chunked': (exchange) => exchange.socket.end(
        head('200 OK', [JSON_TYPE, 'Transfer-Encoding: chunked']) +
        `${whole(exchange).length.toString(16)}\r\n${whole(exchange)}\r\n`),
    'resets-in-body': (exchange) => {
        exchange.socket.write(head('200 OK', [JSON_TYPE, 'Content-Length: 4096']) + '{"id":');
        setTimeout(() => exchange.socket.resetAndDestroy(), 50);
    },
    'short-length': (exchange) => exchange.socket.end(
        head('200 OK', [JSON_TYPE, 'Content-Length: 25']) + whole(exchange)),
    'not-http': (exchange) => exchange.socket.end('SSH-2.0-OpenSSH_9.2\r\n'),
    // wrong content
    'floods': flood,
    'malformed': (exchange) => answer(exchange, '{"id":"x","choices":[{]}'),
    'empty': (exchange) => answer(exchange, ''),
    'duplicate-keys': (exchange) => answer(exchange, whole(exchange).replace('{', '{"id":"a",')),
    'not-an-object': (exchange) => answer(exchange, '["choices"]'),
    'no-choices': altered((body) => {
        delete body.choices;
    }),
    'empty-choices': altered((body) => {
        body.choices = [];
    }),
    'no-message': altered((body) => {
        delete body.choices[0].message;
    }),
    'content-is-a-number': altered((body) => {
        body.choices[0].message.content = 42;
    }),
    'error-with-200': (exchange) => answer(exchange, { error: { message: 'Broken inside.' } }),
    'gzip': (exchange) => answer(exchange, gzipSync(whole(exchange)),
                                 { headers: { 'content-encoding': 'gzip' } }),
    'no-content': altered((body) => {
        delete body.choices[0].message.content;
    }),
    // odd, and still right
    'content-null': altered((body) => {
        body.choices[0].message.content = null;
    }),
    'tool-calls': altered((body) => {
        body.choices[0].message.content = null;
        body.choices[0].message.tool_calls = [{ id: 'call_1', type: 'function',
                                                function: { name: 'f', arguments: '{"a": 1}' } }];
        body.choices[0].finish_reason = 'tool_calls';
    }),
    'length': altered((body) => {
        body.choices[0].finish_reason = 'length';
    }),
    'no-usage': altered((body) => {
        delete body.usage;
    }),
    'usage-null': altered((body) => {
        body.usage = { prompt_tokens: null, completion_tokens: 5, total_tokens: null };
    }),
    'unknown-members': altered((body) => {
        body.choices[0].message.annotations = [];
        body.service_tier = 'default';
        body.x_new = { deep: [1, { a: null }] };
    }),
    'early-hints': (exchange) => {
        exchange.response.writeEarlyHints({ link: '</x>; rel=preload' });
        answer(exchange, completion(exchange.json));
    },
    'chunked-bytewise': (exchange) => exchange.socket.end(
        head('200 OK', [JSON_TYPE, 'Transfer-Encoding: chunked', 'Connection: close']) +
        [...whole(exchange)].map((byte) => `1\r\n${byte}\r\n`).join('') + '0\r\n\r\n'),
    'no-length': (exchange) => exchange.socket.end(head('200 OK', [JSON_TYPE, 'Connection: close']) +
                                                   whole(exchange)),
    'big-answer': (exchange) => answer(exchange, completion(exchange.json, 'x'.repeat(1 << 20))),
    'foreign-text': (exchange) => answer(exchange, completion(exchange.json,
                                                              'Grüße \u{1F600} "quoted"\n\u0001 {{input}}')),
};

export class Mock {
    requests = [];
    holding = []; // what answers those who asked for `held`

    async start() {
        this.server = http.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
            const chunks = [];
            request.on('data', (chunk) => chunks.push(chunk));
            request.on('end', () => this.#take(request, response, Buffer.concat(chunks)));
        });
        this.server.on('connection', (socket) => {
            this.connections = (this.connections ?? 0) + 1;
            socket.on('error', () => {});
        });
        await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
        this.server.unref(); // or a failed test would never end
        this.port = this.server.address().port;
        this.baseUrl = `http://127.0.0.1:${this.port}/v1`;
        return this;
    }

    #take(request, response, body) {
        const exchange = { method: request.method, path: request.url, headers: request.headers,
                           rawHeaders: request.rawHeaders, body, response, socket: request.socket,
                           held: (go) => this.holding.push(go) };
        try {
            exchange.json = JSON.parse(body);
        } catch {
            exchange.json = {};
        }
        this.requests.push(exchange);
        const behaviour = behaviours[exchange.json.model] ??
            ((it) => answer(it, completion(it.json)));
        behaviour(exchange);
    }

    /** The last request, which must be the only one since `clear`. */
    only() {
        if (this.requests.length !== 1) {
            throw new Error(`${this.requests.length} requests came to the mock, not one`);
        }
        return this.requests[0];
    }

    /** Answers those who asked for `held` until now. */
    release() {
        this.holding.splice(0).forEach((go) => go());
    }

    clear() {
        this.requests = [];
    }

    async stop() {
        this.server.closeAllConnections();
        await new Promise((resolve) => this.server.close(resolve));
    }
}

export async function startMock() {
    return new Mock().start();
}

/** credentials.d entry that leads to the mock. */
export function mockCredential(mock) {
    return { provider: 'openai', base_url: mock.baseUrl, api_key: KEY };
}
