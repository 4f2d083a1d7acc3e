// The running gateway from outside: reload, stop and status, one instance, UNIX sockets, `user`.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after, afterEach, before, test } from 'node:test';

import { demo, PROJECT_ID, run, startGateway, temporaryDirectory, until, writeFiles }
    from './harness.mjs';
import { mockCredential, startMock } from './mock.mjs';
import { lives, look } from './proc.mjs';

const NOBODY = 65534;

let mock;
let gateway;

before(async () => {
    mock = await startMock();
});

after(async () => {
    await mock?.stop();
});

afterEach(async () => {
    if (gateway && gateway.child.exitCode === null && gateway.child.signalCode === null) {
        await gateway.stop();
    }
    gateway = null;
});

async function start(options = {}) {
    gateway = await startGateway({
        credentials: { mock: mockCredential(mock) },
        projects: demo({
            hello: { provider: 'echo', model: 'echo' },
            held: { provider: 'openai', credential: 'mock', model: 'held', timeout: '10m' },
            never: { provider: 'openai', credential: 'mock', model: 'never-answers', timeout: '60s' },
        }),
        ...options,
    });
    return gateway;
}

const ask = (verb, ...more) => run(verb, '--config', gateway.config, ...more);

/** A request on a connection of its own, so that the newest generation serves it. */
function post(slug, where = { host: '127.0.0.1', port: gateway.port }) {
    return new Promise((resolve, reject) => {
        const body = '{"message":"Hi"}';
        const request = http.request({ ...where, agent: false, method: 'POST',
            path: `/api/${PROJECT_ID}/${slug}`,
            headers: { authorization: `Bearer ${gateway.token}`, 'content-type': 'application/json',
                       'content-length': body.length } }, (response) => {
            response.resume().on('end', () => resolve({ status: response.statusCode,
                                                        id: response.headers['x-request-id'] }));
        });
        request.on('error', reject);
        request.end(body);
    });
}

async function status() {
    const answer = await ask('status', '--json');
    assert.equal(answer.status, 0, answer.stderr);
    return JSON.parse(answer.stdout);
}

test('status tells the processes, as JSON and as a table', async () => {
    await start();
    assert.equal((await post('hello')).status, 200);
    const told = await status();
    assert.equal(told.pid, gateway.pid);
    assert.equal(fs.statSync(path.join(gateway.directory, 'run/control')).mode & 0o777, 0o600);
    assert.deepEqual(told.listening, [`127.0.0.1:${gateway.port}`], 'the port that was chosen');
    assert.equal(told.generations.length, 1);
    assert.deepEqual(told.generations[0].workers.map(({ pid }) => pid).sort(),
                     gateway.workers().map(({ pid }) => pid).sort());
    const table = await ask('status');
    assert.match(table.stdout, new RegExp(`^pid +${gateway.pid}$`, 'm'));
    assert.match(table.stdout, /^INDEX +PID .*\n0 /m);
});

test('"reload": a new configuration serves when the command ends', async () => {
    await start();
    writeFiles(gateway.config, { 'projects.d/demo.yaml': demo({
        fresh: { provider: 'echo', model: 'echo' } }).demo });
    const answer = await ask('reload');
    assert.deepEqual([answer.status, answer.stderr], [0, ''], answer.stdout);
    assert.equal((await post('fresh')).status, 200);
    assert.equal((await post('hello')).status, 404);
});

test('"on any error every error is reported and nothing changes"', async () => {
    await start();
    const workers = gateway.workers().map(({ pid }) => pid);
    const good = fs.readFileSync(path.join(gateway.config, 'promptgate.yaml'), 'utf8');
    writeFiles(gateway.config, {
        'promptgate.yaml': `${good}nonsense: 1\nworkerz: 2\n`,
        'projects.d/other.yaml': 'id: [\n',
    });
    const refused = await ask('reload');
    assert.equal(refused.status, 1);
    for (const wanted of [/nonsense: unknown key/, /workerz: unknown key/, /other\.yaml:/]) {
        assert.match(refused.stderr, wanted);
    }
    assert.equal((await post('hello')).status, 200);
    assert.deepEqual(gateway.workers().map(({ pid }) => pid), workers);

    fs.rmSync(path.join(gateway.config, 'projects.d/other.yaml'));
    writeFiles(gateway.config, { 'promptgate.yaml': `${good}user: nobody\n` });
    const fixed = await ask('reload');
    assert.equal(fixed.status, 1);
    assert.match(fixed.stderr, /user cannot change by reload: restart needed/);
    writeFiles(gateway.config, { 'promptgate.yaml': good });
    assert.equal((await ask('reload')).status, 0);
});

test('"stop" ends with the gateway: the request in hand is answered, another may start at once', async () => {
    await start();
    mock.clear();
    const slow = gateway.post('held', { message: 'Hi' });
    await until('the call at the mock', () => mock.requests.length === 1);
    const stop = ask('stop');
    await until('the stop', () => /stopping: requests in flight/.test(gateway.stderr));
    mock.release();
    assert.equal((await slow).status, 200);
    const answer = await stop;
    assert.deepEqual([answer.status, answer.stderr], [0, '']);
    assert.ok(!look(gateway.pid), 'the master has ended');
    assert.deepEqual(await gateway.end(), { code: 0, signal: null });
    for (const verb of ['stop', 'reload', 'status']) {
        const none = await ask(verb);
        assert.equal(none.status, 1);
        assert.match(none.stderr, /no gateway is running: nobody listens at .*\/run\/control/);
    }
    await gateway.restart();
    assert.equal((await post('hello')).status, 200);
});

