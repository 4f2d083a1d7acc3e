// Starts real gateways for the tests: a temporary directory each, port 0, everything stopped by pid
// and removed at the end, also when a test fails.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { openStore, POSTGRES, sharedServer } from './database.mjs';
import { children, lives, look } from './proc.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
export const PROMPTGATE = process.env.PROMPTGATE ?? path.join(root, 'build/promptgate');
export const LOAD = process.env.LOAD ?? path.join(path.dirname(PROMPTGATE), 'load');
export const SANITIZE = Boolean(process.env.SANITIZE);
export const PROJECT_ID = '0192f0c1-7e7a-7cc3-98c4-dc0c0c07398f';
export const OTHER_ID = '0192f0c1-7e7a-7cc3-98c4-dc0c0c073990';
export const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

// Sanitized code is several times slower; deadlines stretch, promises do not.
export const PATIENCE = SANITIZE ? 4 : 1;

/** Calls `probe` until it returns something true, and returns that. The time is a limit for what is
 * broken; what is slow may take it. */
export async function until(what, probe, seconds = 60) {
    const deadline = Date.now() + seconds * 1000 * PATIENCE;
    for (;;) {
        const found = await probe();
        if (found) {
            return found;
        }
        if (Date.now() > deadline) {
            throw new Error(`waited ${seconds * PATIENCE} s in vain: ${what}`);
        }
        await sleep(20);
    }
}

// ---- configuration files

function scalar(value) {
    if (typeof value !== 'string') {
        return String(value);
    }
    const looksPlain = /^[A-Za-z0-9/_][\w./:%+-]*$/.test(value) && !value.endsWith(':');
    const meansElse = /^(true|false|null|~|[\d.+-][\d.eE+-]*)$/.test(value);
    return looksPlain && !meansElse ? value : JSON.stringify(value);
}

/** Block-style YAML of plain objects, arrays and scalars. */
export function yaml(value, indent = '') {
    if (value === null || typeof value !== 'object') {
        return scalar(value);
    }
    const isList = Array.isArray(value);
    const entries = isList ? value.map((item) => ['-', item]) : Object.entries(value);
    if (entries.length === 0) {
        return isList ? '[]' : '{}';
    }
    return entries.map(([key, item]) => {
        const nested = item !== null && typeof item === 'object' && Object.keys(item).length > 0;
        const head = isList ? `${indent}-` : `${indent}${scalar(key)}:`;
        return nested ? `${head}\n${yaml(item, `${indent}  `)}` : `${head} ${yaml(item)}`;
    }).join('\n');
}

export function hashOf(token) {
    return `sha256:${createHash('sha256').update(token).digest('hex')}`;
}

/** A token made here and not by the command line: for cases that `token create` does not offer. */
export function makeToken(fields = {}) {
    const token = `pg_live_${randomBytes(32).toString('base64url')}`;
    return {
        token,
        entry: { project: 'demo', hash: hashOf(token), prefix: token.slice(0, 12), scopes: ['chat'],
                 ...fields },
    };
}

/** A new directory that goes when this test file ends. */
export function temporaryDirectory() {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'promptgate-e2e-'));
    atExit.push(() => fs.rmSync(directory, { recursive: true, force: true }));
    return directory;
}

/** A directory of a name for runtime_dir, in memory where that can be had, as a service has it: the
 * workers' heartbeats must not wait for a disk. */
function makeRuntimeDirectory(place) {
    const memory = '/dev/shm';
    const { bavail, bsize } = fs.existsSync(memory) ? fs.statfsSync(memory) : { bavail: 0, bsize: 0 };
    if (bavail * bsize < 2 ** 29) {
        fs.mkdirSync(place);
        return;
    }
    const directory = fs.mkdtempSync(path.join(memory, 'promptgate-e2e-'));
    atExit.push(() => fs.rmSync(directory, { recursive: true, force: true }));
    fs.chmodSync(directory, 0o755);
    fs.mkdirSync(path.join(directory, 'run'));
    fs.symlinkSync(path.join(directory, 'run'), place);
}

