// `promptgate logs`: the rows, as a table, as JSON, and as they come.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { after, before, test } from 'node:test';

import { demo, PROMPTGATE, run, startGateway, until, writeFiles } from './harness.mjs';

let gateway;

before(async () => {
    gateway = await startGateway({
        workers: 1,
        projects: demo({ hello: { provider: 'echo', model: 'echo' },
                         fail: { provider: 'echo', model: 'echo/fail-503' } }),
    });
});

after(async () => {
    await gateway?.stop();
});

async function sent(slug, status) {
    const answer = await gateway.post(slug, { message: 'Hi' });
    assert.equal(answer.status, status, answer.text);
    await gateway.row(answer.id);
    return answer.id;
}

function parsed(text) {
    return text.trimEnd().split('\n').filter(Boolean).map((line) => JSON.parse(line));
}

test('logs --json: one object a line, with every column', async () => {
    const ids = [await sent('hello', 200), await sent('fail', 502)];
    const { status, stdout, stderr } = await run('logs', '--config', gateway.config, '--json');
    assert.equal(status, 0, stderr);
    const rows = parsed(stdout);
    assert.deepEqual(rows.map((row) => row.request_id).sort(), [...ids].sort());
    const ok = rows.find((row) => row.request_id === ids[0]);
    assert.equal(ok.status, 'ok');
    assert.equal(ok.http_status, 200);
    assert.equal(ok.endpoint, 'hello');
    const stored = gateway.rows();
    for (const column of Object.keys(stored[0]).filter((name) => name !== 'cost_usd')) {
        assert.ok(column in ok, column);
    }
    const failed = rows.find((row) => row.request_id === ids[1]);
    assert.equal(failed.status, 'provider_error');
    assert.equal(failed.http_status, 502);
});

test('logs: a table for people', async () => {
    const id = await sent('hello', 200);
    const { status, stdout } = await run('logs', '--config', gateway.config);
    assert.equal(status, 0);
    const line = stdout.split('\n').find((text) => text.includes(id) || /\bhello\b/.test(text));
    assert.ok(line, stdout);
    assert.match(stdout, /\bok\b/);
    assert.match(stdout, /\bprovider_error\b|\b502\b/);
});

