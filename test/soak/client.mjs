// An HTTP/1.1 client that can be as slow and as rude as a test needs it.
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** 127.1.0.1 and on: sixteen million addresses, all of them this host's. */
export class Addresses {
    #used = 0;

    next() {
        const n = this.#used++;
        return `127.${1 + Math.floor(n / 65024) % 254}.${Math.floor(n / 254) % 256}.${1 + n % 254}`;
    }
}

export class Broken extends Error {}

function parseHead(text) {
    const [first, ...lines] = text.split('\r\n');
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(first)?.[1]);
    if (!status) {
        throw new Broken(`not an answer: ${first.slice(0, 100)}`);
    }
    const headers = Object.fromEntries(lines.map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }));
    return { status, headers, length: Number(headers['content-length'] ?? NaN) };
}

export class Connection {
    #chunks = [];
    #bytes = 0;
    #ended = null; // why nothing more will come
    #wake = () => {};

    /** Connects to 127.0.0.1:port from the address `ip`. */
    constructor(port, ip) {
        this.ip = ip;
        this.pace = 0;
        this.socket = net.connect({ port, host: '127.0.0.1', localAddress: ip, allowHalfOpen: true,
                                    noDelay: true });
        /** Resolves once connected, or once that has failed. */
        this.connected = new Promise((resolve) => {
            this.socket.once('connect', resolve).once('close', resolve);
        });
        this.socket.on('data', (chunk) => this.#take(chunk));
        this.socket.on('end', () => this.#end('the peer ended the connection'));
        this.socket.on('error', (error) => this.#end(error.code));
        this.socket.on('close', () => this.#end('closed'));
    }

    #take(chunk) {
        this.#chunks.push(chunk);
        this.#bytes += chunk.length;
        if (this.pace > 0) {
            this.socket.pause();
            setTimeout(() => this.socket.resume(), this.pace);
        }
        this.#wake();
    }

    #end(reason) {
        this.overSince ??= performance.now();
        this.#ended ??= reason;
        this.#wake();
    }

    get over() {
        return this.#ended !== null;
    }

    async #more(deadline) {
        if (this.#ended) {
            throw new Broken(this.#ended);
        }
        const left = deadline - performance.now();
        if (left <= 0) {
            throw new Broken('no answer in time');
        }
        let timer;
        await new Promise((resolve) => {
            this.#wake = resolve;
            timer = setTimeout(resolve, left);
        });
        clearTimeout(timer);
    }

    /** Sends the bytes; `pieces` > 1 cuts them and pauses `pause` ms between. */
    async send(bytes, { pieces = 1, pause = 0 } = {}) {
        const size = Math.ceil(bytes.length / pieces);
        for (let at = 0; at < bytes.length && !this.over; at += size) {
            this.socket.write(bytes.subarray(at, at + size));
            if (pause > 0) {
                await sleep(pause);
            }
        }
    }

    /** Waits until `count` bytes of what was not yet taken are there. */
    async bytes(count, seconds = 15) {
        const deadline = performance.now() + seconds * 1000;
        while (this.#bytes < count) {
            await this.#more(deadline);
        }
    }

    /** The next answer: { status, id, headers, text, json }. Throws Broken, with `id` when the head
     * had come. */
    async answer(seconds = 20) {
        const deadline = performance.now() + seconds * 1000;
        let head = null;
        let cut = -1;
        try {
            for (;;) {
                if (this.#chunks.length > 1 && (!head || this.#bytes >= cut + head.length)) {
                    this.#chunks = [Buffer.concat(this.#chunks)];
                }
                if (!head && this.#chunks.length > 0) {
                    const end = this.#chunks[0].indexOf('\r\n\r\n');
                    head = end < 0 ? null : parseHead(this.#chunks[0].toString('latin1', 0, end));
                    cut = end + 4;
                }
                if (head && this.#bytes >= cut + head.length) {
                    return this.#cutOff(head, cut);
                }
                await this.#more(deadline);
            }
        } catch (error) {
            error.id = head?.headers['x-request-id'];
            throw error;
        }
    }

    #cutOff(head, cut) {
        const [all] = this.#chunks.length === 1 ? this.#chunks : [Buffer.concat(this.#chunks)];
        const end = cut + head.length;
        this.#chunks = end < all.length ? [all.subarray(end)] : [];
        this.#bytes = all.length - end;
        const text = all.toString('utf8', cut, end);
        let json;
        try {
            json = JSON.parse(text);
        } catch {
            json = undefined;
        }
        if (head.headers.connection?.toLowerCase() === 'close') {
            this.socket.end();
            this.closing = true;
        }
        return { status: head.status, headers: head.headers, id: head.headers['x-request-id'], text,
                 json };
    }

    /** 'fin' ends our side and reads on, 'close' ends both, 'reset' breaks the connection. */
    leave(how = 'close') {
        if (how === 'reset') {
            this.socket.resetAndDestroy();
        } else if (how === 'fin') {
            this.socket.end();
        } else {
            this.socket.destroy();
        }
    }
}

/** The bytes of a request. */
export function post(path, body, headers = {}) {
    const content = Buffer.isBuffer(body) ? body : Buffer.from(body);
    const lines = Object.entries({ 'Host': 'localhost', 'Content-Type': 'application/json',
                                   'Content-Length': content.length, ...headers })
        .filter(([, value]) => value !== null).map(([name, value]) => `${name}: ${value}\r\n`);
    return Buffer.concat([Buffer.from(`POST ${path} HTTP/1.1\r\n${lines.join('')}\r\n`), content]);
}