/** Writes { 'projects.d/demo.yaml': object or text } below `directory`. */
export function writeFiles(directory, files) {
    for (const [name, content] of Object.entries(files)) {
        const file = path.join(directory, name);
        fs.mkdirSync(path.dirname(file), { recursive: true });
        fs.writeFileSync(file, typeof content === 'string' ? content : `${yaml(content)}\n`,
                         { mode: 0o600 });
    }
}

const databases = new Map(); // of gateways, by their directories

/** The store of the gateway in a directory: a path, or a PostgresDatabase. */
export function databaseOf(directory) {
    if (!POSTGRES) {
        return path.join(directory, 'state/promptgate.db');
    }
    if (!databases.has(directory)) {
        databases.set(directory, sharedServer().createDatabase());
    }
    return databases.get(directory);
}

/** The same when it is asked for again. */
function storeOf(directory) {
    const database = databaseOf(directory);
    return POSTGRES ? { driver: 'postgres', dsn: database.dsn } : { driver: 'sqlite', path: database };
}

/** The files of a configuration: `service` is laid over promptgate.yaml's, section by section;
 * `files` are others, by name. */
export function configFiles(directory, { service = {}, credentials = {}, projects, tokens = {},
                                         files: others = {}, workers = 2 }) {
    const base = {
        listen: '127.0.0.1:0',
        workers,
        state_dir: path.join(directory, 'state'),
        runtime_dir: path.join(directory, 'run'),
        store: storeOf(directory),
    };
    const files = { ...others, 'promptgate.yaml': { ...base, ...service } };
    for (const [folder, entries] of Object.entries({ credentials, projects, tokens })) {
        for (const [name, content] of Object.entries(entries)) {
            files[`${folder}.d/${name}.yaml`] = content;
        }
    }
    return files;
}

/** A project `demo` with these endpoints. */
export function demo(endpoints, fields = {}) {
    return { demo: { id: PROJECT_ID, name: 'Demo', ...fields, endpoints } };
}

// ---- processes

const atExit = [];
const started = new Set();

function endEverything() {
    for (const gateway of started) {
        gateway.children();
        for (const member of gateway.family.values()) {
            if (lives(member)) {
                process.kill(member.pid, 'SIGKILL');
            }
        }
    }
    for (const end of atExit.reverse()) {
        end();
    }
}
process.on('exit', endEverything);
for (const [signal, status] of [['SIGTERM', 143], ['SIGINT', 130]]) {
    process.on(signal, () => process.exit(status));
}

/** Runs a subcommand to its end: { status, stdout, stderr }. The last argument may be options of
 * execFile, and `input`, what comes on standard input. */
export function run(...args) {
    const options = typeof args.at(-1) === 'object' ? args.pop() : {};
    return new Promise((resolve, reject) => {
        const child = execFile(PROMPTGATE, args, { timeout: 60_000 * PATIENCE, ...options },
                               (error, stdout, stderr) => {
            if (error && typeof error.code !== 'number') {
                reject(error);
            } else {
                resolve({ status: error ? error.code : 0, stdout, stderr });
            }
        });
        child.stdin?.on('error', () => {}).end(options.input);
    });
}

/** A token of `project`, by `promptgate token create`. */
export async function createToken(config, project = 'demo', ...more) {
    const made = await run('token', 'create', '--config', config, '--project', project, ...more);
    assert.equal(made.status, 0, made.stderr);
    const token = /pg_live_[A-Za-z0-9_-]{43}/.exec(made.stdout);
    assert.ok(token, `no token in: ${made.stdout}`);
    return token[0];
}

class Gateway {
    constructor(directory, { ownGroup = false, launcher = [], binary = PROMPTGATE } = {}) {
        this.directory = directory;
        this.config = path.join(directory, 'etc');
        this.database = databaseOf(directory);
        this.ownGroup = ownGroup;
        this.env = {};
        this.launcher = launcher;
        this.binary = binary;
    }

