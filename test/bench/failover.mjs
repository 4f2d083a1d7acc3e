// What a dead first target adds once its credential is left alone: a chain beside its second target
// alone, 500 requests a second, in turns. Then the first target comes back. Prints one table (see
// `make bench-failover`).
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

import { demo, PROJECT_ID, startGateway } from '../e2e/harness.mjs';
import { behaviours, mockCredential, startMock } from '../e2e/mock.mjs';
import { machine, print, ratio, SECONDS, whole } from './common.mjs';

const RATE = 500;
const PROBE_MS = 1000;
const BODY = JSON.stringify({ message: 'Hi' });
const agent = new http.Agent({ keepAlive: true, maxSockets: 256 });

let isDown = true;
behaviours['first'] = (exchange) => behaviours[isDown ? 'never-answers' : 'length'](exchange);

function ask(gateway, slug) {
    const began = performance.now();
    return new Promise((resolve, reject) => {
        const request = http.request({
            host: '127.0.0.1', port: gateway.port, agent, method: 'POST', path: `/api/${PROJECT_ID}/${slug}`,
            headers: { 'content-type': 'application/json', 'content-length': BODY.length,
                       authorization: `Bearer ${gateway.token}` },
        }, (response) => {
            response.resume().on('end', () =>
                resolve({ status: response.statusCode, ms: performance.now() - began, at: began }));
        });
        request.on('error', reject).end(BODY);
    });
}

/** RATE requests a second for so long, to the slugs in turns: { slug: answers }. */
async function pace(gateway, slugs, seconds) {
    const answers = Object.fromEntries(slugs.map((slug) => [slug, []]));
    const began = performance.now();
    for (let sent = 0; sent < RATE * seconds; sent++) {
        const slug = slugs[sent % slugs.length];
        answers[slug].push(ask(gateway, slug));
        const early = began + (sent + 1) * 1000 / RATE - performance.now();
        if (early > 1) {
            await sleep(early);
        }
    }
    for (const slug of slugs) {
        answers[slug] = await Promise.all(answers[slug]);
        const bad = answers[slug].filter(({ status }) => status !== 200);
        if (bad.length > 0) {
            throw new Error(`${slug}: ${bad.length} not answered, the first with ${bad[0].status}`);
        }
    }
    return answers;
}

const at = (answers, share) => answers.map(({ ms }) => ms * 1000).sort((a, b) => a - b)[Math.floor(answers.length * share)];

async function measure(what, firstCredential) {
    const [first, second] = [await startMock(), await startMock()];
    const target = { provider: 'openai', model: 'second', credential: 'second' };
    const gateway = await startGateway({
        workers: 2,
        service: { upstream: { connect_timeout: '1s', breaker: { probe: `${PROBE_MS}ms` } } },
        credentials: { first: firstCredential(first), second: mockCredential(second) },
        projects: demo({
            alone: target,
            chained: { provider: 'openai', model: 'first', credential: 'first', timeout: '2s',
                       failover: [{ credential: 'second', model: 'second' }] },
        }),
    });
    isDown = true;
    await pace(gateway, ['chained'], 2); // it opens
    first.clear();
    const { alone, chained } = await pace(gateway, ['alone', 'chained'], SECONDS * 4);
    const probes = first.requests.length;
    isDown = false;
    first.clear();
    const healed = await pace(gateway, ['chained'], 2);
    const regained = first.requests.length > 1 ? healed.chained.length - first.requests.length : null;
    await gateway.stop();
    await Promise.all([first.stop(), second.stop()]);
    return [what, whole(at(alone, 0.5)), whole(at(chained, 0.5)), ratio(at(chained, 0.5), at(alone, 0.5)),
            whole(at(alone, 0.99)), whole(at(chained, 0.99)), String(probes),
            regained === null ? '-' : whole(regained * 1000 / RATE)];
}

console.log(`${machine()}
make bench-failover: ${RATE} requests a second, the breaker is open, a probe every ${PROBE_MS} ms.

  us        how long an answer takes: of the second target alone, and of the chain whose first is dead
  back, ms  after how long the first target is asked again once it answers
`);
print([['first target', 'alone p50 us', 'chain', '/ alone', 'alone p99', 'chain', 'probes', 'back, ms'],
       await measure('no connection', (mock) => ({ ...mockCredential(mock), base_url: 'http://127.0.0.1:1/v1' })),
       await measure('never answers', mockCredential)]);
process.exit(0);
