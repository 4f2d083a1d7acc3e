// Money that holds: what a month may cost, by all workers together, whatever dies. The upstream
// bills as a provider does: by what it says of its usage, up to the max tokens it was sent, also for
// calls whose answer nobody gets.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { openStore } from './database.mjs';
import { assertError, demo, PROJECT_ID, run, startGateway, until, yaml } from './harness.mjs';

const KEY = 'sk-mock-key-0123456789';
const NANO = 1_000_000_000;

/** A provider that counts its own bill, in nano-USD: 10 USD for a million tokens of either kind. */
class Provider {
    billed = 0;
    calls = 0;
    behave = () => ({ completion: 1000, delay: 5 });

    async start() {
        this.server = http.createServer((request, response) => {
            const chunks = [];
            request.on('data', (chunk) => chunks.push(chunk)).on('error', () => {});
            response.on('error', () => {});
            request.on('end', () => this.#take(JSON.parse(Buffer.concat(chunks)), response));
        });
        await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
        this.base = `http://127.0.0.1:${this.server.address().port}/v1`;
        return this;
    }

    async #take(body, response) {
        this.calls++;
        const { completion, delay = 0, prompt = 10, status = 200, silent = false, extra = 0 } =
            this.behave(body, this.calls);
        const written = Math.min(completion, body.max_completion_tokens ?? completion) + extra;
        if (status === 200) {
            this.billed += (prompt + written) * 10_000; // from the moment that it has the call
        }
        await sleep(delay);
        if (silent) {
            return;
        }
        const usage = { prompt_tokens: prompt, completion_tokens: written, total_tokens: prompt + written };
        const text = JSON.stringify(status === 200
            ? { id: 'c', model: body.model, choices: [{ message: { content: 'x' }, finish_reason: 'stop' }], usage }
            : { error: { message: 'no' } });
        response.writeHead(status, { 'content-type': 'application/json' }).end(text);
    }

    stop() {
        this.server.closeAllConnections();
        this.server.close();
    }
}

let gateway;
let provider;

afterEach(async () => {
    if (gateway && gateway.child.exitCode === null && gateway.child.signalCode === null) {
        await gateway.stop();
    }
    gateway = null;
    provider?.stop();
    provider = null;
});

const PRICE = { input: 10, output: 10 };

/** An endpoint `paid` whose calls cost at most about 5 cents: 4,900 tokens and the body's bytes. */
const paid = (fields = {}) => ({ provider: 'openai', credential: 'mock', model: 'm', timeout: '20s',
                                 price: PRICE, max_output_tokens: 4800, ...fields });

async function start(endpoints, options = {}) {
    provider = await new Provider().start();
    gateway = await startGateway({
        workers: 2,
        credentials: { mock: { provider: 'openai', base_url: provider.base, api_key: KEY } },
        projects: demo(endpoints, options.project),
        ...options,
    });
    return gateway;
}

/** On a connection of its own, so that the kernel spreads them over the workers. */
const post = (slug = 'paid', body = { message: 'Hi' }, more = {}) =>
    gateway.post(slug, body, { headers: { connection: 'close' }, ...more });

async function usage() {
    const answer = await fetch(`${gateway.api}/usage`, {
        headers: { authorization: `Bearer ${gateway.admin}`, connection: 'close' } });
    assert.equal(answer.status, 200);
    return answer.json();
}

/** So that GET usage can be asked. */
async function mayAskUsage() {
    const made = await run('token', 'create', '--config', gateway.config, '--project', 'demo',
                           '--name', 'watcher', '--scopes', 'chat,models,usage');
    assert.equal(made.status, 0, made.stderr);
    gateway.admin = made.stdout.trim();
}

const nano = (usd) => Math.round(usd * NANO);

/** What the rows say, once all are there. */
async function rowsCost(count) {
    await gateway.rowsReach(count);
    const store = openStore(gateway.database, { readOnly: true });
    const { sum } = store.prepare('SELECT coalesce(sum(cost_nano_usd), 0) AS sum FROM gateway_logs').get();
    store.close();
    return Number(sum);
}

