// Provider keys that are sealed: made on the command line, opened by the master alone, and nowhere to
// be seen.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, test } from 'node:test';

import { createToken, demo, PROMPTGATE, run, startGateway, temporaryDirectory, until } from './harness.mjs';
import { startMock } from './mock.mjs';
import { CLOSED } from './proc.mjs';

const KEY = 'sk-sealed-0123456789abcdef';
const NEXT = 'sk-sealed-another-9876543210';
const NOBODY = 65534;

let gateway;
let mock;

afterEach(async () => {
    await gateway?.stop();
    gateway = null;
    await mock?.stop();
    mock = null;
});

const credential = (...args) => {
    const options = typeof args.at(-1) === 'object' ? args.pop() : {};
    return run('credential', ...args, '--config', gateway.config, options);
};

async function good(...args) {
    const said = await credential(...args);
    assert.equal(said.status, 0, said.stderr);
    return said;
}

/** A gateway whose credential `main` is added on the command line before it starts. */
async function start(options = {}) {
    mock = await startMock();
    gateway = await startGateway({
        projects: demo({ plain: { provider: 'openai', credential: 'main', model: 'ok' } }),
        ...options,
        prepare: async (made) => {
            gateway = made;
            await good('init');
            const said = await good('add', 'main', '--provider', 'openai', '--base-url', mock.baseUrl, { input: `${KEY}\n` });
            assert.match(said.stderr, /its key sealed/);
            await options.prepare?.(made);
        },
    });
}

async function keyOfCall() {
    const { status, text } = await gateway.post('plain', { message: 'Hi' }, { headers: { connection: 'close' } });
    assert.equal(status, 200, text);
    return mock.requests.at(-1).headers.authorization.replace(/^Bearer /, '');
}

const secretKey = () => /promptgate-secret-key:(\S+)/.exec(fs.readFileSync(path.join(gateway.config, 'secret.key'), 'utf8'))[1];

