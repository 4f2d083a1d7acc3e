// "TLS verified": a provider behind a certificate of our own making.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { demo, startGateway, temporaryDirectory } from './harness.mjs';
import { completion, KEY } from './mock.mjs';

let directory;
let server;
let asked;

function certificate(name) {
    const file = (kind) => path.join(directory, `${name}.${kind}`);
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1',
                             '-nodes', '-keyout', file('key'), '-out', file('cert'), '-days', '2',
                             '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'],
                 { stdio: 'ignore' });
    return { key: fs.readFileSync(file('key')), cert: fs.readFileSync(file('cert')), path: file('cert') };
}

let good;
let stranger;

before(async () => {
    directory = temporaryDirectory();
    good = certificate('good');
    stranger = certificate('stranger');
    server = https.createServer(good, (request, response) => {
        asked++;
        request.resume().on('end', () => {
            response.setHeader('content-type', 'application/json');
            response.end(JSON.stringify(completion({ model: 'm' })));
        });
    });
    server.on('tlsClientError', () => {});
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    server.unref();
});

after(() => server.close());

async function askOver(host, trusted) {
    asked = 0;
    const gateway = await startGateway({
        service: trusted ? { upstream: { ca_file: trusted.path } } : {},
        credentials: { tls: { provider: 'openai', api_key: KEY,
                              base_url: `https://${host}:${server.address().port}/v1` } },
        projects: demo({ hello: { provider: 'openai', credential: 'tls', model: 'm' } }),
    });
    const answer = await gateway.post('hello', { message: 'Hi' });
    await gateway.stop();
    return answer;
}

test('a certificate that is trusted, of the right name: served', async () => {
    const answer = await askOver('localhost', good);
    assert.equal(answer.status, 200, answer.text);
    assert.equal(answer.json.content, 'Hello from the mock.');
    assert.equal(asked, 1);
});

const refused = {
    'the system trusts no such certificate': ['localhost', () => undefined],
    'ca_file holds another one': ['localhost', () => stranger],
    'the certificate is for another name': ['127.0.0.1', () => good],
};

for (const [what, [host, trusted]] of Object.entries(refused)) {
    test(`${what}: 502 provider_error, and nothing was sent`, async () => {
        const { status, json } = await askOver(host, trusted());
        assert.equal(status, 502);
        assert.equal(json.error.code, 'provider_error');
        assert.match(json.error.message, /trusted TLS/);
        assert.equal(asked, 0);
    });
}