describe('"Caps that hold"', () => {
    test('200 at once against 1.00 USD: never above, at least 95 % used, equal to the nano-dollar', async (t) => {
        await start({ paid: paid({ budget: { monthly_usd: 1 } }) }, { service: { budget_wait: '10s' } });
        await mayAskUsage();
        provider.behave = (body, n) => ({ completion: 990 + (n * 7919) % 3000, delay: (n * 31) % 40 });
        let requests = 0;
        let usedBeforeRefusal = null;
        for (let round = 0; round < 3; round++) {
            const answers = await Promise.all(Array.from({ length: 200 }, async () => {
                const answer = await post();
                if (answer.status !== 200 && usedBeforeRefusal === null) {
                    usedBeforeRefusal = nano(answer.json.error.spent_usd);
                }
                return answer;
            }));
            requests += answers.length;
            for (const answer of answers.filter(({ status }) => status !== 200)) {
                assertError(answer, 422, 'budget_exceeded');
                const { spent_usd: spent, cap_usd: cap, reserved_usd: reserved, scope } = answer.json.error;
                assert.equal(scope, 'endpoint');
                assert.equal(cap, 1);
                assert.ok(spent + reserved <= 1 && spent + 0.0481 > 1, `${spent} spent, ${reserved} reserved`);
                assert.equal(answer.headers.get('x-should-retry'), 'false');
            }
        }
        assert.ok(provider.billed <= NANO, `${provider.billed} billed`);
        assert.ok(usedBeforeRefusal >= 0.95 * NANO, `${usedBeforeRefusal} used before the first refusal`);
        const { endpoints: [endpoint], project, month } = await usage();
        assert.equal(nano(endpoint.spent_usd), provider.billed);
        assert.equal(nano(project.spent_usd), provider.billed);
        assert.equal(endpoint.reserved_usd, 0);
        assert.equal(month, new Date().toISOString().slice(0, 7));
        assert.equal(await rowsCost(requests + 1), provider.billed);
        t.diagnostic(`${provider.calls} calls, ${provider.billed / NANO} USD`);
    });

    test('workers killed all the time: never below what was billed, nothing stays reserved, each call has its row', async () => {
        await start({ paid: paid({ budget: { monthly_usd: 20 } }) });
        await mayAskUsage();
        provider.behave = (body, n) => ({ completion: 500 + (n * 7919) % 2000, delay: (n * 37) % 60 });
        let going = true;
        const client = async () => {
            while (going) {
                await post().catch(() => {}); // the worker may have died with it
            }
        };
        const clients = Array.from({ length: 24 }, client);
        for (let i = 0; i < 10; i++) {
            await sleep(150);
            const victims = gateway.workers();
            if (victims.length > 0) {
                process.kill(victims[i % victims.length].pid, 'SIGKILL');
            }
        }
        going = false;
        await Promise.all(clients);
        await until('both workers to be back', () => gateway.workers().length === 2);
        const { endpoints: [endpoint] } = await usage();
        assert.equal(endpoint.reserved_usd, 0);
        assert.ok(nano(endpoint.spent_usd) >= provider.billed, `${endpoint.spent_usd} spent, ${provider.billed} billed`);
        await gateway.stop();
        const store = openStore(gateway.database, { readOnly: true });
        const { cost, called } = store.prepare(
            "SELECT sum(cost_nano_usd) AS cost, sum(CASE WHEN attempts IS NOT NULL THEN 1 ELSE 0 END) AS called FROM gateway_logs").get();
        store.close();
        assert.equal(Number(cost), nano(endpoint.spent_usd), 'rows and counter');
        assert.ok(Number(called) >= provider.calls, `${called} rows for ${provider.calls} calls`);
    });

    test('the master again, everything again, the counters gone: the month is not below what was billed', async () => {
        await start({ paid: paid({ budget: { monthly_usd: 20 } }) });
        await mayAskUsage();
        const spend = async (count) => {
            for (let i = 0; i < count; i++) {
                assert.equal((await post()).status, 200);
            }
        };
        const spent = async () => nano((await usage()).endpoints[0].spent_usd);
        await spend(5);
        await gateway.stop();
        await gateway.restart();
        assert.equal(await spent(), provider.billed);
        await spend(5);
        for (const { pid } of [{ pid: gateway.pid }, ...gateway.children()]) {
            process.kill(pid, 'SIGKILL');
        }
        await gateway.end();
        await gateway.restart();
        assert.equal(await spent(), provider.billed);
        await spend(5);
        // As after a reboot, by the store and by the image alone.
        await sleep(2200);
        await gateway.stop();
        fs.rmSync(path.join(gateway.directory, 'run/counters'));
        await gateway.restart();
        assert.equal(await spent(), provider.billed);
        await gateway.stop();
        fs.rmSync(path.join(gateway.directory, 'run/counters'));
        const store = openStore(gateway.database);
        store.exec('DELETE FROM gateway_usage_hourly');
        store.close();
        await gateway.restart();
        assert.equal(await spent(), provider.billed);
        assert.match(gateway.stderr, /a new counters file: the budgets of \d{4}-\d{2} begin with what was spent/);
        await gateway.stop();
        fs.rmSync(path.join(gateway.directory, 'run/counters'));
        fs.writeFileSync(path.join(gateway.directory, 'state/spend'), 'nonsense');
        await gateway.restart();
        assert.match(gateway.stderr, /state\/spend is damaged/);
    });
});