test('added, used, replaced, resealed, removed', async () => {
    await start();
    assert.equal(await keyOfCall(), KEY);
    assert.deepEqual(JSON.parse((await good('list', '--json')).stdout),
                     [{ name: 'main', provider: 'openai', base_url: mock.baseUrl, key: 'sealed' }]);
    assert.match((await good('list')).stdout, /^NAME .*\nmain +openai +sealed +http:/);

    const again = await credential('add', 'main', '--provider', 'openai', { input: NEXT });
    assert.equal(again.status, 1);
    assert.match(again.stderr, /there is .*main\.yaml already: --replace changes its key/);
    const file = path.join(gateway.config, 'credentials.d/main.yaml');
    fs.appendFileSync(file, '# the team\'s own\n');
    await good('add', 'main', '--replace', { input: NEXT });
    assert.match(fs.readFileSync(file, 'utf8'), /# the team's own\n$/);
    assert.equal(await keyOfCall(), KEY, 'until a reload');
    assert.equal((await run('reload', '--config', gateway.config)).status, 0);
    assert.equal(await keyOfCall(), NEXT);

    const before = secretKey();
    assert.match((await good('reseal')).stderr, /^There is a new pair of keys, and 1 text is sealed for it/);
    assert.notEqual(secretKey(), before);
    assert.equal((await run('reload', '--config', gateway.config)).status, 0);
    assert.equal(await keyOfCall(), NEXT);

    const used = await credential('rm', 'main');
    assert.equal(used.status, 1);
    assert.match(used.stderr, /projects\.d\/demo\.yaml:\d+:\d+: uses main\n.*it is in use/);
    await good('add', 'other', '--provider', 'ollama');
    await good('rm', 'other');
    assert.equal(fs.existsSync(path.join(gateway.config, 'credentials.d/other.yaml')), false);
});

test('what is wrong with it is said, and nothing is written', async () => {
    await start();
    const refused = async (pattern, status, ...args) => {
        const said = await credential(...args);
        assert.deepEqual([said.status, said.stdout], [status, '']);
        assert.match(said.stderr, pattern);
    };
    await refused(/there is no provider "opnai": openai, anthropic/, 1, 'add', 'a', '--provider', 'opnai', { input: KEY });
    await refused(/the key is empty/, 1, 'add', 'a', '--provider', 'openai');
    await refused(/the key holds a space, line break/, 1, 'add', 'a', '--provider', 'openai', { input: 'sk one\n' });
    await refused(/the key holds a space, line break/, 1, 'add', 'a', '--provider', 'openai', { input: 'one\ntwo\n' });
    await refused(/the key: holds a NUL/, 1, 'add', 'a', '--provider', 'openai', { input: 'one\0two' });
    await refused(/the key: too long: 16384 bytes at most/, 1, 'add', 'a', '--provider', 'openai', { input: 'x'.repeat(20_000) });
    await refused(/lower-case letters/, 1, 'add', '../a', '--provider', 'openai', { input: KEY });
    await refused(/--base-url .*https/, 1, 'add', 'a', '--provider', 'openai', '--base-url', 'http://example.com', { input: KEY });
    await refused(/^usage: /, 2, 'add', 'a', { input: KEY });
    await refused(/^usage: /, 2, 'add', 'a', '--provider', 'openai', '--key', KEY);
    await refused(/there is no credential a in/, 1, 'rm', 'a');
    const project = path.join(gateway.config, 'projects.d/demo.yaml');
    const text = fs.readFileSync(project, 'utf8');
    fs.writeFileSync(project, `${text}: [`);
    await refused(/files that cannot be read may use it/, 1, 'rm', 'main');
    fs.writeFileSync(project, text);
    const folder = path.join(gateway.config, 'credentials.d');
    fs.renameSync(folder, `${folder}.away`);
    fs.writeFileSync(folder, '');
    await refused(/credentials\.d.*(Not a directory|cannot)/, 1, 'add', 'a', '--provider', 'openai', { input: KEY });
    fs.rmSync(folder);
    fs.renameSync(`${folder}.away`, folder);
    await refused(/there is no .*a\.yaml/, 1, 'add', 'a', '--replace', { input: KEY });
    fs.rmSync(path.join(gateway.config, 'secret.pub'));
    await refused(/`promptgate credential init` makes a pair/, 1, 'add', 'a', '--provider', 'openai', { input: KEY });
    assert.deepEqual(fs.readdirSync(path.join(gateway.config, 'credentials.d')), ['main.yaml']);
});

/** What a command says on a terminal on which `typed` is typed once it asks. */
function onTerminal(command, typed) {
    return new Promise((resolve, reject) => {
        let shown = '';
        const child = execFile('script', ['-qec', command, '/dev/null'], { timeout: 30_000 },
                               (error) => (error && typeof error.code !== 'number' ? reject(error)
                                   : resolve({ status: error?.code ?? 0, shown })));
        child.stdout.on('data', (text) => {
            shown += text;
            if (typed && /not shown/.test(shown)) {
                child.stdin.write(typed);
                typed = null;
            }
        });
    });
}

test('a key that is typed is not shown; whoever breaks off gets the terminal back', async () => {
    await start();
    const add = (name) => `${PROMPTGATE} credential add ${name} --provider openai --config ${gateway.config}`;
    const { status, shown } = await onTerminal(add('typed'), `${NEXT}\n`);
    assert.equal(status, 0, shown);
    assert.ok(!shown.includes(NEXT));
    const long = await onTerminal(add('long'), `${'k'.repeat(5000)}\n`);
    assert.deepEqual([long.status, /too long for a terminal/.test(long.shown)], [1, true], long.shown);
    const broken = await onTerminal(`trap : INT; ${add('broken')}; stty -a`, '\x03');
    assert.match(broken.shown, /[^-]echo /);
    assert.deepEqual(fs.readdirSync(path.join(gateway.config, 'credentials.d')).sort(), ['main.yaml', 'typed.yaml']);
});

/** Every file below the folder that holds the text. */
const holding = (folder, text) => fs.readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath ?? entry.path, entry.name))
    .filter((file) => fs.readFileSync(file, 'latin1').includes(text));