    /** Starts `serve`, also again after stop, and waits until it is ready. */
    async restart() {
        const [command, ...args] = [...this.launcher, this.binary, 'serve', '--config', this.config];
        const child = spawn(command, args,
                            { stdio: ['ignore', 'pipe', 'pipe'], detached: this.ownGroup,
                              env: { ...process.env, ...this.env } });
        this.child = child;
        this.pid = child.pid;
        started.add(this);
        this.stderr = '';
        this.family = new Map(); // every process of this gateway that was ever seen, by pid
        this.exited = new Promise((resolve) => {
            child.once('exit', (code, signal) => resolve({ code, signal }));
        });
        // A gateway that a failed test left behind must not keep this process: it would never get
        // to end it.
        child.unref();
        child.stdout.unref();
        child.stderr.unref();
        child.stderr.setEncoding('utf8').on('data', (text) => {
            this.stderr += text;
        });
        child.stdout.resume();
        await this.#ready();
    }

    async #ready() {
        const exited = this.exited.then((end) => {
            throw new Error(`serve ended (${JSON.stringify(end)}) before it was ready:\n${this.stderr}`);
        });
        const ready = until(`ready line; stderr so far:\n${this.stderr}`, () =>
            /promptgate ready/.test(this.stderr) &&
            /listening on 127\.0\.0\.1:(\d+)/.exec(this.stderr));
        exited.catch(() => {});
        this.port = Number((await Promise.race([ready, exited]))[1]);
        this.base = `http://127.0.0.1:${this.port}`;
        this.api = `${this.base}/api/${PROJECT_ID}`;
        // No connection is kept: it would keep this generation's worker through a reload.
        const answer = await fetch(`${this.base}/readyz`, { headers: { connection: 'close' } });
        await answer.arrayBuffer();
        assert.equal(answer.status, 200);
        this.children();
    }

    /** Has the binary that is there now take over, by the command line: the gateway is that one
     * then. Returns { status, stdout, stderr }. */
    async upgrade() {
        this.children();
        const said = await run('upgrade', '--config', this.config);
        if (said.status === 0) {
            this.follow(Number(/^process (\d+)/.exec(said.stdout)[1]));
        }
        return said;
    }

    /** This process, no child of ours, is the gateway's master from here on. */
    follow(pid) {
        const master = look(pid);
        this.pid = pid;
        this.children();
        this.exited = (async () => {
            while (lives(master)) {
                await sleep(20, undefined, { ref: false });
            }
            await this.#stderrEnds(); // its last words may still be in the pipe
            return { code: /info: master: stopped\s*$/.test(this.stderr) ? 0 : 1, signal: null };
        })();
    }

    /** Everything that its processes said is read; one that is left behind keeps it open. */
    async #stderrEnds(seconds = 10) {
        const giveUp = Date.now() + 1000 * seconds;
        while (!this.child.stderr.readableEnded && Date.now() < giveUp) {
            await sleep(20, undefined, { ref: false });
        }
    }

    /** POST of a JSON value (or of text as it is) to a path below the project. */
    async post(route, body, { token = this.token, headers = {}, project = PROJECT_ID, signal } = {}) {
        const answer = await fetch(`${this.base}/api/${project}/${route}`, {
            method: 'POST',
            headers: { 'content-type': 'application/json',
                       ...(token ? { authorization: `Bearer ${token}` } : {}), ...headers },
            body: typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
            signal,
        });
        const text = await answer.text();
        let json;
        try {
            json = JSON.parse(text);
        } catch {
            json = undefined;
        }
        return { status: answer.status, headers: answer.headers, text, json,
                 id: answer.headers.get('x-request-id') };
    }

    /** A POST that the gateway has taken: it has sent 100 Continue. `answer` is a promise of
     * { status, json, id, closes }; `leave()` ends the connection. */
    async begin(route, body) {
        const text = JSON.stringify(body);
        const request = http.request({
            host: '127.0.0.1', port: this.port, method: 'POST', agent: false,
            path: `/api/${PROJECT_ID}/${route}`,
            headers: { authorization: `Bearer ${this.token}`, 'content-type': 'application/json',
                       'content-length': Buffer.byteLength(text), connection: 'keep-alive',
                       expect: '100-continue' },
        });
        const answer = new Promise((resolve, reject) => {
            request.on('error', reject).on('response', (response) => {
                let received = '';
                response.setEncoding('utf8').on('data', (chunk) => {
                    received += chunk;
                });
                response.on('error', reject).on('end', () => {
                    request.destroy();
                    resolve({ status: response.statusCode, json: JSON.parse(received),
                              id: response.headers['x-request-id'],
                              closes: response.headers.connection === 'close' });
                });
            });
        });
        answer.catch(() => {}); // told to those who wait for it
        request.flushHeaders();
        await Promise.race([answer, new Promise((resolve) => request.once('continue', resolve))]);
        await new Promise((resolve) => request.end(text, resolve));
        return { answer, leave: () => request.destroy() };
    }

    /** Living children: [{ pid, title, … }]. */
    children() {
        const found = children(this.pid);
        for (const member of [look(this.pid), ...found]) {
            if (member) {
                this.family.set(member.pid, member);
            }
        }
        return found;
    }

    workers() {
        return this.children().filter(({ title }) => title.startsWith('promptgate: worker'));
    }

    worker(index) {
        return this.workers().find(({ title }) => title.startsWith(`promptgate: worker ${index} `));
    }

    logger() {
        return this.children().find(({ title }) => title.startsWith('promptgate: logger'));
    }

    #ask(sql, ...values) {
        const store = openStore(this.database, { readOnly: true });
        try {
            return store.prepare(sql).all(...values);
        } finally {
            store.close();
        }
    }

    /** Everything in gateway_logs now, in the order of request ids. */
    rows(where = '1 = 1', ...values) {
        return this.#ask(`SELECT * FROM gateway_logs WHERE ${where} ORDER BY request_id`, ...values)
            .map(readable);
    }

    /** The ids of all of them: of a million rows there is no room for more. */
    ids() {
        return this.#ask('SELECT request_id FROM gateway_logs').map((row) => readable(row).request_id);
    }

    rowCount() {
        return this.#ask('SELECT count(*) AS n FROM gateway_logs')[0].n;
    }

    /** Everything in gateway_refused now. */
    refused() {
        return this.#ask('SELECT * FROM gateway_refused');
    }

    /** Waits for the row of this request. */
    async row(id) {
        assert.match(id ?? '', UUID7);
        return until(`row of ${id}`, () => this.rows().find((row) => row.request_id === id));
    }

    async rowsReach(count, seconds = 60) {
        await until(`${count} rows, there are ${this.rowCount()}`, () => this.rowCount() >= count,
                    seconds);
    }

    /** { code, signal } of its end, for which it waits. */
    async end(seconds = 60) {
        let end;
        this.exited.then((found) => {
            end = found;
        });
        return until(`the end of the gateway; stderr:\n${this.stderr}`, () => end, seconds);
    }

    /** SIGTERM (or another signal); the exit status must be 0 and no child may be left. */
    async stop(signal = 'SIGTERM') {
        this.children();
        if (this.pid === this.child.pid) {
            this.child.kill(signal); // it may have ended, and somebody else have its pid
        } else if (look(this.pid)) {
            process.kill(this.pid, signal);
        }
        const end = await this.end();
        started.delete(this);
        const left = [...this.family.values()].filter(lives);
        for (const member of left) {
            process.kill(member.pid, 'SIGKILL');
        }
        assert.deepEqual(end, { code: 0, signal: null }, this.stderr);
        assert.deepEqual(left.map(({ title }) => title), [], 'children left behind');
        assert.doesNotMatch(this.stderr, /Sanitizer|runtime error:/);
    }
}