describe('what is reserved and what it costs', () => {
    test('"the tightest wins": endpoint, token, project, each by its own budget', async () => {
        await start({ paid: paid(), other: paid() }, { project: { budget: { monthly_usd: 0.1 } } });
        await mayAskUsage();
        fs.appendFileSync(path.join(gateway.config, 'tokens.d/watcher.yaml'), 'budget: { monthly_usd: 0.055 }\n');
        assert.equal((await run('reload', '--config', gateway.config)).status, 0);
        const asToken = { token: gateway.admin };
        assert.equal((await post('paid', undefined, asToken)).status, 200);
        const refused = await post('other', undefined, asToken);
        assertError(refused, 422, 'budget_exceeded');
        assert.equal(refused.json.error.scope, 'token');
        assert.equal(refused.json.error.cap_usd, 0.055);
        while ((await post('other')).status === 200) {
            // until the project's is used up
        }
        const last = await post('other');
        assert.equal(last.json.error.scope, 'project');
        assert.ok(provider.billed <= 0.1 * NANO);
        const row = await gateway.row(last.id);
        assert.deepEqual([row.status, row.http_status, row.attempts, row.cost_basis], ['budget_exceeded', 422, null, 'none']);
    });

    test('cost_basis: reported, bound, worst_case, none', async () => {
        await start({ paid: paid({ budget: { monthly_usd: 5 }, timeout: '700ms' }) });
        const answer = await post();
        assert.equal(answer.json.meta.cost_usd, 0.0101);
        let row = await gateway.row(answer.id);
        assert.deepEqual([row.cost_basis, Number(row.cost_nano_usd)], ['reported', 10_100_000]);

        provider.behave = () => ({ completion: 100, status: 500 });
        row = await gateway.row((await post()).id);
        assert.deepEqual([row.cost_basis, row.cost_nano_usd], ['none', null]);

        provider.behave = () => ({ completion: 100, silent: true });
        const late = await post();
        assert.equal(late.status, 504);
        row = await gateway.row(late.id);
        assert.equal(row.cost_basis, 'worst_case');
        assert.ok(Number(row.cost_nano_usd) > 48_000_000 && Number(row.cost_nano_usd) < 50_000_000, row.cost_nano_usd);
    });

    test('"an excess is counted, alarmed and stops more"', async () => {
        await start({ paid: paid({ budget: { monthly_usd: 0.2 } }) });
        await mayAskUsage();
        provider.behave = () => ({ completion: 4800, extra: 20_000 });
        assert.equal((await post()).status, 200);
        assert.match(gateway.stderr, /cost 248\d{6} nano-USD, more than the \d+ that it could cost at most/);
        assertError(await post(), 422, 'budget_exceeded');
        assert.equal(nano((await usage()).endpoints[0].spent_usd), provider.billed);
    });

    test('"request_tokens": refused before the call, or less is asked for', async () => {
        await start({ paid: paid({ budget: { request_tokens: 100 }, max_output_tokens: 90 }) });
        const long = await post('paid', { message: 'x'.repeat(400) });
        assertError(long, 422, 'token_cap_exceeded');
        assert.equal(provider.calls, 0);
        let sent;
        provider.behave = (body) => {
            sent = body.max_completion_tokens;
            return { completion: 5 };
        };
        const lowered = await post('paid', { message: 'x'.repeat(120), max_tokens: 80 });
        assert.equal(lowered.status, 200);
        assert.equal(sent, 70);
        assert.deepEqual(lowered.json.meta.ignored, ['max_tokens']);
        assert.equal((await post('paid', { message: 'x'.repeat(40), max_tokens: 80 })).json.meta.ignored.length, 0);
        assert.equal(sent, 80);
    });

    test('"A part without a maximum (URL image, file id) on an endpoint under a budget is 422 unbounded_input"', async () => {
        await start({ paid: paid({ budget: { monthly_usd: 5 } }), free: paid() });
        const image = (url) => ({ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url } }] }] });
        for (const body of [image('https://x/y.png'), image('data:image/png;base64,AAAA'),
                            { messages: [{ role: 'user', content: [{ type: 'file', file: { file_id: 'f' } }] }] }]) {
            assertError(await post('paid', body), 422, 'unbounded_input');
            assert.equal((await post('free', body)).status, 200);
        }
        fs.writeFileSync(path.join(gateway.config, 'models.yaml'),
                         `${yaml([{ provider: 'openai', model: 'm', worst_case: { image_tokens: 1600 } }])}\n`);
        assert.equal((await run('reload', '--config', gateway.config)).status, 0);
        assertError(await post('paid', image('https://x/y.png')), 422, 'unbounded_input');
        assert.equal((await post('paid', image('data:image/png;base64,AAAA'))).status, 200);
    });

    test('"Limits changed by reload hold at once and keep counts"', async () => {
        await start({ paid: paid({ budget: { monthly_usd: 5 } }) });
        for (let i = 0; i < 3; i++) {
            assert.equal((await post()).status, 200);
        }
        const file = path.join(gateway.config, 'projects.d/demo.yaml');
        const change = async (from, to) => {
            fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(from, to));
            assert.equal((await run('reload', '--config', gateway.config)).status, 0);
        };
        await change('monthly_usd: 5', 'monthly_usd: 0.07');
        const refused = await post();
        assertError(refused, 422, 'budget_exceeded');
        assert.equal(refused.json.error.spent_usd, 0.0303);
        await change('monthly_usd: 0.07', 'monthly_usd: 0.09');
        assert.equal((await post()).status, 200);
    });

    test('a waiting request whose client leaves, and one that a stop meets, give everything back', async () => {
        await start({ paid: paid({ budget: { monthly_usd: 0.06 } }) }, { service: { budget_wait: '30s', shutdown_timeout: '500ms' } });
        await mayAskUsage();
        provider.behave = () => ({ completion: 10, delay: 400 });
        const first = post();
        await until('the call', () => provider.calls === 1);
        const gone = new AbortController();
        const leaver = post('paid', undefined, { signal: gone.signal }).catch(() => {});
        const stays = post();
        await sleep(100);
        gone.abort();
        await leaver;
        assert.equal((await first).status, 200);
        assert.equal((await stays).status, 200);
        assert.equal((await usage()).endpoints[0].reserved_usd, 0);
        await gateway.rowsReach(4);
        assert.equal(gateway.rows().filter(({ status }) => status === 'client_closed').length, 1);
    });
});

