// Configuration and the subcommands around it: every mistake in one run, with its place.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';

import { assertError, configFiles, createToken, demo, hashOf, PROJECT_ID, run, startGateway,
         temporaryDirectory, UUID7, writeFiles } from './harness.mjs';

const HELLO = demo({ hello: { provider: 'echo', model: 'echo' } });

/** A directory with a configuration in etc/. */
function configuration(options = {}) {
    const directory = temporaryDirectory();
    const config = path.join(directory, 'etc');
    writeFiles(config, configFiles(directory, { projects: HELLO, ...options }));
    return { directory, config };
}

/** The errors (not the warnings) that name a place, as { place: "file:line:column", text }. */
function places(output, config) {
    return output.split('\n')
        .map((line) => /^(\S+\.yaml):(\d+):(\d+): (.*)$/.exec(line))
        .filter((found) => found && !found[4].startsWith('warning: '))
        .map(([, file, line, column, text]) => ({
            place: `${path.relative(config, file)}:${line}:${column}`, text }));
}

const MISTAKES = {
    'promptgate.yaml': `listen: 127.0.0.1:0
state_dir: /tmp
runtime_dir: /tmp
wrokers: 2
shutdown_timeout: soon
http:
  max_body: 10MB
  max_bdy: 1MiB
log:
  level: loud
`,
    'credentials.d/main.yaml': `provider: openia
api_key: sk-1
`,
    'projects.d/demo.yaml': `id: 0192f0c1
endpoints:
  hello:
    provider: openai
    model: gpt
    credential: mian
    temperature: 3
`,
    'tokens.d/web.yaml': `project: demo
hash: abc
`,
};
const EXPECTED = [
    ['promptgate.yaml:4:1', /wrokers: .*\bworkers\b/],
    ['promptgate.yaml:5:19', /shutdown_timeout: .*"soon"/],
    ['promptgate.yaml:7:13', /http\.max_body: .*MiB/],
    ['promptgate.yaml:8:3', /http\.max_bdy: .*\bmax_body\b/],
    ['promptgate.yaml:10:10', /log\.level: .*\berror\b.*\bwarning\b.*\binfo\b.*\bdebug\b/],
    ['credentials.d/main.yaml:1:11', /provider: .*\bopenai\b/],
    ['projects.d/demo.yaml:1:5', /id: .*UUID/],
    ['projects.d/demo.yaml:6:17', /endpoints\.hello\.credential: .*\bmian\b.*\bmain\b/],
    ['projects.d/demo.yaml:7:18', /endpoints\.hello\.temperature: .*\b2\b/],
    ['tokens.d/web.yaml:2:7', /hash: .*sha256:/],
];

describe('mistakes', () => {
    for (const command of ['check', 'serve']) {
        test(`${command}: "a config with ten mistakes reports ten, with positions"`, async () => {
            const config = path.join(temporaryDirectory(), 'etc');
            writeFiles(config, MISTAKES);
            const { status, stdout, stderr } = await run(command, '--config', config);
            assert.equal(status, 1);
            const found = places(stdout + stderr, config);
            assert.deepEqual(found.map(({ place }) => place), EXPECTED.map(([place]) => place),
                             stdout + stderr);
            found.forEach(({ text }, i) => assert.match(text, EXPECTED[i][1]));
            assert.ok(!(stdout + stderr).includes('sk-1'), 'a key is never shown');
        });
    }

    test('a file that is not YAML is reported with its place, and the others are read all the same', async () => {
        const { config } = configuration();
        writeFiles(config, { 'tokens.d/bad.yaml': 'project: [demo\n', 'tokens.d/typo.yaml': 'hsah: x\n' });
        const { status, stdout, stderr } = await run('check', '--config', config);
        assert.equal(status, 1);
        const files = places(stdout + stderr, config).map(({ place }) => place.replace(/:.*/, ''));
        assert.ok(files.includes('tokens.d/bad.yaml') && files.includes('tokens.d/typo.yaml'),
                  stdout + stderr);
    });

    test('"A key whose feature is not there yet is unknown"', async () => {
        for (const [file, content] of Object.entries({
            'promptgate.yaml': 'admin: { listen: 127.0.0.1:8081 }\n',
            'projects.d/more.yaml': 'id: 0192f0c1-7e7a-7cc3-98c4-dc0c0c073999\nsession: { ttl: 1h }\n',
            'tokens.d/more.yaml': `project: demo\nhash: ${hashOf('x')}\ntoken_groups: [a]\n`,
        })) {
            const { config } = configuration();
            writeFiles(config, { [file]: content });
            const { status, stdout, stderr } = await run('check', '--config', config);
            assert.equal(status, 1, file);
            assert.match(stdout + stderr, /unknown/, file);
        }
    });

    test('two tokens of one hash, two projects of one id: errors', async () => {
        const token = { project: 'demo', hash: hashOf('x') };
        const twice = configuration({ tokens: { a: token, b: token } });
        assert.equal((await run('check', '--config', twice.config)).status, 1);
        const projects = { ...HELLO, again: HELLO.demo };
        assert.equal((await run('check', '--config', configuration({ projects }).config)).status, 1);
    });

    test('a directory that is not there: exit 1 and a sentence', async () => {
        const { status, stderr, stdout } = await run('check', '--config', '/nowhere/promptgate');
        assert.equal(status, 1);
        assert.match(stdout + stderr, /\/nowhere\/promptgate/);
    });
});

