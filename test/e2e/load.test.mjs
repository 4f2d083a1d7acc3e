// Many requests: every one answered and in a row, and no process grows.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { load, SANITIZE, startGateway, until } from './harness.mjs';
import { CLOSED, descriptors, resident } from './proc.mjs';

const REQUESTS = SANITIZE ? 10_000 : 100_000;
const CONNECTIONS = 64;

/** Role -> { pid, descriptors, resident } of master and children. */
function measure(gateway) {
    const members = [{ pid: gateway.pid, title: 'promptgate: master' }, ...gateway.children()];
    return Object.fromEntries(members.map(({ pid, title }) =>
        [title, { pid, descriptors: CLOSED || descriptors(pid), resident: resident(pid) }]));
}

async function send(gateway, requests) {
    const report = await load(gateway, { requests, connections: CONNECTIONS });
    assert.deepEqual(report.by_status, { 200: requests }, JSON.stringify(report));
    assert.equal(report.broken, 0, JSON.stringify(report));
    return report;
}

test(`"${REQUESTS} requests at 64 connections over 2 workers: all answered, exactly ${REQUESTS} rows; ` +
     'descriptors of every process at the end equal those at a fifth of it, RSS within 5 % or 1 MiB"',
     { timeout: 600_000 }, async (t) => {
    const gateway = await startGateway({ workers: 2 });
    await send(gateway, REQUESTS / 5);
    await gateway.rowsReach(REQUESTS / 5);
    const early = measure(gateway);

    const report = await send(gateway, REQUESTS - REQUESTS / 5);
    await gateway.rowsReach(REQUESTS, 120);
    const late = measure(gateway);
    t.diagnostic(`load: ${JSON.stringify(report)}`);

    if (CLOSED) {
        t.diagnostic(`descriptors were not compared: ${CLOSED}`);
    }
    assert.deepEqual(Object.keys(late).sort(), Object.keys(early).sort());
    for (const [role, before] of Object.entries(early)) {
        const now = late[role];
        assert.equal(now.pid, before.pid, `${role} is the same process`);
        assert.deepEqual(now.descriptors, before.descriptors, `descriptors of ${role}`);
        if (!SANITIZE) {
            const growth = now.resident - before.resident;
            t.diagnostic(`${role}: ${before.resident >> 10} KiB, ${growth >> 10} KiB more at the end`);
            assert.ok(growth <= Math.max(before.resident * 0.05, 1 << 20),
                      `${role} grew from ${before.resident} by ${growth} bytes`);
        }
    }
    const byWorker = gateway.rows().reduce((count, { worker, status, http_status: http }) => {
        assert.equal(status, 'ok');
        assert.equal(http, 200);
        count[worker] = (count[worker] ?? 0) + 1;
        return count;
    }, {});
    t.diagnostic(`rows by worker: ${JSON.stringify(byWorker)}`);
    assert.deepEqual(Object.keys(byWorker), ['0', '1'], 'both workers served');
    await gateway.stop();
    assert.equal(gateway.rowCount(), REQUESTS);
});

test('what a body of many small values took is given back', { skip: SANITIZE }, async () => {
    const gateway = await startGateway({ workers: 1 });
    const answer = await gateway.post('hello', `{"input":[${'[],'.repeat(3_000_000)}1]}`);
    assert.equal(answer.status, 200);
    const [worker] = gateway.workers();
    await until('a worker below 64 MiB', () => resident(worker.pid) < 64 << 20);
    assert.equal(gateway.workers()[0].pid, worker.pid);
    await gateway.stop();
});