// Ids are 16 bytes or text in the store; here they are text.
function readable(row) {
    const id = row.request_id;
    if (id instanceof Uint8Array) {
        const hex = Buffer.from(id).toString('hex');
        row.request_id = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
    }
    return row;
}

/** Writes the configuration, makes the token, starts `serve` and waits until it is ready.
 * Options: those of configFiles; `ownGroup` gives it a process group of its own; `launcher` is a
 * command that becomes `serve`, given as its last arguments; `binary` a file in the place of
 * PROMPTGATE; `token: false` makes none; `prepare`
 * is called with the gateway before it starts. */
export async function startGateway(options) {
    const directory = temporaryDirectory();
    const config = path.join(directory, 'etc');
    for (const name of ['etc', 'state']) {
        fs.mkdirSync(path.join(directory, name));
    }
    makeRuntimeDirectory(path.join(directory, 'run'));
    const projects = options.projects ?? demo({ hello: { provider: 'echo', model: 'echo' } });
    writeFiles(config, configFiles(directory, { ...options, projects }));
    const token = options.token === false ? undefined : await createToken(config);
    const gateway = new Gateway(directory, options);
    gateway.token = token;
    await options.prepare?.(gateway);
    await gateway.restart();
    return gateway;
}

// ---- raw clients

/** Sends bytes and collects what comes until the peer ends the connection or `seconds` pass. Once
 * what came matches `then[0]`, `then[1]` is sent. */