describe('check', () => {
    test('a good configuration: exit 0', async () => {
        const { config } = configuration();
        const { status, stdout, stderr } = await run('check', '--config', config);
        assert.equal(status, 0, stdout + stderr);
        assert.deepEqual(places(stdout + stderr, config), []);
    });

    test('"default $PROMPTGATE_CONFIG"', async () => {
        const { config } = configuration();
        const env = { ...process.env, PROMPTGATE_CONFIG: config };
        assert.equal((await run('check', { env })).status, 0);
    });

    test('"a plain key is a warning", and is not shown', async () => {
        const { config } = configuration({
            credentials: { main: { provider: 'openai', api_key: 'sk-plain-key' } } });
        const { status, stdout, stderr } = await run('check', '--config', config);
        assert.equal(status, 0);
        assert.match(stderr, /credentials\.d\/main\.yaml:2:10: warning: api_key: /);
        assert.ok(!(stdout + stderr).includes('sk-plain-key'));
    });

    test('--keys lists every key with type, default and help', async () => {
        const { status, stdout } = await run('check', '--keys');
        assert.equal(status, 0);
        const table = fs.readFileSync(new URL('../../master/config/keys.def', import.meta.url), 'utf8');
        const names = [...table.matchAll(/^KEY\(\w+, \w+, "([\w.]+)"/gm)].map(([, name]) => name);
        assert.ok(names.length > 40);
        for (const name of names) {
            assert.match(stdout, new RegExp(`(^|\\s)${name.replaceAll('.', '\\.')}\\b`, 'm'), name);
        }
        assert.match(stdout, /http\.max_body\b.*10MiB/);
    });
});

describe('tokens', () => {
    test('"token create prints a new token once, writes its hash"', async () => {
        const { config } = configuration();
        const token = await createToken(config);
        assert.match(token, /^pg_live_[A-Za-z0-9_-]{43}$/);
        assert.equal((await run('check', '--config', config)).status, 0);
        const files = fs.readdirSync(path.join(config, 'tokens.d'))
            .map((name) => path.join(config, 'tokens.d', name));
        const texts = files.map((file) => fs.readFileSync(file, 'utf8'));
        assert.ok(texts.some((text) => text.includes(hashOf(token))), texts.join('\n'));
        assert.ok(texts.every((text) => !text.includes(token)), 'never the token itself');
    });

    test('create, list, revoke, without a gateway', async () => {
        const { config } = configuration();
        await createToken(config);
        const listed = await run('token', 'list', '--config', config, '--json');
        assert.equal(listed.status, 0, listed.stderr);
        const tokens = JSON.parse(listed.stdout);
        assert.equal(tokens.length, 1);
        assert.equal(tokens[0].project, 'demo');
        assert.equal(tokens[0].state, 'active');
        const table = await run('token', 'list', '--config', config);
        assert.match(table.stdout, new RegExp(tokens[0].name));

        const revoked = await run('token', 'revoke', '--config', config, tokens[0].name);
        assert.equal(revoked.status, 0, revoked.stderr);
        assert.match(revoked.stderr, /No gateway is running/);
        const after = JSON.parse((await run('token', 'list', '--config', config, '--json')).stdout);
        assert.deepEqual(after.map(({ name, state }) => [name, state]), [[tokens[0].name, 'revoked']]);
        assert.equal((await run('check', '--config', config)).status, 0);
    });

    test('a project that does not exist, a token that does not exist: exit 1', async () => {
        const { config } = configuration();
        const made = await run('token', 'create', '--config', config, '--project', 'domo');
        assert.equal(made.status, 1);
        assert.match(made.stderr, /domo/);
        assert.doesNotMatch(made.stdout, /pg_live_/);
        assert.equal((await run('token', 'revoke', '--config', config, 'nobody')).status, 1);
    });

    test('a revoked token is 401, the other one serves', async () => {
        const gateway = await startGateway({ workers: 1 });
        const second = await createToken(gateway.config);
        await gateway.stop();
        const list = JSON.parse((await run('token', 'list', '--config', gateway.config, '--json')).stdout);
        const first = list.find(({ prefix }) => gateway.token.startsWith(prefix));
        assert.equal((await run('token', 'revoke', '--config', gateway.config, first.name)).status, 0);
        await gateway.restart();
        assertError(await gateway.post('hello', { message: 'Hi' }), 401, 'unauthorized');
        const answer = await gateway.post('hello', { message: 'Hi' }, { token: second });
        assert.equal(answer.status, 200, answer.text);
        await gateway.stop();
    });
});

describe('rotation and projects', () => {
    test('a rotated token: the old one is 401, the new one has its name', async () => {
        const gateway = await startGateway({ workers: 1 });
        const [{ name }] = JSON.parse((await run('token', 'list', '--config', gateway.config, '--json')).stdout);
        const { status, stdout, stderr } = await run('token', 'rotate', '--config', gateway.config, name);
        assert.equal(status, 0, stderr);
        const fresh = stdout.trim();
        assert.match(fresh, /^pg_live_[A-Za-z0-9_-]{43}$/);
        assertError(await gateway.post('hello', { message: 'Hi' }, { headers: { connection: 'close' } }), 401, 'unauthorized');
        const { status: served, id } = await gateway.post('hello', { message: 'Hi' }, { token: fresh, headers: { connection: 'close' } });
        assert.equal(served, 200);
        assert.equal((await gateway.row(id)).token, name);
        await gateway.stop();
    });

    test('project create makes a file that can be served; list shows it', async () => {
        const gateway = await startGateway({ workers: 1 });
        const made = await run('project', 'create', '--config', gateway.config, '--name', 'shop', '--title', 'The "shop": ü');
        assert.equal(made.status, 0, made.stderr);
        const id = made.stdout.trim();
        assert.match(id, UUID7);
        assert.equal((await run('check', '--config', gateway.config)).status, 0);
        const list = JSON.parse((await run('project', 'list', '--config', gateway.config, '--json')).stdout);
        assert.deepEqual(list.find(({ name }) => name === 'shop'),
                         { name: 'shop', id, title: 'The "shop": ü', active: true, endpoints: [] });
        assert.deepEqual(list.find(({ name }) => name === 'demo').endpoints, ['hello']);
        assert.match((await run('project', 'list', '--config', gateway.config)).stdout, /^shop +[0-9a-f-]{36} active +0 {2}The "shop": ü$/m);
        for (const args of [['--name', 'shop'], ['--name', 'No'], ['--name', 'x', '--title', 'y'.repeat(201)]]) {
            assert.equal((await run('project', 'create', '--config', gateway.config, ...args)).status, 1, args.join(' '));
        }
        assert.equal((await run('project', 'create', '--config', gateway.config)).status, 2);
        await gateway.stop();
    });
});

describe('command line', () => {
    test('"Exit status: … 2 wrong usage"', async () => {
        for (const args of [[], ['frobnicate'], ['serve', '--nope'], ['check', '--config'], ['token'],
                            ['token', 'frobnicate'], ['token', 'create', '--bogus', 'x'],
                            ['logs', '--limit', 'many'], ['version', 'extra']]) {
            const { status, stderr } = await run(...args);
            assert.equal(status, 2, args.join(' '));
            assert.match(stderr, /\S/, args.join(' '));
        }
    });

    test('version', async () => {
        const { status, stdout } = await run('version');
        assert.equal(status, 0);
        assert.match(stdout, /^promptgate \d+\.\d+\.\d+\b/);
    });

    test('"port 0 prints the chosen one"; a port that is taken is an error of serve', async () => {
        const gateway = await startGateway({ workers: 1 });
        assert.ok(gateway.port > 0);
        const { config } = configuration({ service: { listen: `127.0.0.1:${gateway.port}` } });
        const second = await run('serve', '--config', config);
        assert.equal(second.status, 1);
        assert.match(second.stderr, new RegExp(`127\\.0\\.0\\.1:${gateway.port}`));
        const answer = await gateway.post('hello', { message: 'Hi' });
        assert.equal(answer.status, 200, `${PROJECT_ID} is served by the first one`);
        await gateway.stop();
    });
});
