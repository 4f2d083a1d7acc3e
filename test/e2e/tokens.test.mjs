// Tokens that come, change and go while the gateway runs: at once, everywhere, without a new
// generation.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { afterEach, describe, test } from 'node:test';

import { assertError, createToken, demo, makeToken, PROJECT_ID, run, startGateway,
         writeFiles } from './harness.mjs';

let gateway;

afterEach(async () => {
    if (gateway && gateway.child.exitCode === null && gateway.child.signalCode === null) {
        await gateway.stop();
    }
    gateway = null;
});

async function start(options = {}) {
    const echo = { provider: 'echo', model: 'echo' };
    gateway = await startGateway({ projects: demo({ hello: echo, other: echo }), ...options });
    return gateway;
}

const command = (...args) => run(...args, '--config', gateway.config);

/** `promptgate token …`, which must succeed. */
async function token(...args) {
    const done = await command('token', ...args);
    assert.equal(done.status, 0, done.stderr);
    return done;
}

const tokenFile = (name) => path.join(gateway.config, 'tokens.d', `${name}.yaml`);

/** One connection that stays open: its worker's, whatever generation that is of. */
class Kept {
    agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

    post(credential, slug = 'hello') {
        return new Promise((resolve, reject) => {
            const body = '{"message":"Hi"}';
            const request = http.request({
                host: '127.0.0.1', port: gateway.port, agent: this.agent, method: 'POST',
                path: `/api/${PROJECT_ID}/${slug}`,
                headers: { authorization: `Bearer ${credential}`, 'content-type': 'application/json',
                           'content-length': body.length },
            }, (response) => {
                response.resume().on('end', () => resolve({ status: response.statusCode,
                                                            reused: request.reusedSocket,
                                                            id: response.headers['x-request-id'] }));
            });
            request.on('error', reject).end(body);
        });
    }

    close() {
        this.agent.destroy();
    }
}

const statusOf = async (credential, slug = 'hello') =>
    (await gateway.post(slug, { message: 'Hi' }, { token: credential,
                                                   headers: { connection: 'close' } })).status;

async function generations() {
    const { stdout } = await command('status', '--json');
    return JSON.parse(stdout).generations.map(({ number }) => number);
}

describe('without a new generation', () => {
    test('a token is made, narrowed by hand, rotated, revoked: at once, on open connections, too', async () => {
        await start();
        const workers = gateway.workers().map(({ pid }) => pid);
        const kept = new Kept();
        const made = await token('create', '--project', 'demo', '--name', 'web');
        assert.match(made.stderr, /The running gateway has taken it over/);
        const first = made.stdout.trim();
        const answer = await kept.post(first);
        assert.equal(answer.status, 200);
        assert.equal((await gateway.row(answer.id)).token, 'web');

        fs.appendFileSync(tokenFile('web'), 'endpoints: [other]\n');
        const second = (await token('rotate', 'web')).stdout.trim();
        assert.deepEqual([(await kept.post(first)).status, (await kept.post(second)).status,
                          (await kept.post(second, 'other')).status], [401, 403, 200]);

        await token('revoke', 'web');
        const last = await kept.post(second, 'other');
        assert.deepEqual([last.status, last.reused], [401, true]);
        assert.equal((await kept.post(gateway.token)).status, 200, 'the others stay');
        kept.close();
        assert.deepEqual(await generations(), [1]);
        assert.deepEqual(gateway.workers().map(({ pid }) => pid), workers);
        assert.equal((await command('reload')).status, 0);
        assert.equal(await statusOf(second, 'other'), 401);
    });

    test('a worker that is started later knows them, too', async () => {
        await start({ workers: 1 });
        const fresh = await createToken(gateway.config);
        await token('revoke', JSON.parse((await token('list', '--json')).stdout)
            .find(({ prefix }) => gateway.token.startsWith(prefix)).name);
        process.kill(gateway.workers()[0].pid, 'SIGKILL');
        for (let i = 0; i < 10; i++) {
            assert.equal(await statusOf(fresh).catch(() => 200), 200);
            assert.equal(await statusOf(gateway.token).catch(() => 401), 401);
        }
    });

    test('an older generation that still has connections obeys: the command, and a reload', async () => {
        await start({ workers: 1 });
        const byCommand = await createToken(gateway.config, 'demo', '--name', 'by-command');
        const byReload = await createToken(gateway.config, 'demo', '--name', 'by-reload');
        const [first, second, third] = [new Kept(), new Kept(), new Kept()];
        for (const kept of [first, second, third]) {
            assert.equal((await kept.post(gateway.token)).status, 200);
        }
        fs.rmSync(tokenFile('by-reload'));
        assert.equal((await command('reload')).status, 0);
        assert.deepEqual(await generations(), [1, 2]);
        await token('revoke', 'by-command');
        const refused = [await first.post(byReload), await second.post(byCommand)];
        const late = await createToken(gateway.config, 'demo', '--name', 'late');
        for (const [answer, status] of [[refused[0], 401], [refused[1], 401], [await third.post(late), 200]]) {
            assert.deepEqual([answer.status, answer.reused], [status, true]);
        }
        for (const kept of [first, second, third]) {
            kept.close();
        }
    });

    test('a reload that read the files before the change does not undo it', async () => {
        await start({ workers: 1, tokens: Object.fromEntries(Array.from({ length: 2000 },
            (_, i) => [`filler-${i}`, makeToken().entry])) });
        for (let i = 0; i < 8; i++) {
            const doomed = await createToken(gateway.config, 'demo', '--name', `doomed-${i}`);
            const reload = command('reload');
            let reloaded = false;
            reload.then(() => {
                reloaded = true;
            });
            await new Promise((resolve) => setTimeout(resolve, 15 * i));
            await token('revoke', `doomed-${i}`);
            const late = await createToken(gateway.config, 'demo', '--name', `late-${i}`);
            do {
                assert.deepEqual([await statusOf(doomed), await statusOf(late)], [401, 200]);
            } while (!reloaded);
            assert.equal((await reload).status, 0);
            assert.deepEqual([await statusOf(doomed), await statusOf(late)], [401, 200]);
        }
    });
});

