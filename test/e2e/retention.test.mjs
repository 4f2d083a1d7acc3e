// gateway_logs.retention: rows that are older are deleted, their sums stay.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, test } from 'node:test';

import { openStore, POSTGRES } from './database.mjs';
import { startGateway, until } from './harness.mjs';

let gateway;
afterEach(async () => {
    await gateway?.stop();
    gateway = null;
});

/** The gateway's rows, made older by some days. */
function age(database, days) {
    const store = openStore(database);
    const wall = Date.now() - days * 86_400_000;
    const hex = wall.toString(16).padStart(12, '0');
    const begin = `${hex.slice(0, 8)}-${hex.slice(8)}`;
    store.exec(POSTGRES
        ? `SELECT gateway_logs_partition(${wall}); UPDATE gateway_logs SET request_id = ` +
          `('${begin}' || substr(request_id::text, 14))::uuid`
        : `UPDATE gateway_logs SET request_id = '${begin}' || substr(request_id, 14)`);
    store.exec("UPDATE gateway_refused SET minute = '2020-01-01T00:00:00.000Z'");
    store.close();
}

const count = (database, table) => {
    const store = openStore(database, { readOnly: true });
    const { n } = store.prepare(`SELECT count(*) AS n FROM ${table}`).get();
    store.close();
    return n;
};

// PostgreSQL drops whole months: the first that ended before, of whatever length.
const SHORTER = POSTGRES ? '45d' : '70d';

test('rows of 80 days ago stay for 90 days, and go when the retention is shorter', async () => {
    gateway = await startGateway({});
    await gateway.post('hello', { message: 'old' });
    await gateway.post('hello', { message: 'nobody' }, { token: 'x' });
    await gateway.stop();
    age(gateway.database, 80);
    assert.equal(count(gateway.database, 'gateway_logs'), 1);
    await gateway.restart();
    await until('the refused ones to go', () => count(gateway.database, 'gateway_refused') === 0);
    assert.equal(count(gateway.database, 'gateway_logs'), 1);
    await gateway.stop();
    const file = path.join(gateway.config, 'promptgate.yaml');
    fs.appendFileSync(file, `\ngateway_logs: { retention: ${SHORTER} }\n`);
    await gateway.restart();
    await until('the row to go', () => count(gateway.database, 'gateway_logs') === 0);
    const { id } = await gateway.post('hello', { message: 'new' });
    await gateway.row(id);
    assert.equal(count(gateway.database, 'gateway_usage_hourly') >= 1, true);
});
