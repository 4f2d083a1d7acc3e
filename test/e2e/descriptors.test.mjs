// A worker that runs out of descriptors.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Connection, post } from '../soak/client.mjs';
import { demo, PATIENCE, PROJECT_ID, SANITIZE, startGateway, until } from './harness.mjs';
import { mockCredential, startMock } from './mock.mjs';
import { cpuMs } from './proc.mjs';

const LIMIT = 64;
const KEPT = 10; // a quarter of the limit is for providers: these can all call at once
const CROWD = 100;

let mock;

before(async () => {
    mock = await startMock();
});

after(async () => {
    await mock?.stop();
});

function start() {
    return startGateway({
        workers: 1,
        credentials: { mock: mockCredential(mock) },
        projects: demo({
            hello: { provider: 'echo', model: 'echo' },
            late: { provider: 'openai', credential: 'mock', model: 'delay-300', timeout: '20s' },
        }),
    });
}

function limit(pid, count) {
    execFileSync('prlimit', ['--pid', String(pid), `--nofile=${count}:`]);
}

async function ask(gateway, line, slug) {
    await line.send(post(`/api/${PROJECT_ID}/${slug}`, '{"message":"Hi"}',
                         { Authorization: `Bearer ${gateway.token}` }));
    return line.answer();
}

async function askAll(gateway, lines, slug) {
    const answers = await Promise.all(lines.map((line) => ask(gateway, line, slug)));
    assert.deepEqual(answers.map(({ status }) => status), lines.map(() => 200), answers[0].text);
}

function connect(gateway) {
    return new Promise((resolve, reject) => {
        const socket = net.connect(gateway.port, '127.0.0.1', () => resolve(socket));
        socket.ended = false;
        socket.on('close', () => {
            socket.ended = true;
        }).on('error', reject).resume();
    });
}

test('"EMFILE on accept: existing clients unaffected, no busy loop"; those who wait are served ' +
     'as soon as descriptors are free', async (t) => {
    const gateway = await start();
    const { pid } = gateway.worker(0);
    limit(pid, LIMIT);
    await sleep(500 * PATIENCE); // until the worker has looked
    const kept = Array.from({ length: KEPT }, () => new Connection(gateway.port, '127.0.0.1'));
    await askAll(gateway, kept, 'hello');

    const crowd = await Promise.all(Array.from({ length: CROWD }, () => connect(gateway)));
    const waiting = new Connection(gateway.port, '127.0.0.1');
    let answered = false;
    const answer = ask(gateway, waiting, 'hello').finally(() => {
        answered = true;
    });
    answer.catch(() => {});
    await until('the limit', () => /new connections wait/.test(gateway.stderr));
    await sleep(300);

    const [before_, began] = [cpuMs(pid), performance.now()];
    await sleep(3000);
    const busy = (cpuMs(pid) - before_) / (performance.now() - began);
    t.diagnostic(`${(busy * 100).toFixed(1)} % of a processor at the limit`);
    assert.ok(busy < (SANITIZE ? 0.25 : 0.1), `${busy} of a processor`);
    const said = gateway.stderr.match(/new connections wait/g).length;
    assert.ok(said < 5, `said ${said} times`);

    for (let i = 0; i < 3; i++) {
        await askAll(gateway, kept, 'hello');
        await askAll(gateway, kept, 'late'); // connections to the provider are made for them
    }
    assert.equal(answered, false, 'the one behind the crowd waits');
    assert.equal(crowd.filter(({ ended }) => ended).length, 0, 'nobody is turned away');

    crowd.forEach((socket) => socket.destroy());
    assert.equal((await answer).status, 200);
    const fresh = new Connection(gateway.port, '127.0.0.1');
    assert.equal((await ask(gateway, fresh, 'late')).status, 200);
    [...kept, waiting, fresh].forEach((line) => line.leave());
    assert.equal(gateway.worker(0).pid, pid);
    await gateway.rowsReach(7 * KEPT + 2);
    await gateway.stop();
    assert.equal(gateway.rowCount(), 7 * KEPT + 2);
});

test('a limit below what is in use already: the same', async () => {
    const gateway = await start();
    const { pid } = gateway.worker(0);
    const kept = Array.from({ length: KEPT }, () => new Connection(gateway.port, '127.0.0.1'));
    await askAll(gateway, kept, 'late');
    limit(pid, 8);
    await sleep(500 * PATIENCE);
    const waiting = new Connection(gateway.port, '127.0.0.1');
    const answer = ask(gateway, waiting, 'hello');
    answer.catch(() => {});
    await sleep(500);
    const [before_, began] = [cpuMs(pid), performance.now()];
    await sleep(2000);
    const busy = (cpuMs(pid) - before_) / (performance.now() - began);
    assert.ok(busy < (SANITIZE ? 0.25 : 0.1), `${busy} of a processor`);
    await askAll(gateway, kept, 'hello');
    await askAll(gateway, kept, 'late'); // by the connections it has
    limit(pid, 1024);
    assert.equal((await answer).status, 200);
    [...kept, waiting].forEach((line) => line.leave());
    await gateway.stop();
    assert.equal(gateway.rowCount(), 3 * KEPT + 1);
});

test('"serve raises its soft limit of open files to the hard one"', async () => {
    const gateway = await startGateway({ launcher: ['prlimit', '--nofile=512:2048'] });
    const limits = fs.readFileSync(`/proc/${gateway.worker(0).pid}/limits`, 'utf8');
    assert.match(limits, /^Max open files +2048 +2048 /m);
    await gateway.stop();
});
