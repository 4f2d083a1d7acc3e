// A worker that never comes back from what it does, in a build with STEPS=1.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { startGateway, until } from './harness.mjs';

test('"A worker in an endless loop is gone and replaced, its obituary names the request"', {
    skip: process.env.STEPS ? false : 'made to loop in builds with STEPS=1: make e2e-steps',
}, async () => {
    const gateway = await startGateway({
        workers: 1,
        prepare: (made) => {
            made.env = { PROMPTGATE_STEP: 'request_counted:spin:3' };
        },
    });
    const first = gateway.worker(0);
    for (let i = 0; i < 2; i++) {
        assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
    }
    const began = Date.now();
    await assert.rejects(gateway.post('hello', { message: 'Hi' }));
    const took = Date.now() - began;
    assert.ok(took >= 4500, `${took} ms: not before five seconds`);
    await until('another worker', () => (gateway.worker(0)?.pid ?? first.pid) !== first.pid);
    assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
    await gateway.rowsReach(4);
    const [died, ...more] = gateway.rows("status = 'worker_died'");
    assert.equal(more.length, 0);
    assert.match(gateway.stderr, /gives no sign of life for 5000 ms: told to abort/);
    assert.match(gateway.stderr, new RegExp(`worker 0 \\(gen 1\\) \\(pid ${first.pid}\\) was killed by ` +
        'signal 6 \\(Aborted\\)\n.*worker 0 \\(gen 1\\): its oldest request in flight was ' +
        `${died.request_id} of demo`));
    await gateway.stop();
});
