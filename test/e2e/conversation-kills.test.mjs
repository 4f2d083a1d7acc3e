// Conversations while keeper, workers, master and all of them at once are killed at random: no turn
// that was answered is missing, none is there twice, and no session stays busy. CONVERSATIONS says
// how many (100; the drill has 1,000), SEED repeats a plan.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Chaos } from '../soak/chaos.mjs';
import { Addresses, Broken, Connection, post } from '../soak/client.mjs';
import { Random } from '../soak/random.mjs';
import { Talk } from '../soak/talk.mjs';
import { Upstream } from '../soak/upstream.mjs';
import { Audit, RowReader } from './audit.mjs';
import { openStore } from './database.mjs';
import { demo, PROJECT_ID, startGateway, until } from './harness.mjs';
import { KEY } from './mock.mjs';

const CONVERSATIONS = Number(process.env.CONVERSATIONS || 100);
const SEED = Number(process.env.SEED || Date.now() % 2 ** 31);
const CLIENTS = 12;
const TURNS = 20; // of each conversation, as Talk has them
const PATH = `/api/${PROJECT_ID}/talk`;

/** One client after the other says its turns, on a new connection each. */
class Clients {
    #addresses = new Addresses();
    #markers = 0;
    ended = 0; // conversations
    wrong = [];

    constructor(gateway, audit) {
        Object.assign(this, { gateway, audit });
        this.talks = Array.from({ length: CLIENTS }, (_, n) => new Talk(this.wrong, { keyed: n % 2 === 0 }));
    }

    async turn(talk) {
        const connection = new Connection(this.gateway.port, this.#addresses.next());
        const marker = `m-${++this.#markers}-`;
        const { body, headers, said } = talk.next(marker);
        const request = this.audit.request({ kind: 'turn', marker, said, ip: connection.ip, endpoint: 'talk', upstream: true });
        try {
            await connection.connected;
            await connection.send(post(PATH, body, { ...headers, Authorization: `Bearer ${this.gateway.token}` }));
            const answer = await connection.answer(30);
            request.answered(answer);
            talk.answered(request.outcome, answer);
        } catch (error) {
            if (!(error instanceof Broken)) {
                throw error;
            }
            request.broke(error.message, error.id);
            talk.broke();
            await sleep(10);
        }
        connection.leave();
        return request.outcome;
    }

    /** Until there were as many as wanted, and deaths enough. */
    async run(killed) {
        await Promise.all(this.talks.map(async (talk) => {
            while (this.ended < CONVERSATIONS || killed.keeper < 2 || killed.worker < 2) {
                const before = talk.session;
                await this.turn(talk);
                this.ended += before !== null && talk.session === null;
            }
        }));
    }

    /** What every client says when all is quiet is answered at once. */
    async settle() {
        for (const talk of this.talks) {
            assert.match(await this.turn(talk), /^(ok|replayed)$/);
        }
    }
}

test(`${CONVERSATIONS} conversations of ${TURNS} turns, and deaths`, async (t) => {
    const audit = new Audit();
    const upstream = await new Upstream((marker) => audit.call(marker)).start();
    const gateway = await startGateway({
        workers: 2,
        credentials: { mock: { provider: 'openai', base_url: upstream.baseUrl, api_key: KEY } },
        projects: demo({ talk: { provider: 'openai', credential: 'mock', model: 'marker-talk', timeout: '20s', session: { max_messages: 100 } } }),
    });
    const diary = [];
    const clients = new Clients(gateway, audit);
    const chaos = new Chaos({ gateway, audit, random: new Random(SEED), say: (text) => diary.push(text), pause: 400,
                              deeds: ['killKeeper', 'killKeeper', 'killKeeper', 'killWorker', 'killWorker', 'killMaster', 'killAll', 'reload'] });
    chaos.start();
    await clients.run(chaos.killed);
    await chaos.stop();
    await until('both workers and the keeper', () => gateway.workers().length >= 2 &&
        gateway.children().some(({ title }) => title === 'promptgate: keeper'));
    await sleep(600); // who was connected to the last keeper has come back by then
    await clients.settle();
    await gateway.stop();
    await upstream.stop();
    const reader = new RowReader(openStore(gateway.database, { readOnly: true }));
    for (let rows = reader.more(); rows.length > 0; rows = reader.more()) {
        rows.forEach((row) => audit.row(row));
    }
    t.diagnostic(`SEED=${SEED}: ${JSON.stringify(audit.counts.outcomes)}, ${audit.counts.broken} broken; killed ${JSON.stringify(chaos.killed)}`);
    assert.deepEqual([...clients.wrong, ...audit.finish({ killed: chaos.killed }), ...chaos.problems, ...chaos.strangeDeaths()], [], diary.join('\n'));
});
