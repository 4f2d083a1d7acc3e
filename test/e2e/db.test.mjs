// `promptgate db`: what there is in store and spool, and the schema's steps.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, test } from 'node:test';

import { lockStore, openStore, POSTGRES } from './database.mjs';
import { configFiles, databaseOf, demo, run, startGateway, temporaryDirectory, until, writeFiles } from './harness.mjs';

let gateway;

afterEach(async () => {
    if (gateway && gateway.child.exitCode === null && gateway.child.signalCode === null) {
        await gateway.stop();
    }
    gateway = null;
});

function db(config, ...words) {
    return run('db', ...words, '--config', config);
}

async function status(config) {
    const { status: code, stdout, stderr } = await db(config, 'status', '--json');
    assert.equal(stderr, '');
    return { code, ...JSON.parse(stdout) };
}

function change(database, sql) {
    const other = openStore(database);
    other.exec(sql);
    other.close();
}

/** A configuration that was never served. */
function freshConfig() {
    const directory = temporaryDirectory();
    fs.mkdirSync(path.join(directory, 'state'));
    writeFiles(path.join(directory, 'etc'), configFiles(directory, {
        projects: demo({ hello: { provider: 'echo', model: 'echo' } }) }));
    return { directory, config: path.join(directory, 'etc'),
             database: databaseOf(directory) };
}

test('db status of a gateway that was never started', async () => {
    const { config, database } = freshConfig();
    const found = await status(config);
    assert.equal(found.code, 0);
    assert.equal(found.running, false);
    assert.deepEqual(found.store, {
        driver: POSTGRES ? 'postgres' : 'sqlite',
        place: POSTGRES ? `${database.server.directory}:5432/${database.name}` : database, state: 'missing', reason: null, since: null, error: null,
        schema: 0, schema_known: found.store.schema_known, rows: 0 });
    assert.deepEqual(found.spool, { error: null, segments: 0, pending_bytes: 0, oldest: null,
                                    disk_full_since: null });
    assert.equal(found.rejected, 0);
    assert.equal(POSTGRES ? Number(database.server.sql(database.name, 'SELECT count(*) FROM pg_tables ' +
        "WHERE schemaname = 'public'")) > 0 : fs.existsSync(database), false, 'looking makes nothing');
});

test('db migrate makes the store; a second time there is nothing to do', async () => {
    const { config, database } = freshConfig();
    const first = await db(config, 'migrate');
    assert.equal(first.status, 0, first.stderr);
    const { store } = await status(config);
    assert.match(first.stdout, new RegExp(`^schema: from step 0 to ${store.schema_known}\n$`));
    assert.equal(store.state, 'ok');
    assert.equal(store.schema, store.schema_known);
    assert.ok(POSTGRES || (fs.statSync(database).mode & 0o777) === 0o640);
    const second = await db(config, 'migrate');
    assert.deepEqual([second.status, second.stdout],
                     [0, `nothing to do: the schema is at step ${store.schema}\n`]);
});

test('db status while a gateway runs: rows, then rows that wait', async () => {
    gateway = await startGateway({ workers: 2 });
    for (let i = 0; i < 5; i++) {
        assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
    }
    await gateway.rowsReach(5);
    const idle = await status(gateway.config);
    assert.deepEqual([idle.code, idle.running, idle.store.state, idle.store.rows], [0, true, 'ok', 5]);
    assert.ok(Date.parse(idle.store.since) <= Date.now());
    assert.equal(idle.spool.pending_bytes, 0);
    assert.equal(idle.spool.oldest, null);

    const release = await lockStore(gateway.database);
    const before = Date.now();
    assert.equal((await gateway.post('hello', { message: 'Hi' })).status, 200);
    const waiting = await until('rows that wait', async () => {
        const found = await status(gateway.config);
        return found.store.state === 'away' && found.spool.pending_bytes > 0 && found;
    });
    assert.equal(waiting.code, 1);
    assert.equal(waiting.store.reason, 'locked');
    assert.equal(waiting.store.rows, 5);
    assert.ok(Date.parse(waiting.store.since) >= before);
    const oldest = Date.parse(waiting.spool.oldest);
    assert.ok(oldest >= before - 1 && oldest <= Date.now(), waiting.spool.oldest);
    const text = await db(gateway.config, 'status');
    assert.equal(text.status, 1);
    assert.match(text.stdout, /away since 20.*: locked by another process\n/);
    assert.match(text.stdout, /bytes not in the store, the oldest of 20/);
    await release();
    await until('a healthy store', async () => (await status(gateway.config)).code === 0);
    await gateway.rowsReach(6);
});