test('the key, and the key to it, are nowhere to be seen', { skip: CLOSED }, async () => {
    await start({ service: { log: { level: 'debug' }, gateway_logs: { bodies: 'all' } } });
    assert.equal(await keyOfCall(), KEY);
    const secrets = [KEY, secretKey()];
    const said = [await run('check', '--config', gateway.config), await run('explain', 'demo/plain', '--config', gateway.config),
                  await good('list'), await good('list', '--json'), await run('status', '--json', '--config', gateway.config)];
    await until('its row', () => gateway.rowCount() === 1);
    const members = [gateway.pid, ...gateway.children().map(({ pid }) => pid)];
    for (const secret of secrets) {
        assert.ok(!gateway.stderr.includes(secret), 'the log');
        said.forEach(({ stdout, stderr }, i) => assert.ok(!(stdout + stderr).includes(secret), `command ${i}`));
        for (const pid of members) {
            for (const name of ['environ', 'cmdline']) {
                assert.ok(!fs.readFileSync(`/proc/${pid}/${name}`, 'latin1').includes(secret), `${name} of ${pid}`);
            }
        }
    }
    assert.deepEqual(holding(gateway.directory, KEY), []);
    assert.deepEqual(holding(gateway.directory, secretKey()).map((file) => path.basename(file)), ['secret.key']);
    // In whose memory it is: the workers' alone, and of the pair's secret half the master's.
    assert.ok(gateway.workers().every(({ pid }) => memoryOf(pid).includes(KEY)));
    for (const [secret, roles] of [[KEY, /^promptgate: (worker|master)/], [secretKey(), /^promptgate: master/]]) {
        for (const { pid, title } of gateway.children().filter(({ title }) => !roles.test(title))) {
            assert.ok(!memoryOf(pid).includes(secret), `memory of ${title}`);
        }
    }
});

/** All that a process could be asked for by its own user, if that were allowed. */
function memoryOf(pid) {
    const fd = fs.openSync(`/proc/${pid}/mem`, 'r');
    const pieces = [];
    for (const [, from, to, rights] of fs.readFileSync(`/proc/${pid}/maps`, 'utf8').matchAll(/^([0-9a-f]+)-([0-9a-f]+) (\S+)/gm)) {
        const [begin, end] = [parseInt(from, 16), parseInt(to, 16)];
        if (!rights.startsWith('rw') || end - begin > 2 ** 30) {
            continue;
        }
        const piece = Buffer.alloc(end - begin);
        try {
            pieces.push(piece.subarray(0, fs.readSync(fd, piece, 0, piece.length, begin)).toString('latin1'));
        } catch {
            // not to be read
        }
    }
    fs.closeSync(fd);
    return pieces.join('');
}

test('started as root, it knows the key when it can no longer read it, and so does the next binary', { skip: process.getuid() !== 0 && 'only root can become another user' }, async () => {
    const directory = temporaryDirectory();
    fs.chmodSync(directory, 0o755);
    await start({
        service: { user: 'nobody', state_dir: path.join(directory, 'state'), runtime_dir: path.join(directory, 'run'),
                   store: { driver: 'sqlite', path: path.join(directory, 'state/p.db') } },
        prepare: (made) => {
            fs.chmodSync(made.directory, 0o755);
            for (const name of ['', ...fs.readdirSync(made.config, { recursive: true })]) {
                if (name !== 'secret.key') {
                    fs.chownSync(path.resolve(made.config, name), NOBODY, NOBODY);
                }
            }
        },
    });
    gateway.database = path.join(directory, 'state/p.db');
    assert.equal(fs.statSync(path.join(gateway.config, 'secret.key')).uid, 0);
    assert.equal(await keyOfCall(), KEY);
    await good('add', 'main', '--replace', { input: NEXT });
    assert.equal((await run('reload', '--config', gateway.config)).status, 0);
    assert.equal(await keyOfCall(), NEXT);
    for (const key of [KEY, NEXT]) {
        await good('add', 'main', '--replace', { input: key });
        const said = await gateway.upgrade();
        assert.equal(said.status, 0, said.stderr);
        assert.equal(await keyOfCall(), key);
        assert.ok(!fs.readFileSync(`/proc/${gateway.pid}/environ`, 'latin1').includes(secretKey()));
    }
    assert.equal(fs.statSync(path.join(gateway.config, 'secret.key')).mode & 0o777, 0o600);
    await createToken(gateway.config);
});