describe('what the gateway does not take', () => {
    test('a project that it does not know yet: said, with the file, and a reload helps', async () => {
        await start({ workers: 1 });
        const echo = { provider: 'echo', model: 'echo' };
        const id = '0192f0c1-7e7a-7cc3-98c4-dc0c0c0739aa';
        writeFiles(gateway.config, { 'projects.d/shop.yaml': { id, endpoints: { hello: echo } } });
        const made = await command('token', 'create', '--project', 'shop');
        assert.equal(made.status, 1);
        assert.match(made.stderr, /not taken it over/);
        assert.match(made.stderr, /tokens\.d\/shop\.yaml:1:10: project: .* does not know the project shop: reload it/);
        const fresh = made.stdout.trim();
        const post = () => gateway.post('hello', { message: 'Hi' },
                                        { token: fresh, project: id, headers: { connection: 'close' } });
        assertError(await post(), 401, 'unauthorized');
        assert.equal((await command('reload')).status, 0);
        assert.equal((await post()).status, 200);
    });

    test('a token that is there already under another name', async () => {
        await start({ workers: 1 });
        const web = await createToken(gateway.config, 'demo', '--name', 'web');
        fs.copyFileSync(tokenFile('web'), tokenFile('copy'));
        const revoked = await command('token', 'revoke', 'copy');
        assert.equal(revoked.status, 1);
        assert.match(revoked.stderr, /copy\.yaml:\d+:\d+: hash: is the hash of the token web already/);
        assert.equal(await statusOf(web), 200, 'nothing has changed');
    });

    test('a file that went with its tokens, and one in a list', async () => {
        const listed = [makeToken(), makeToken(), makeToken()];
        await start({ workers: 1, tokens: { list: listed.map(({ entry }) => entry) } });
        const statuses = () => Promise.all(listed.map(({ token: one }) => statusOf(one)));
        assert.deepEqual(await statuses(), [200, 200, 200]);
        await token('revoke', listed[1].entry.prefix);
        assert.deepEqual(await statuses(), [200, 401, 200]);
        const fresh = (await token('rotate', `list:${listed[2].entry.prefix}`)).stdout.trim();
        assert.deepEqual([...await statuses(), await statusOf(fresh)], [200, 401, 401, 200]);
        fs.writeFileSync(tokenFile('list'), '[]\n');
        assert.equal((await command('check')).status, 0);
        assert.equal((await command('reload')).status, 0);
        assert.deepEqual([...await statuses(), await statusOf(fresh)], [401, 401, 401, 401]);
    });
});

test('revoking or adding one among 100,000 takes less time than reading them all', async (t) => {
    const lists = Object.fromEntries(Array.from({ length: 20 }, (_, i) =>
        [`list-${i}`, Array.from({ length: 5_000 }, () => makeToken())]));
    const tokens = Object.fromEntries(Object.entries(lists)
        .map(([name, made]) => [name, made.map(({ entry }) => entry)]));
    await start({ workers: 2, tokens: { web: makeToken().entry, ...tokens } });
    const timed = async (what, run_) => {
        const began = performance.now();
        const result = await run_();
        const took = performance.now() - began;
        t.diagnostic(`${what}: ${took.toFixed(0)} ms`);
        return [took, result];
    };
    const [readingAll, checked] = await timed('check, which reads them all', () => command('check'));
    assert.equal(checked.status, 0, checked.stderr);
    const within = async (share, what, run_) => {
        const [took, result] = await timed(what, run_);
        assert.ok(took < readingAll * share, `${what}: ${took} ms, reading all: ${readingAll} ms`);
        return result;
    };
    const probe = lists['list-7'][2500];
    assert.equal(await statusOf(probe.token), 200);
    const made = await within(1 / 4, 'create', () =>
        createToken(gateway.config, 'demo', '--name', 'fresh'));
    assert.equal(await statusOf(made), 200);
    await within(1 / 4, 'revoke', () => token('revoke', 'fresh'));
    assert.equal(await statusOf(made), 401);
    await within(1, 'revoke in a list of 5,000', () =>
        token('revoke', `list-7:${probe.entry.prefix}`));
    assert.equal(await statusOf(probe.token), 401);
    assert.equal(await statusOf(lists['list-7'][2501].token), 200);
    assert.deepEqual(await generations(), [1]);
});