describe('on the command line', () => {
    test('"promptgate spend and promptgate top show spent and reserved apart"', async () => {
        await start({ paid: paid({ budget: { monthly_usd: 5 }, rate_limit: { per_minute: 50 } }) });
        provider.behave = (body, n) => ({ completion: 1000, delay: n === 1 ? 0 : 4000 });
        assert.equal((await post()).status, 200);
        const pending = post();
        await until('the second call', () => provider.calls === 2);
        await gateway.rowsReach(1);
        const spend = JSON.parse((await run('spend', '--json', '--config', gateway.config)).stdout);
        const [line] = spend.spend;
        assert.deepEqual([line.endpoint, line.cost_usd, line.cap_usd], ['paid', 0.0101, 5]);
        assert.ok(line.reserved_usd > 0.048 && line.reserved_usd < 0.05, line.reserved_usd);
        assert.match((await run('spend', '--config', gateway.config)).stdout,
                     /RESERVED +BUDGET\n.*demo\/paid .* 0\.010100000 +0\.04\d+ +5\.000000000/);
        const top = JSON.parse((await run('top', '--json', '--config', gateway.config)).stdout);
        assert.equal(top.workers.length, 2);
        assert.equal(top.workers.reduce((sum, worker) => sum + worker.in_flight, 0), 1);
        const paidNow = top.accounts.find(({ kind, name }) => kind === 'endpoint' && name === 'demo/paid');
        assert.deepEqual([paidNow.spent_usd, paidNow.cap_usd, paidNow.per_minute],
                         [0.0101, 5, { used: 2, limit: 50 }]);
        assert.ok(paidNow.reserved_usd > 0.048);
        assert.match((await run('top', '--config', gateway.config)).stdout, /endpoint demo\/paid +2\/50 +- +0\.0101 /);
        await pending;
    });

    test('"promptgate models import" adds rows, and says what it leaves', async () => {
        await start({ paid: paid() });
        const table = path.join(gateway.directory, 'prices.json');
        const row = (input, output, more = {}) => ({ litellm_provider: 'openai', mode: 'chat',
            input_cost_per_token: input, output_cost_per_token: output, ...more });
        fs.writeFileSync(table, JSON.stringify({
            sample_spec: { mode: 'words' }, 'gpt-known': row(2e-6, 1e-5), 'gpt-other': row(3e-6, 1e-5),
            'openai/gpt-new': row(1.5e-7, 6e-7, { cache_read_input_token_cost: 7.5e-8, max_input_tokens: 128000,
                                                  max_output_tokens: 16384, supports_reasoning: true }),
            'gpt-odd': row(1.2345e-13, 1e-6), 'embedding': { litellm_provider: 'openai', mode: 'embedding' } }));
        const models = path.join(gateway.config, 'models.yaml');
        fs.writeFileSync(models, `# mine\n${yaml([
            { provider: 'openai', model: 'gpt-known', price: { input: 2, output: 10 } },
            { provider: 'openai', model: 'gpt-other', price: { input: 2, output: 10 } }])}\n`);
        const imported = await run('models', 'import', table, '--config', gateway.config);
        assert.equal(imported.status, 0, imported.stderr);
        assert.match(imported.stderr, /gpt-other: models\.yaml says otherwise, at line \d+; it stays/);
        assert.match(imported.stderr, /gpt-odd: its price has more than six decimals/);
        assert.match(imported.stderr, /1 rows added .*; 1 were there, 1 say otherwise, 1 can't be used/);
        const text = fs.readFileSync(models, 'utf8');
        assert.ok(text.startsWith('# mine\n'));
        assert.match(text, /model: "gpt-new"\n  price: \{ input: 0\.15, output: 0\.6, cached_input: 0\.075 \}\n  limits: \{ context: 128000, output: 16384 \}\n  reasons: true/);
        assert.equal((await run('check', '--config', gateway.config)).status, 0);
        assert.equal((await run('models', 'import', '/nonexistent', '--config', gateway.config)).status, 1);
        assert.equal((await run('models', 'export', '--config', gateway.config)).status, 2);
    });
});

test('a budget without what it needs is a configuration error', async () => {
    await start({ paid: paid() });
    const check = async (fields) => {
        fs.writeFileSync(path.join(gateway.config, 'projects.d/demo.yaml'),
                         `${yaml({ id: PROJECT_ID, endpoints: { paid: fields } })}\n`);
        return (await run('check', '--config', gateway.config)).stderr;
    };
    const { price, max_output_tokens: most, ...rest } = paid({ budget: { monthly_usd: 5 } });
    assert.match(await check({ ...rest, max_output_tokens: most }), /budget\.monthly_usd: a budget needs price: models\.yaml has none/);
    assert.match(await check({ ...rest, price }), /budget\.monthly_usd: a budget needs max_output_tokens/);
    assert.doesNotMatch(await check({ ...rest, price, max_output_tokens: most }), /budget/);
});