export function raw(port, bytes, { seconds = 60, then = null } = {}) {
    return new Promise((resolve) => {
        const socket = net.connect(port, '127.0.0.1');
        const began = Date.now();
        let text = '';
        let timer;
        const finish = (closed) => {
            clearTimeout(timer);
            socket.destroy();
            resolve({ text, closed, ms: Date.now() - began, ...parseAnswer(text) });
        };
        timer = setTimeout(() => finish(false), seconds * 1000);
        socket.setEncoding('utf8');
        socket.on('data', (chunk) => {
            text += chunk;
            if (then && then[0].test(text)) {
                socket.write(then[1]);
                then = null;
            }
        });
        socket.on('end', () => finish(true));
        socket.on('error', () => finish(true));
        socket.on('connect', () => socket.write(bytes));
    });
}

function parseAnswer(text) {
    const cut = text.indexOf('\r\n\r\n');
    if (cut < 0) {
        return { status: 0, headers: {}, json: undefined };
    }
    const [first, ...lines] = text.slice(0, cut).split('\r\n');
    const headers = Object.fromEntries(lines.map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }));
    let json;
    try {
        json = JSON.parse(text.slice(cut + 4));
    } catch {
        json = undefined;
    }
    return { status: Number(first.split(' ')[1]), headers, json };
}

/** Runs the load generator; its JSON report. */
export function load(gateway, { requests, connections, route = 'hello', body = { message: 'Hi' } }) {
    return new Promise((resolve, reject) => {
        execFile(LOAD, ['-n', String(requests), '-c', String(connections),
                        '-H', `Authorization: Bearer ${gateway.token}`,
                        '-H', 'Content-Type: application/json', '-d', JSON.stringify(body),
                        '127.0.0.1', String(gateway.port), `/api/${PROJECT_ID}/${route}`],
                 { timeout: 300_000, maxBuffer: 1 << 24 }, (error, stdout, stderr) => {
            if (error && stdout === '') {
                reject(new Error(`${error.message}\n${stderr}`));
            } else {
                resolve(JSON.parse(stdout));
            }
        });
    });
}

/** The shape every error answer has; returns its `error`. */
export function assertError(answer, status, code) {
    assert.equal(answer.status, status, answer.text);
    assert.equal(answer.json?.ok, false, answer.text);
    const { error, meta } = answer.json;
    assert.equal(error.code, code, answer.text);
    assert.match(error.type, /^(invalid_request|authentication|permission|not_found|rate_limit|api)_error$/);
    assert.match(error.message, /\S/);
    assert.ok('param' in error, 'param is always there');
    assert.match(meta.request_id, UUID7);
    const header = answer.id ?? answer.headers['x-request-id'];
    assert.equal(meta.request_id, header, 'X-Request-Id is meta.request_id');
    return error;
}
