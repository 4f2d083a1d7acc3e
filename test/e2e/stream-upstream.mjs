// An upstream that plays a script: pieces of bytes with pauses between them, and an end that may be
// none. It notes what it is asked, and when its clients leave.
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

/** script: { status, type, pieces, gap (ms between pieces; 0 = all in one write), end, held } with end
 * 'clean', 'cut' (the connection is reset), 'hold' (nothing more comes); the last piece waits for the
 * promise `held`. */
export class StreamUpstream {
    calls = [];
    script = {};

    async start() {
        this.server = http.createServer((request, response) => {
            const chunks = [];
            const call = { path: request.url, headers: request.headers, sent: 0 };
            call.closed = new Promise((resolve) => response.once('close', () => resolve(Date.now())));
            request.on('data', (chunk) => chunks.push(chunk)).on('end', () => {
                call.body = JSON.parse(Buffer.concat(chunks));
                this.calls.push(call);
                this.#play(response, call, this.script).catch((error) => response.destroy(error));
            });
        });
        this.server.on('connection', (socket) => socket.setNoDelay(true).on('error', () => {}));
        await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
        this.server.unref();
        this.base = `http://127.0.0.1:${this.server.address().port}`;
        return this;
    }

    async #play(response, call, script) {
        const { status = 200, type = 'text/event-stream', pieces = [], gap = 0, end = 'clean',
                before = 0, headers = {}, held } = script;
        await sleep(before);
        if (pieces.length > 0 || end === 'clean') {
            response.writeHead(status, { ...(type ? { 'content-type': type } : {}), ...headers });
        }
        for (const piece of gap === 0 ? [Buffer.concat(pieces.map((it) => Buffer.from(it)))] : pieces) {
            if (piece === pieces.at(-1)) {
                await held;
            }
            if (response.destroyed) {
                return;
            }
            if (!response.write(piece)) {
                await new Promise((resolve) => response.once('drain', resolve).once('close', resolve));
            }
            call.sent += piece.length;
            await sleep(gap);
        }
        if (end === 'clean') {
            response.end();
        } else if (end === 'cut') {
            response.socket.resetAndDestroy();
        }
    }

    only() {
        if (this.calls.length !== 1) {
            throw new Error(`${this.calls.length} calls, not one`);
        }
        return this.calls[0];
    }

    play(script) {
        this.calls = [];
        this.script = script;
    }

    stop() {
        this.server.closeAllConnections();
        this.server.close();
    }
}

/** The data of a body of events, with any of the three line ends; comments are left out. */
export function events(text) {
    const told = [];
    let data = [];
    for (const line of [...text.split(/\r\n|\n|\r/), '']) {
        if (line.startsWith('data:')) {
            data.push(line.slice(5).replace(/^ /, ''));
        } else if (line === '' && data.length > 0) {
            told.push(data.join('\n'));
            data = [];
        }
    }
    return told;
}