test('logs on a terminal: the status has a colour; not elsewhere, nor where none is wanted', async () => {
    const onTerminal = (env) => execFileSync('script', ['-qec', `${PROMPTGATE} logs --config ${gateway.config}`, '/dev/null'],
                                             { encoding: 'utf8', env: { ...process.env, TERM: 'xterm', NO_COLOR: '', ...env } });
    const shown = onTerminal({});
    assert.match(shown, /\x1b\[32mok +\x1b\[0m/);
    assert.match(shown, /\x1b\[31mprovider_error +\x1b\[0m/);
    for (const env of [{ NO_COLOR: '1' }, { TERM: 'dumb' }]) {
        assert.ok(!onTerminal(env).includes('\x1b'));
    }
    const { stdout } = await run('logs', '--config', gateway.config);
    assert.ok(!stdout.includes('\x1b'));
    const [heading, row] = stdout.split('\n');
    assert.equal(heading.indexOf('STATUS'), row.search(/\b(ok|provider_error)\b/), 'columns stand below their names');
});

test('logs --limit: the newest', async () => {
    const ids = [await sent('hello', 200), await sent('hello', 200), await sent('hello', 200)];
    const { stdout } = await run('logs', '--config', gateway.config, '--json', '--limit', '2');
    assert.deepEqual(parsed(stdout).map((row) => row.request_id).sort(), ids.slice(1).sort());
});

test('logs --follow: rows as they come, each once, until it is stopped', async () => {
    const child = spawn(PROMPTGATE, ['logs', '--config', gateway.config, '--json', '--follow'],
                        { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
        text += chunk;
    });
    const seen = () => parsed(text.slice(0, text.lastIndexOf('\n') + 1)).map((row) => row.request_id);
    try {
        const first = await sent('hello', 200);
        await until('the first row', () => seen().includes(first));
        const second = await sent('fail', 502);
        await until('the second row', () => seen().includes(second));
        assert.equal(new Set(seen()).size, seen().length);
    } finally {
        child.kill('SIGINT');
    }
    await until('its end', () => child.exitCode !== null || child.signalCode !== null);
});

test('logs while the gateway is stopped, and before anything was stored', async () => {
    const quiet = await startGateway({ workers: 1 });
    const none = await run('logs', '--config', quiet.config, '--json');
    assert.equal(none.status, 0, none.stderr);
    assert.equal(none.stdout.trim(), '');
    const { id } = await quiet.post('hello', { message: 'Hi' });
    await quiet.stop();
    const rows = parsed((await run('logs', '--config', quiet.config, '--json')).stdout);
    assert.deepEqual(rows.map((row) => row.request_id), [id]);
});

test('logs in a terminal that has no key, and while a project is being edited', async () => {
    const id = await sent('hello', 200);
    writeFiles(gateway.config, {
        'credentials.d/later.yaml': { provider: 'openai', api_key: 'env:PROMPTGATE_NOT_SET' },
        'projects.d/half.yaml': 'id: [',
    });
    const { status, stdout, stderr } = await run('logs', '--config', gateway.config, '--json');
    assert.equal(status, 0, stderr);
    assert.ok(parsed(stdout).some((row) => row.request_id === id));
});

test('logs with filters: those rows and no others', async () => {
    const began = new Date().toISOString();
    await sent('hello', 200);
    await sent('fail', 502);
    const logs = async (...options) => {
        const { status, stdout, stderr } =
            await run('logs', '--config', gateway.config, '--json', '--limit', '1000', ...options);
        assert.equal(status, 0, stderr);
        return parsed(stdout);
    };
    const all = await logs();
    const expected = (fits) => all.filter(fits).map((row) => row.request_id);
    const same = async (options, fits) => {
        const wanted = expected(fits);
        assert.ok(wanted.length > 0 && wanted.length < all.length, options.join(' '));
        assert.deepEqual((await logs(...options)).map((row) => row.request_id), wanted, options.join(' '));
    };
    await same(['--endpoint', 'fail'], (row) => row.endpoint === 'fail');
    await same(['--endpoint', 'demo/hello'], (row) => row.endpoint === 'hello');
    await same(['--status', 'provider_error'], (row) => row.status === 'provider_error');
    await same(['--status=ok'], (row) => row.status === 'ok');
    await same(['--since', began], (row) => row.created_at >= began);
    await same(['--until', began], (row) => row.created_at < began);
    await same(['--since', began, '--endpoint', 'fail'],
               (row) => row.created_at >= began && row.endpoint === 'fail');
    assert.deepEqual(await logs('--endpoint', 'other/hello'), []);
    assert.deepEqual(await logs('--decision', 'x'), []);
    assert.deepEqual(await logs('--until', '2h'), []);
    assert.equal((await logs('--since', '2h')).length, all.length);
    assert.equal((await logs('--token', all[0].token)).length, all.length);
    const wrong = await run('logs', '--config', gateway.config, '--since', 'yesterday');
    assert.equal(wrong.status, 2);
    assert.match(wrong.stderr, /--since: must be a time such as .* not "yesterday"/);
});

test('logs --follow with a filter', async () => {
    const child = spawn(PROMPTGATE, ['logs', '--config', gateway.config, '--follow', '--json', '--limit', '1',
                                     '--status', 'provider_error']);
    let stdout = '';
    child.stdout.on('data', (part) => { stdout += part; });
    try {
        await until('the first row', () => stdout.includes('\n'));
        await sent('hello', 200);
        const id = await sent('fail', 502);
        await until('the failed one', () => stdout.includes(id));
        assert.deepEqual([...new Set(parsed(stdout).map((row) => row.status))], ['provider_error']);
    } finally {
        child.kill();
    }
});

test('spend: this month by endpoint, token and model, and what it adds up to', async () => {
    const rows = gateway.rows();
    const spend = async (...options) => {
        const { status, stdout, stderr } = await run('spend', '--config', gateway.config, ...options);
        assert.equal(status, 0, stderr);
        return stdout;
    };
    const sum = (list, name) => list.reduce((total, row) => total + (row[name] ?? 0), 0);
    for (const [by, column] of [['endpoint', 'endpoint'], ['token', 'token'], ['model', 'model']]) {
        const said = JSON.parse(await spend('--json', '--by', by));
        assert.match(said.month, /^\d{4}-\d{2}$/);
        assert.equal(said.timezone, 'UTC');
        assert.equal(said.by, by);
        for (const line of said.spend) {
            const of = rows.filter((row) => row[column] === line[column]);
            assert.equal(line.requests, of.length);
            assert.equal(line.prompt_tokens, sum(of, 'prompt_tokens'));
            assert.equal(line.completion_tokens, sum(of, 'completion_tokens'));
        }
        assert.equal(said.total.requests, rows.length);
        assert.equal(said.total.cost_usd, 0);
    }
    assert.match(await spend(), /^\d{4}-\d{2} \(UTC\) .*\n(?:demo\/\w+ .*\n)+total .*\n$/);
    assert.equal((await run('spend', '--config', gateway.config, '--by', 'colour')).status, 2);
});
