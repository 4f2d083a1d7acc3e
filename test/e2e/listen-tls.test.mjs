// TLS on a listener: certificates by SNI, versions, ALPN, resumption by any worker and after a reload,
// other certificates after a reload, and what speaks something else.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';

import OpenAI from 'openai';

import { configFiles, demo, PROJECT_ID, raw, run, startGateway, temporaryDirectory, until,
         writeFiles } from './harness.mjs';

const sh = promisify(execFile);
const PATH = `/api/${PROJECT_ID}/hello`;
const BODY = '{"message":"Hi"}';

let folder;
let ca;
let gateway;
let port;

const file = (name) => path.join(folder, name);

function openssl(...args) {
    execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
}

/** A certificate of our authority for some names. */
function issue(name, names, { kind = 'ec', days = '30' } = {}) {
    const algorithm = kind === 'ec' ? ['ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'] : ['rsa:2048'];
    openssl('req', '-newkey', ...algorithm, '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`,
            '-subj', `/CN=${names[0]}`);
    fs.writeFileSync(file(`${name}.ext`), `subjectAltName=${names.map((one) => `DNS:${one}`).join(',')}\n`);
    openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.cert', '-CAkey', 'ca.key', '-CAcreateserial',
            '-days', days, '-extfile', `${name}.ext`, '-out', `${name}.cert`);
    return { cert: file(`${name}.cert`), key: file(`${name}.key`) };
}

function options(pairs) {
    return {
        workers: 2,
        service: { listen: ['127.0.0.1:0', { address: '[::1]:0', tls: pairs }],
                   http: { header_timeout: '1s', idle_timeout: '75s' } },
        projects: demo({ hello: { provider: 'echo', model: 'echo' } }),
    };
}

let pairs;
before(async () => {
    folder = temporaryDirectory();
    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
            '-keyout', 'ca.key', '-out', 'ca.cert', '-days', '30', '-subj', '/CN=Test CA');
    ca = fs.readFileSync(file('ca.cert'));
    pairs = [issue('first', ['first.example', 'localhost']), issue('wild', ['*.wild.example']),
             issue('exact', ['exact.wild.example'], { kind: 'rsa' })];
    gateway = await startGateway(options(pairs));
    port = Number(/listening on \[::1\]:(\d+)/.exec(gateway.stderr)[1]);
});
after(() => gateway?.stop());

/** A handshake: what was agreed, or the error. */
function connect(more = {}) {
    return new Promise((resolve) => {
        const socket = tls.connect({ host: '::1', port, ca, servername: 'first.example', ...more });
        socket.on('secureConnect', () => resolve(socket));
        socket.on('error', (error) => resolve({ error }));
    });
}

async function commonName(servername) {
    const socket = await connect({ servername, checkServerIdentity: () => undefined });
    const { CN } = socket.getPeerCertificate().subject;
    socket.destroy();
    return CN;
}

/** One request over a connection of its own; closes it. */
function ask(more = {}) {
    return new Promise((resolve, reject) => {
        const request = https.request({
            host: '::1', port, ca, servername: 'first.example', path: PATH, method: 'POST', agent: false,
            headers: { authorization: `Bearer ${gateway.token}`, 'content-type': 'application/json' }, ...more,
        }, (response) => {
            let text = '';
            response.on('data', (part) => {
                text += part;
            }).on('end', () => resolve({ status: response.statusCode, json: JSON.parse(text) }));
        });
        request.on('error', reject);
        request.end(BODY);
    });
}

async function reload(newPairs) {
    const listen = options(newPairs);
    writeFiles(gateway.config, configFiles(gateway.directory, listen));
    return run('reload', '--config', gateway.config);
}

