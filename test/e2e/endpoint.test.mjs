// The commands that show endpoints.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { configFiles, demo, PROJECT_ID, run, temporaryDirectory, writeFiles } from './harness.mjs';

const ENDPOINTS = {
    summarize: { description: 'Summaries', template: 'fast', temperature: 0.2, failover: [{ credential: 'spare' }],
                 budget: { monthly_usd: 25, request_tokens: 8000 }, max_output_tokens: 100, rate_limit: { per_minute: 60 },
                 session: { ttl: '1h', max_messages: 50 }, system_prompt: 'In {{language}}',
                 variables: [{ name: 'language', type: 'enum', enum: ['English'], default: 'English' }],
                 output_schema: { type: 'object' },
                 routing: { rules: [{ when: { has_output_schema: true }, use: { model: 'gpt-4o' }, decision: 'shaped' }] } },
    try: { provider: 'echo', model: 'echo', active: false, streaming_enabled: true },
};

function configuration(changes = {}) {
    const directory = temporaryDirectory();
    const key = { provider: 'openai', api_key: 'sk-not-a-key' };
    writeFiles(directory, configFiles(directory, {
        credentials: { main: key, spare: key }, projects: demo({ ...ENDPOINTS, ...changes }),
        files: { 'templates.d/fast.yaml': { provider: 'openai', model: 'gpt-4o-mini', credential: 'main' },
                 'models.yaml': [{ provider: 'openai', model: '', price: { input: 0.15, output: 0.6 } }] },
    }));
    return (...args) => run('endpoint', ...args, '--config', directory);
}

test('endpoint list: a table, and as JSON', async () => {
    const endpoint = configuration();
    const { status, stdout } = await endpoint('list');
    assert.equal(status, 0);
    assert.deepEqual(stdout.trim().split('\n').map((line) => line.split(/ +/)), [
        ['ENDPOINT', 'PROVIDER', 'MODEL', 'STATE', 'STREAM', 'SESSIONS', 'USD/MONTH'],
        ['demo/summarize', 'openai', 'gpt-4o-mini', 'active', 'no', 'yes', '25.00'],
        ['demo/try', 'echo', 'echo', 'inactive', 'yes', 'no', '-']]);
    const list = JSON.parse((await endpoint('list', '--json')).stdout);
    assert.deepEqual(list[1], { project: 'demo', endpoint: 'try', description: null, active: false, provider: 'echo', model: 'echo',
                                credential: null, streaming: true, sessions: false, monthly_usd: null });
});

test('endpoint show: what its template, the defaults and its own keys come to', async () => {
    const endpoint = configuration();
    const openai = (credential, model = 'gpt-4o-mini') => ({ provider: 'openai', model, credential });
    const { timeout_ms: timeout, ...shown } = JSON.parse((await endpoint('show', 'demo/summarize', '--json')).stdout);
    assert.equal(timeout, 120_000);
    assert.deepEqual(shown, {
        project: 'demo', endpoint: 'summarize', route: `POST /api/${PROJECT_ID}/summarize`, description: 'Summaries', active: true,
        ...openai('main'), temperature: 0.2, top_p: null, max_output_tokens: 100, retries: 0, failover: [openai('spare')],
        rules: [{ decision: 'shaped', ...openai('main', 'gpt-4o') }],
        limits: { per_minute: 60, per_hour: null, monthly_usd: 25, request_tokens: 8000 }, streaming: false,
        session: { ttl_ms: 3_600_000, max_messages: 50, max_tokens: 20_000 }, system_prompt: true, user_prompt: false,
        variables: ['language'], input_schema: false, output_schema: true, output_repair: 1 });
    const { stdout } = await endpoint('show', 'demo/summarize');
    assert.match(stdout, /^temperature: 0\.2$/m);
    assert.match(stdout, /^failover:\n {2}- provider: openai\n/m);
    assert.ok(!stdout.includes('sk-not-a-key'));
});

test('what is not there, what is wrong and what is no use of it', async () => {
    const said = async (...args) => {
        const { status, stdout, stderr } = await configuration()(...args);
        assert.equal(stdout, '');
        return [status, stderr.split('\n')[0]];
    };
    assert.deepEqual(await said('show', 'demo/none'), [1, 'promptgate: project demo has no endpoint none']);
    assert.deepEqual(await said('show', 'none/try'), [1, 'promptgate: there is no project none']);
    assert.equal((await said('show'))[0], 2);
    assert.equal((await said('list', 'demo'))[0], 2);
    const broken = await configuration({ bad: { provider: 'echo' } })('list');
    assert.equal(broken.status, 1);
    assert.match(broken.stderr, /projects\.d\/demo\.yaml:\d+:\d+: endpoints\.bad\.model: missing/);
});
