// Other people's software before and behind the front door: nginx and HAProxy as reverse proxies, and
// clients in several languages, over plain HTTP and TLS.
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { assertError, demo, PROJECT_ID, startGateway, temporaryDirectory, until } from './harness.mjs';

const sh = promisify(execFile);
const PEERS = fileURLToPath(new URL('peers', import.meta.url));
const LIBRARIES = ['x86_64-linux-gnu', 'aarch64-linux-gnu'].map((name) => path.join(PEERS, 'usr/lib', name)).join(':');
const BODY = '{"message":"Hi"}';
const PATH = `/api/${PROJECT_ID}`;

let folder;
let gateway;
let secure; // the port that speaks TLS
const started = [];

function freePort() {
    return new Promise((resolve) => {
        const server = net.createServer().listen(0, '127.0.0.1', () => {
            const { port } = server.address();
            server.close(() => resolve(port));
        });
    });
}

/** Starts one of the peers; waits until it can be connected to. */
async function start(program, args, port) {
    const { NGINX: _, ...env } = process.env; // it would take that for sockets
    const child = spawn(path.join(PEERS, 'usr/sbin', program), args,
                        { env: { ...env, LD_LIBRARY_PATH: LIBRARIES }, stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text) => {
        said += text;
    });
    started.push(child);
    await until(`${program}: ${said}`, () => new Promise((resolve) => {
        assert.equal(child.exitCode, null, said);
        const socket = net.connect(port, '127.0.0.1', () => {
            socket.destroy();
            resolve(true);
        }).on('error', () => resolve(false));
    }));
}

async function startNginx(tls) {
    const port = await freePort();
    const file = path.join(folder, `nginx-${port}.conf`);
    const target = tls ? `[::1]:${secure}` : `127.0.0.1:${gateway.port}`;
    fs.writeFileSync(file, `
daemon off;
worker_processes 1;
${process.getuid() === 0 ? 'user root;' : ''}
pid ${folder}/nginx-${port}.pid;
error_log stderr error;
events { worker_connections 256; }
http {
    access_log off;
    client_max_body_size 64m;
    client_body_temp_path ${folder}/b; proxy_temp_path ${folder}/p; fastcgi_temp_path ${folder}/f;
    uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
    upstream gateway { server ${target}; keepalive 8; }
    server {
        listen 127.0.0.1:${port};
        location / {
            proxy_pass ${tls ? 'https' : 'http'}://gateway;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host localhost;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            ${tls ? `proxy_ssl_verify on; proxy_ssl_trusted_certificate ${folder}/cert; proxy_ssl_name localhost;
                     proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.2 TLSv1.3;` : ''}
        }
    }
}
`);
    await start('nginx', ['-c', file, '-p', folder, '-e', 'stderr'], port);
    return port;
}

async function startHaproxy(tls) {
    const port = await freePort();
    const file = path.join(folder, `haproxy-${port}.conf`);
    const server = tls ? `[::1]:${secure} ssl verify required ca-file ${folder}/cert sni str(localhost) alpn http/1.1`
                       : `127.0.0.1:${gateway.port}`;
    fs.writeFileSync(file, `
global
    maxconn 256
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option forwardfor
    option http-keep-alive
    http-reuse always
listen front
    bind 127.0.0.1:${port}
    server gateway ${server}
`);
    await start('haproxy', ['-f', file, '-db'], port);
    return port;
}

before(async () => {
    folder = temporaryDirectory();
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
                             '-keyout', path.join(folder, 'key'), '-out', path.join(folder, 'cert'), '-days', '2',
                             '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:::1'], { stdio: 'ignore' });
    gateway = await startGateway({
        workers: 2,
        service: {
            listen: ['127.0.0.1:0', { address: '[::1]:0', tls: [{ cert: `${folder}/cert`, key: `${folder}/key` }] }],
            http: { trusted_proxies: ['127.0.0.0/8', '::1'] },
        },
        projects: demo({ hello: { provider: 'echo', model: 'echo' } }),
    });
    secure = Number(/listening on \[::1\]:(\d+)/.exec(gateway.stderr)[1]);
});

after(async () => {
    await Promise.all(started.map((child) => new Promise((resolve) => {
        child.on('exit', resolve).kill('SIGTERM'); // nginx ends its workers then
        child.stderr.destroy();
    })));
    await gateway?.stop();
});

const headers = () => ({ authorization: `Bearer ${gateway.token}`, 'content-type': 'application/json' });

