// Rate limits: over all workers together, in any 60 seconds.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { openStore } from './database.mjs';
import { assertError, createToken, demo, run, startGateway } from './harness.mjs';

const MINUTES = Number(process.env.RATE_MINUTES ?? 1);

/** A gateway of the test's own, for they run side by side. */
async function start(t, fields = {}, options = {}) {
    const echo = { provider: 'echo', model: 'echo', ...fields };
    const gateway = await startGateway({
        workers: 2, ...options,
        projects: demo({ hello: echo, other: { provider: 'echo', model: 'echo' } }, options.project),
    });
    t.after(() => gateway.stop());
    const post = (slug = 'hello', more = {}) =>
        gateway.post(slug, { message: 'Hi' }, { headers: { connection: 'close' }, ...more });
    return { gateway, post };
}

describe('rate limits', { concurrency: true }, () => {
    test('"per_minute 100, 1,000 at once over all workers: exactly 100 pass"', async (t) => {
        const { gateway, post } = await start(t, { rate_limit: { per_minute: 100 } });
        let passed = 0;
        const client = async (count) => {
            for (let i = 0; i < count; i++) {
                const answer = await post();
                assert.equal(answer.headers.get('x-ratelimit-limit-requests'), '100');
                if (answer.status === 200) {
                    passed++;
                    continue;
                }
                assertError(answer, 429, 'rate_limited');
                const { scope, retry_after: seconds, type } = answer.json.error;
                assert.deepEqual([scope, type], ['endpoint:minute', 'rate_limit_error']);
                assert.ok(seconds >= 1 && seconds <= 61, seconds);
                assert.equal(answer.headers.get('retry-after'), String(seconds));
                assert.equal(answer.headers.get('x-ratelimit-remaining-requests'), '0');
                assert.match(answer.headers.get('x-ratelimit-reset-requests'), /^(1m)?\d{1,2}s$/);
            }
        };
        await Promise.all(Array.from({ length: 50 }, () => client(20)));
        assert.equal(passed, 100);
        assert.equal((await post('other')).status, 200, 'another endpoint is not meant');
        await gateway.rowsReach(1001);
        const statuses = gateway.rows().map(({ status, http_status: code }) => `${status} ${code}`);
        assert.equal(statuses.filter((one) => one === 'rate_limited 429').length, 900, '"refused ones too"');
    });

    test('more than the limit all the time: never more than it in any 60 s, and all of it in each 61', async (t) => {
        const CAP = 100;
        const { gateway, post } = await start(t, { rate_limit: { per_minute: CAP } });
        const end = Date.now() + MINUTES * 61_000 + 5_000;
        let asked = 0;
        const client = async () => {
            while (Date.now() < end) {
                await post();
                asked++;
                await sleep(40);
            }
        };
        await Promise.all(Array.from({ length: 4 }, client));
        await gateway.rowsReach(asked);
        const store = openStore(gateway.database, { readOnly: true });
        const admitted = store.prepare(
            "SELECT admitted_at FROM gateway_logs WHERE status = 'ok' ORDER BY admitted_at").all()
            .map(({ admitted_at: at }) => new Date(at).getTime());
        store.close();
        for (let i = 0; i + CAP < admitted.length; i++) {
            assert.ok(admitted[i + CAP] - admitted[i] >= 60_000,
                      `${CAP + 1} within ${admitted[i + CAP] - admitted[i]} ms`);
        }
        const first = Math.floor(admitted[0] / 1000);
        for (let minute = 0; minute < MINUTES; minute++) {
            const from = (first + 61 * minute) * 1000;
            assert.equal(admitted.filter((at) => at >= from && at < from + 61_000).length, CAP, `in span ${minute}`);
        }
        t.diagnostic(`${asked} requests, ${admitted.length} admitted`);
    });

    test('"A refused client that waits Retry-After (alone) is admitted"', async (t) => {
        const { post } = await start(t, { rate_limit: { per_minute: 3 } });
        while ((await post()).status === 200) {
            // until it is full
        }
        const refused = await post();
        await sleep(Number(refused.headers.get('retry-after')) * 1000);
        assert.equal((await post()).status, 200);
    });

    test('endpoint, token and project, minute and hour: each with its scope, and nothing is taken by a refusal', async (t) => {
        const { gateway, post } = await start(t, { rate_limit: { per_minute: 1000, per_hour: 6 } }, { project: { rate_limit: { per_minute: 9 } } });
        const narrow = await createToken(gateway.config, 'demo', '--name', 'narrow');
        const file = `${gateway.config}/tokens.d/narrow.yaml`;
        fs.appendFileSync(file, 'rate_limit: { per_minute: 2 }\n');
        assert.equal((await run('reload', '--config', gateway.config)).status, 0);
        const as = { token: narrow };
        assert.deepEqual([(await post('hello', as)).status, (await post('hello', as)).status], [200, 200]);
        for (let i = 0; i < 20; i++) {
            assert.equal((await post('hello', as)).json.error.scope, 'token:minute');
        }
        // Twenty refusals took no room of the endpoint's and the project's.
        for (let i = 0; i < 4; i++) {
            assert.equal((await post()).status, 200);
        }
        const hour = await post();
        assert.equal(hour.json.error.scope, 'endpoint:hour');
        assert.ok(hour.json.error.retry_after > 3500 && hour.json.error.retry_after <= 3661, hour.text);
        for (let i = 0; i < 3; i++) {
            assert.equal((await post('other')).status, 200);
        }
        assert.equal((await post('other')).json.error.scope, 'project:minute');
        // "one refused later keeps its place"
        const late = await gateway.post('other', 'not json', { headers: { connection: 'close' } });
        assert.equal(late.status, 429, 'before the body');
    });
});