test('db migrate while a gateway runs: refused when there is a step to do', async () => {
    gateway = await startGateway({});
    const idle = await db(gateway.config, 'migrate');
    assert.equal(idle.status, 0, idle.stderr);
    assert.match(idle.stdout, /nothing to do/);
    change(gateway.database, 'DELETE FROM schema_migrations');
    const refused = await db(gateway.config, 'migrate');
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /^promptgate db migrate: a gateway is running/);
});

test('a row that the store refuses is set aside; db status counts it', async () => {
    gateway = await startGateway({ projects: demo({
        hello: { provider: 'echo', model: 'echo' }, poison: { provider: 'echo', model: 'echo' } }) });
    change(gateway.database, POSTGRES
        ? "ALTER TABLE gateway_logs ADD CONSTRAINT not_this_one CHECK (endpoint <> 'poison')"
        : "CREATE TRIGGER poison BEFORE INSERT ON gateway_logs WHEN new.endpoint = 'poison' " +
          "BEGIN SELECT RAISE(ABORT, 'not this one'); END");
    const answers = await Promise.all(Array.from({ length: 40 }, (_, i) =>
        gateway.post(i === 17 ? 'poison' : 'hello', { message: 'Hi' })));
    assert.ok(answers.every(({ status: code }) => code === 200));
    await gateway.rowsReach(39);
    const file = path.join(gateway.directory, `state/rejected/${answers[17].id}.json`);
    await until('the file', () => fs.existsSync(file));
    const { rejected_at: at, reason, row } = JSON.parse(fs.readFileSync(file, 'utf8'));
    assert.ok(Date.parse(at) <= Date.now());
    assert.match(reason, /not.this.one/);
    assert.equal(row.request_id, answers[17].id);
    assert.equal(row.endpoint, 'poison');
    assert.equal(row.status, 'ok');
    assert.equal(row.http_status, 200);
    assert.equal(fs.statSync(path.dirname(file)).mode & 0o007, 0, 'not for everybody');
    await until('the end of the batch', async () =>
        (await status(gateway.config)).spool.pending_bytes === 0);
    assert.equal((await status(gateway.config)).rejected, 1);
    assert.equal(gateway.stderr.match(/refuses the row of request/g).length, 1);
    assert.equal(gateway.rowCount(), 39);
});

test('wrong usage and an unreadable store', async () => {
    const { config, database } = freshConfig();
    for (const words of [[], ['statsu'], ['status', 'more'], ['migrate', '--json']]) {
        const { status: code, stderr } = await db(config, ...words);
        assert.equal(code, 2);
        assert.match(stderr, /^usage: promptgate db status/);
    }
    const wrong = POSTGRES ? /no_such_database/ : /not a database/;
    if (POSTGRES) {
        const file = path.join(config, 'promptgate.yaml');
        fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(database.name, 'no_such_database'));
    } else {
        fs.writeFileSync(database, 'this is no database at all\n'.repeat(100));
    }
    const found = await status(config);
    assert.deepEqual([found.code, found.store.state, found.store.rows], [1, 'unreadable', null]);
    assert.match(found.store.error, wrong);
    const refused = await db(config, 'migrate');
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, wrong);
});