for (const [name, startPeer] of [['nginx', startNginx], ['HAProxy', startHaproxy]]) {
    for (const tls of [false, true]) {
        test(`${name} in front, ${tls ? 'TLS' : 'plain HTTP'} behind it`, {
            skip: !fs.existsSync(path.join(PEERS, 'usr/sbin', name.toLowerCase())) && `${name} is not there`,
        }, async () => {
            const base = `http://127.0.0.1:${await startPeer(tls)}${PATH}`;
            const post = async (body, more = {}) => {
                const answer = await fetch(`${base}/hello`, { method: 'POST', headers: { ...headers(), ...more }, body });
                const text = await answer.text();
                return { status: answer.status, headers: answer.headers, id: answer.headers.get('x-request-id'),
                         text, json: text.startsWith('{') ? JSON.parse(text) : null };
            };
            for (let i = 0; i < 30; i++) {
                const { status, json } = await post(JSON.stringify({ message: `no ${i}` }));
                assert.equal(status, 200);
                assert.equal(json.content, `no ${i}`);
            }
            const many = await Promise.all(Array.from({ length: 40 }, () => post(BODY)));
            assert.ok(many.every(({ status }) => status === 200));
            const long = 'x'.repeat(2 << 20);
            assert.equal((await post(JSON.stringify({ message: long }))).json.content, long);
            assertError(await post(BODY, { authorization: 'Bearer nobody' }), 401, 'unauthorized');
            assertError(await post('{"message":'), 400, 'invalid_json');
            assertError(await post(JSON.stringify({ message: 'x'.repeat(11 << 20) })), 413, 'body_too_large');
            const { id } = await post(BODY, { 'x-forwarded-for': '203.0.113.7' });
            assert.equal((await gateway.row(id)).client_ip, '203.0.113.7');
            const models = await fetch(`${base}/models`, { headers: headers() });
            assert.deepEqual((await models.json()).data.map(({ id }) => id), ['hello']);
            assert.equal((await fetch(`${base}/models`, { method: 'HEAD', headers: headers() })).status, 200);
        });
    }
}

describe('clients', () => {
    test('curl: a kept connection, Expect: 100-continue, HEAD, HTTP/1.0', async () => {
        const auth = ['-H', `Authorization: Bearer ${gateway.token}`, '-H', 'Content-Type: application/json'];
        const url = `${gateway.base}${PATH}`;
        const { stdout } = await sh('curl', ['-sS', '-w', '%{num_connects} ', ...auth, '-d', BODY, `${url}/hello`, '-o', '/dev/null',
                                             '--next', '-sS', '-w', '%{num_connects}', ...auth, '-d', BODY, `${url}/hello`, '-o', '/dev/null']);
        assert.equal(stdout, '1 0');
        const large = path.join(folder, 'large.json');
        fs.writeFileSync(large, JSON.stringify({ message: 'x'.repeat(2 << 20) }));
        const expected = await sh('curl', ['-sSv', ...auth, '-H', 'Expect: 100-continue', '--data-binary', `@${large}`, `${url}/hello`, '-o', '/dev/null']);
        assert.match(expected.stderr, /< HTTP\/1\.1 100 Continue/);
        assert.match(expected.stderr, /< HTTP\/1\.1 200 OK/);
        assert.match((await sh('curl', ['-sSI', ...auth, `${url}/models`])).stdout, /^HTTP\/1\.1 200 OK\r\n[\s\S]*Content-Length: \d+/);
        assert.equal(JSON.parse((await sh('curl', ['-sS', '-0', ...auth, '-d', BODY, `${url}/hello`])).stdout).content, 'Hi');
    });

    test("Python's http.client", async () => {
        const { stdout } = await sh('python3', ['-c', `
import http.client, json
connection = http.client.HTTPConnection("127.0.0.1", ${gateway.port})
for body in (${JSON.stringify(BODY)}, iter([b'{"mess', b'age":"in chunks"}'])):
    connection.request("POST", "${PATH}/hello", body, {"Authorization": "Bearer ${gateway.token}", "Content-Type": "application/json"})
    print(json.load(connection.getresponse())["content"])
`]);
        assert.equal(stdout, 'Hi\nin chunks\n');
    });

    for (const tls of [false, true]) {
        const how = tls ? 'over TLS' : 'plain';
        const baseURL = () => (tls ? `https://[::1]:${secure}${PATH}` : `${gateway.base}${PATH}`);
        /** Runs this file's other half in a process that trusts the certificate. */
        const inChild = (script) => sh(process.execPath, ['--input-type=module', '-e', script], {
            cwd: path.dirname(fileURLToPath(import.meta.url)),
            env: { ...process.env, NODE_EXTRA_CA_CERTS: path.join(folder, 'cert'), BASE: baseURL(), TOKEN: gateway.token } });

        test(`openai SDK, ${how}`, async () => {
            const { stdout } = await inChild(`
import OpenAI from 'openai';
const client = new OpenAI({ baseURL: process.env.BASE, apiKey: process.env.TOKEN });
const answer = await client.chat.completions.create({ model: 'hello', messages: [{ role: 'user', content: 'Hi' }] });
const wrong = await new OpenAI({ baseURL: process.env.BASE, apiKey: 'x', maxRetries: 0 }).chat.completions
    .create({ model: 'hello', messages: [{ role: 'user', content: 'Hi' }] }).catch((error) => error);
console.log(answer.choices[0].message.content, wrong.constructor.name);`);
            assert.equal(stdout, 'Hi AuthenticationError\n');
        });

        test(`ai SDK, ${how}`, async () => {
            const { stdout } = await inChild(`
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText } from 'ai';
const provider = createOpenAICompatible({ name: 'promptgate', baseURL: process.env.BASE, apiKey: process.env.TOKEN });
const { text, usage, finishReason } = await generateText({ model: provider('hello'), prompt: 'Hi there' });
console.log(text, finishReason, usage.totalTokens > 0);`);
            assert.equal(stdout, 'Hi there stop true\n');
        });
    }
});