test('"Two serve on one directory: the second refuses", at once', async () => {
    await start();
    const began = Date.now();
    const second = await run('serve', '--config', gateway.config);
    assert.equal(second.status, 1);
    assert.match(second.stderr, new RegExp(`already running \\(pid ${gateway.pid}\\)`));
    assert.ok(Date.now() - began < 25_000, 'it does not wait for shutdown_timeout');
    assert.equal((await post('hello')).status, 200);
});

test('"serve after a killed master starts within shutdown_timeout", whatever its children do', async () => {
    await start({ service: { shutdown_timeout: '2s' } });
    mock.clear();
    const never = gateway.post('never', { message: 'Hi' }).catch((error) => error);
    await until('the call at the mock', () => mock.requests.length === 1);
    const left = gateway.children();
    const stuck = left.find(({ title }) => title.includes('worker'));
    process.kill(stuck.pid, 'SIGSTOP'); // an orphan that won't go by itself
    process.kill(gateway.pid, 'SIGKILL');
    await gateway.end();
    const began = Date.now();
    await gateway.restart();
    assert.ok(Date.now() - began < 30_000, `${Date.now() - began} ms, not the minute of the endpoint`);
    assert.deepEqual(left.filter(lives), []);
    assert.match(gateway.stderr, new RegExp(`killed process ${stuck.pid}, which an earlier master`));
    assert.equal((await post('hello')).status, 200);
    await never;
});

test('a keeper that hangs keeps nobody from stopping', async () => {
    await start({ service: { shutdown_timeout: '1s' } });
    assert.equal((await post('hello')).status, 200);
    const keeper = await until('the keeper', () => gateway.children().find(({ title }) => title === 'promptgate: keeper'));
    process.kill(keeper.pid, 'SIGSTOP');
    const stopped = await run('stop', '--config', gateway.config);
    assert.equal(stopped.status, 0, stopped.stderr);
    assert.equal(lives(keeper), false);
});

// ---- UNIX sockets

test('clients are served on a UNIX socket, by every worker', async () => {
    const local = path.join(temporaryDirectory(), 'http');
    await start({ service: { listen: ['127.0.0.1:0', `unix:${local}`] } });
    assert.equal(fs.statSync(local).mode & 0o777, 0o660);
    const answers = await Promise.all(Array.from({ length: 40 }, () => post('hello', { socketPath: local })));
    assert.ok(answers.every((answer) => answer.status === 200));
    const row = await gateway.row(answers[0].id);
    assert.equal(row.client_ip, 'unix');
    const victim = gateway.worker(0);
    process.kill(victim.pid, 'SIGKILL');
    await until('its end', () => !lives(victim));
    for (let i = 0; i < 10; i++) {
        assert.equal((await post('hello', { socketPath: local })).status, 200, 'the other worker accepts, too');
    }
    assert.equal((await ask('reload')).status, 0);
    assert.equal((await post('hello', { socketPath: local })).status, 200);
    await gateway.stop();
    assert.ok(!fs.existsSync(local), 'the file goes with the gateway');
    await gateway.restart();
    process.kill(gateway.pid, 'SIGKILL');
    await gateway.end();
    assert.ok(fs.existsSync(local), 'a killed one leaves it');
    await gateway.restart();
    assert.equal((await post('hello', { socketPath: local })).status, 200);
});

// ---- user

const PRIVILEGED = process.getuid() !== 0 && 'only root can become another user';

function statusOf(pid) {
    const text = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
    return (name) => new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(text)[1];
}

test('"user": taken on before bind, one capability kept by the master alone', { skip: PRIVILEGED }, async () => {
    const directory = temporaryDirectory();
    fs.chmodSync(directory, 0o755);
    await start({ service: { user: 'nobody', state_dir: path.join(directory, 'state'),
                             runtime_dir: path.join(directory, 'run'),
                             store: { driver: 'sqlite', path: path.join(directory, 'state/p.db') } } });
    gateway.database = path.join(directory, 'state/p.db');
    assert.equal(fs.statSync(path.join(directory, 'state')).uid, NOBODY);
    assertRights();
    const answer = await post('hello');
    assert.equal(answer.status, 200);
    await gateway.row(answer.id);
    assert.equal((await ask('status')).status, 0, 'root may ask');

    for (const name of [gateway.config, ...fs.readdirSync(gateway.config, { recursive: true })]) {
        fs.chownSync(path.resolve(gateway.config, name), Number(NOBODY), Number(NOBODY));
    }
    fs.chmodSync(gateway.directory, 0o755);
    const before = statusOf(gateway.pid)('CapPrm');
    const said = await gateway.upgrade();
    assert.equal(said.status, 0, said.stderr);
    assert.equal(statusOf(gateway.pid)('CapPrm'), before, 'the right goes with an upgrade');
    await until('the end of the old ones', async () => !/replaces_pid/.test((await ask('status')).stdout));
    assertRights();
});

/** Of the gateway's processes, once it has become its user. */
function assertRights() {
    const members = [gateway.pid, ...gateway.children().map(({ pid }) => pid)];
    assert.equal(members.length, 5);
    for (const pid of members) {
        const value = statusOf(pid);
        assert.equal(value('Uid'), Array(4).fill(NOBODY).join('\t'));
        assert.ok(!value('Groups').split(' ').includes('0'), 'root\'s groups are gone');
        const isMaster = pid === gateway.pid;
        const rights = BigInt(`0x${value('CapPrm')}`);
        assert.ok(isMaster ? (rights & ~(1n << 10n)) === 0n : rights === 0n, value('CapPrm'));
        assert.equal(value('NoNewPrivs'), isMaster ? '0' : '1');
        assert.equal(fs.statSync(`/proc/${pid}/mem`).uid, 0, 'closed to others of its user');
    }
}