describe('the handshake', () => {
    test('several certificates by SNI: the very name, then a wildcard, else the first', async () => {
        assert.equal(await commonName('first.example'), 'first.example');
        assert.equal(await commonName('a.wild.example'), '*.wild.example');
        assert.equal(await commonName('exact.wild.example'), 'exact.wild.example');
        assert.equal(await commonName('a.b.wild.example'), 'first.example');
        assert.equal(await commonName('unknown.example'), 'first.example');
        assert.equal(await commonName(''), 'first.example');
    });

    test('TLS 1.2 and 1.3, nothing older', async () => {
        for (const version of ['TLSv1.2', 'TLSv1.3']) {
            const socket = await connect({ minVersion: version, maxVersion: version });
            assert.equal(socket.getProtocol(), version);
            socket.destroy();
        }
        const { error } = await connect({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' });
        assert.match(error.message, /alert protocol version|unsupported protocol/i);
    });

    test('ALPN: http/1.1; who offers nothing of ours is told so (RFC 7301 3.2)', async () => {
        const socket = await connect({ ALPNProtocols: ['h2', 'http/1.1'] });
        assert.equal(socket.alpnProtocol, 'http/1.1');
        socket.destroy();
        const none = await connect();
        assert.equal(none.alpnProtocol, false);
        none.destroy();
        const { error } = await connect({ ALPNProtocols: ['h2'] });
        assert.match(error.message, /no application protocol/i);
    });

    test('a client that never shakes hands is cut after header_timeout', async () => {
        const began = Date.now();
        await new Promise((resolve) => {
            const socket = net.connect({ host: '::1', port });
            socket.on('close', resolve).on('error', () => {}).resume();
            socket.write(Buffer.from([22, 3, 1])); // the begin of a record
        });
        assert.ok(Date.now() - began >= 900);
    });
});

describe('requests', () => {
    test('an answer, over one connection after the other and many on one', async () => {
        const { status, json } = await ask();
        assert.equal(status, 200);
        assert.equal(json.content, 'Hi');
        const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
        for (let i = 0; i < 20; i++) {
            assert.equal((await ask({ agent })).status, 200);
        }
        agent.destroy();
    });

    test('large bodies in both directions', async () => {
        const text = 'x'.repeat(3 << 20);
        const { content } = await new Promise((resolve, reject) => {
            const request = https.request({ host: '::1', port, ca, servername: 'first.example', path: PATH, method: 'POST',
                headers: { authorization: `Bearer ${gateway.token}`, 'content-type': 'application/json' } }, (response) => {
                const parts = [];
                response.on('data', (part) => parts.push(part)).on('end', () => resolve(JSON.parse(Buffer.concat(parts))));
            });
            request.on('error', reject);
            request.end(JSON.stringify({ message: text }));
        });
        assert.equal(content, text);
    });

    test('curl, Python and the OpenAI SDK', async () => {
        const url = `https://localhost:${port}${PATH}`;
        const { stdout } = await sh('curl', ['-sS', '--cacert', file('ca.cert'), '--resolve', `localhost:${port}:[::1]`, url,
            '-H', `Authorization: Bearer ${gateway.token}`, '-H', 'Content-Type: application/json', '-d', BODY]);
        assert.equal(JSON.parse(stdout).content, 'Hi');
        const python = await sh('python3', ['-c', `
import http.client, ssl, json, socket
context = ssl.create_default_context(cafile=${JSON.stringify(file('ca.cert'))})
connection = http.client.HTTPSConnection("localhost", ${port}, context=context)
connection._create_connection = lambda *a, **k: socket.create_connection(("::1", ${port}))
for i in range(2):
    connection.request("POST", ${JSON.stringify(PATH)}, ${JSON.stringify(BODY)},
        {"Authorization": "Bearer ${gateway.token}", "Content-Type": "application/json"})
    print(json.load(connection.getresponse())["content"])
`]);
        assert.equal(python.stdout, 'Hi\nHi\n');
        const agent = new https.Agent({ ca, keepAlive: true, servername: 'first.example' });
        const client = new OpenAI({
            baseURL: `https://[::1]:${port}/api/${PROJECT_ID}`, apiKey: gateway.token,
            fetch: (target, init) => fetchOver(agent, target, init) });
        const completion = await client.chat.completions.create({ model: 'hello', messages: [{ role: 'user', content: 'Hi' }] });
        assert.equal(completion.choices[0].message.content, 'Hi');
        agent.destroy();
    });

    test('plain HTTP sent to it gets an answer that says so; TLS sent to a plain port is 400', async () => {
        const text = await new Promise((resolve) => {
            let all = '';
            const socket = net.connect({ host: '::1', port });
            socket.setEncoding('utf8').on('data', (part) => {
                all += part;
            }).on('close', () => resolve(all)).on('error', () => {});
            socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
        });
        assert.match(text, /^HTTP\/1\.1 400 Bad Request\r\n[\s\S]*This address speaks TLS/);
        assert.equal(JSON.parse(text.split('\r\n\r\n')[1]).error.code, 'bad_http');
        const { status } = await raw(gateway.port, Buffer.from('160301008b0100008703', 'hex'));
        assert.equal(status, 400);
    });
});

function fetchOver(agent, target, init) {
    return new Promise((resolve, reject) => {
        const request = https.request(target, { agent, method: init.method, headers: Object.fromEntries(new Headers(init.headers)) }, (response) => {
            const parts = [];
            response.on('data', (part) => parts.push(part)).on('end', () => resolve(
                new Response(Buffer.concat(parts), { status: response.statusCode, headers: response.headers })));
        });
        request.on('error', reject);
        request.end(init.body);
    });
}

/** A session ticket of this version. */
async function ticket(version) {
    const socket = await connect({ minVersion: version, maxVersion: version });
    let session = socket.getSession(); // of TLS 1.2; that of 1.3 comes later
    if (version === 'TLSv1.3') {
        const later = new Promise((resolve) => socket.once('session', resolve));
        socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
        session = await later;
    }
    socket.destroy();
    return session;
}

describe('resumption', () => {
    for (const version of ['TLSv1.2', 'TLSv1.3']) {
        test(`${version}: any worker takes the ticket, also after a reload`, async () => {
            const session = await ticket(version);
            const reusedBy = async () => {
                const workers = new Set();
                for (let i = 0; workers.size < 2 && i < 200; i++) {
                    const answer = await new Promise((resolve, reject) => {
                        const request = https.request({ host: '::1', port, ca, servername: 'first.example', session, agent: false,
                            minVersion: version, maxVersion: version, path: '/healthz?verbose' }, (response) => {
                            let text = '';
                            const reused = response.socket.isSessionReused();
                            response.on('data', (part) => {
                                text += part;
                            }).on('end', () => resolve({ reused, ...JSON.parse(text) }));
                        });
                        request.on('error', reject).end();
                    });
                    assert.ok(answer.reused, `worker ${answer.worker} took the ticket`);
                    workers.add(answer.worker);
                }
                return workers.size;
            };
            assert.equal(await reusedBy(), 2);
            const { status } = await reload(pairs);
            assert.equal(status, 0);
            assert.equal(await reusedBy(), 2);
        });
    }
});

describe('reload', () => {
    test('a pair that does not fit changes nothing', async () => {
        const wrong = { cert: pairs[0].cert, key: pairs[1].key };
        const { status, stderr } = await reload([wrong]);
        assert.equal(status, 1);
        assert.match(stderr, /promptgate\.yaml:\d+:\d+: listen\.tls\[0\]\.cert: the key cannot be used with the certificate/);
        for (const [name, text, expected] of [
            ['missing', null, /cert: the file .*missing\.cert cannot be read: No such file/],
            ['noise', 'nonsense', /cert: the certificate cannot be used/],
        ]) {
            if (text) {
                fs.writeFileSync(file(`${name}.cert`), text);
            }
            const bad = await reload([{ cert: file(`${name}.cert`), key: pairs[0].key }]);
            assert.equal(bad.status, 1);
            assert.match(bad.stderr, expected);
        }
        assert.equal((await ask()).status, 200);
        assert.equal(await commonName('exact.wild.example'), 'exact.wild.example');
    });

    test('other certificates are used by new connections, the old ones go on', async () => {
        const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
        assert.equal((await ask({ agent })).status, 200);
        const renewed = issue('renewed', ['renewed.example', 'first.example']);
        assert.equal((await reload([renewed])).status, 0);
        assert.equal(await commonName('first.example'), 'renewed.example');
        assert.equal((await ask({ agent })).status, 200);
        agent.destroy();
    });

    test('one that ends soon is a warning', async () => {
        const soon = issue('soon', ['first.example'], { days: '3' });
        writeFiles(gateway.config, configFiles(gateway.directory, options([soon])));
        const { status, stderr } = await run('check', '--config', gateway.config);
        assert.equal(status, 0);
        assert.match(stderr, /warning: listen\.tls\[0\]\.cert: the certificate expires in [23] days/);
    });
});

test('nothing of it was strange', async () => {
    await until('rest', async () => (await fetch(`${gateway.base}/healthz?verbose`).then((one) => one.json())).requests_in_flight === 0);
    await gateway.stop();
    assert.doesNotMatch(gateway.stderr, /was killed|ended with status [^0]/);
});
