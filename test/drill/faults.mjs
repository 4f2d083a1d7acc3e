// The faults of the drill, a row of its table each: what happens to a gateway while traffic goes on.
//
//   what      as the table says it
//   store     'sqlite', 'postgres', or 'both' in turn
//   namespace whether it mounts something: it then runs in a mount namespace
//   options   of the Run (test/soak/run.mjs), or a function that makes them
//   act(run)  the fault, until it is over
import { execFileSync } from 'node:child_process';
import dgram from 'node:dgram';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { readSums } from '../e2e/audit.mjs';
import { lockStore, openStore, POSTGRES } from '../e2e/database.mjs';
import { fillDisk } from '../e2e/disk.mjs';
import { PROMPTGATE } from '../e2e/harness.mjs';
import { KEY } from '../e2e/mock.mjs';
import { ENDPOINTS } from '../soak/traffic.mjs';

const OUTAGE_SECONDS = Number(process.env.OUTAGE_SECONDS ?? 600);
const PACE_MS = 1050; // ten deaths of one place in ten seconds would throttle it
const HOUR_MS = 3_600_000;

/** A deed of chaos.mjs again and again. */
const repeat = (times, deed, pause = 0) => async ({ chaos, random }) => {
    for (let i = 0; i < times; i++) {
        const began = performance.now();
        await chaos.deed(deed, random.fork());
        await sleep(Math.max(0, pause - (performance.now() - began)));
    }
};

// ---- the store

async function stopStore({ gateway }) {
    const { server } = gateway.database;
    await sleep(3000);
    server.stop();
    await sleep(OUTAGE_SECONDS * 1000);
    server.start();
    await sleep(3000);
}

async function holdStore({ gateway }) {
    await sleep(3000);
    const unlock = await lockStore(gateway.database);
    await sleep(OUTAGE_SECONDS * 1000);
    await unlock();
    await sleep(3000);
}

/** Each commit of rows takes a second longer. */
async function slowStore({ gateway }) {
    if (!POSTGRES) { // another writer is faster than the logger, nearly always
        for (let i = 0; i < 30; i++) {
            const unlock = await lockStore(gateway.database);
            await sleep(1000);
            await unlock();
            await sleep(30);
        }
        return;
    }
    gateway.database.exec('CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS ' +
                          "'BEGIN PERFORM pg_sleep(1); RETURN NULL; END'; " +
                          'CREATE TRIGGER slow AFTER INSERT OR UPDATE ON gateway_spool EXECUTE FUNCTION wait()');
    await sleep(40_000);
    gateway.database.exec('DROP TRIGGER slow ON gateway_spool');
}

async function readOnlyStore({ gateway: { database } }) {
    await sleep(3000);
    for (const state of ['on', 'off']) {
        database.exec(`ALTER ROLE gateway SET default_transaction_read_only = ${state}`);
        database.disconnectOthers();
        await sleep(15_000);
    }
}

// ---- disks

const mounted = [];

function mount(place, mebibytes) {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m,mode=0750`, 'tmpfs', place]);
    mounted.push(place);
}

/** What was mounted is in the way of removing its folder. */
export function unmountAll() {
    mounted.forEach((place) => execFileSync('umount', ['--lazy', place]));
}

const fillFor = (folder, seconds) => async ({ gateway }) => {
    await sleep(3000);
    const free = fillDisk(path.join(gateway.directory, folder));
    await sleep(seconds * 1000);
    free();
    await sleep(5000);
};

const stateOnDisk = (mebibytes) => ({ prepare: ({ directory }) => mount(path.join(directory, 'state'), mebibytes) });

/** The database alone is on the small disk: the spool has room. */
const storeOnDisk = () => ({
    service: { store: { driver: 'sqlite', path: '/dev/null' } }, // until its place is known
    options: {
        prepare: (gateway) => {
            const place = path.join(gateway.directory, 'store');
            fs.mkdirSync(place);
            mount(place, 64);
            gateway.database = path.join(place, 'promptgate.db');
            const file = path.join(gateway.config, 'promptgate.yaml');
            fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('/dev/null', gateway.database));
        },
    },
});

// ---- providers

async function flap({ flappy }) {
    for (let i = 0; i < 20; i++) {
        await flappy.goAway(i % 2 === 0);
        await sleep(700);
        await flappy.comeBack();
        await sleep(700);
    }
}

/** Asked by glibc, whose list is this row's own; it never answers. */
const NAME_SERVER = `127.53.${(process.pid >> 8) & 255}.${process.pid & 255}`;

function loseNameServer() {
    const file = path.join(fs.mkdtempSync('/tmp/promptgate-drill-'), 'resolv.conf');
    fs.writeFileSync(file, `nameserver ${NAME_SERVER}\noptions timeout:30 attempts:1\n`);
    execFileSync('mount', ['--bind', file, '/etc/resolv.conf']);
    const server = dgram.createSocket('udp4').on('message', () => {});
    server.bind({ address: NAME_SERVER, port: 53 }).unref();
    return {
        credentials: { far: { provider: 'openai', base_url: 'http://far.example/v1', allow_http: true, api_key: KEY } },
        service: { upstream: { max_response: '8MiB', connect_timeout: '1s' } },
        endpoints: { far: { provider: 'openai', credential: 'far', model: 'marker', timeout: '10s',
                            failover: [{ credential: 'spare', model: 'marker' }] } },
        clients: Array(4).fill(async function asking() {
            await this.askOnce('far', 'far', { expect: ['ok'], echoes: true, mostCalls: 2, upstream: true });
        }),
    };
}

// ---- the clock

/** A gateway whose wall clock runs ahead of the system's. */
function shimmed(aheadMs = 0) {
    let file;
    const set = (ms) => {
        const bytes = Buffer.alloc(8);
        bytes.writeBigInt64LE(BigInt(ms));
        const fd = fs.openSync(file, 'r+');
        fs.writeSync(fd, bytes, 0, 8, 0);
        fs.closeSync(fd);
    };
    return {
        set,
        endpoints: { talk: { ...ENDPOINTS.talk, session: { max_messages: 100, ttl: '7d' } } },
        options: {
            prepare: (gateway) => {
                file = path.join(gateway.directory, 'clock');
                fs.writeFileSync(file, Buffer.alloc(4096));
                set(aheadMs);
                gateway.env = { CLOCK_SHIM: file, LD_PRELOAD: path.join(path.dirname(PROMPTGATE), 'clock-shim.so') };
            },
        },
    };
}

function stepped() {
    const shim = shimmed();
    return { ...shim, act: async () => {
        for (const hours of [0, 1, 0, -1, 0]) {
            shim.set(hours * HOUR_MS);
            await sleep(6000);
        }
    } };
}

/** Begins 20 s before the end of the month, in UTC. */
function monthEnd() {
    const now = new Date();
    const end = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, 1);
    return { ...shimmed(end - 20_000 - now.getTime()), act: () => sleep(50_000),
             sums: ({ database }) => {
                 const store = openStore(database, { readOnly: true });
                 const months = store.prepare('SELECT month, sum(cost_nano_usd) AS cost FROM gateway_usage_hourly ' +
                                              'GROUP BY month ORDER BY month').all();
                 store.close();
                 if (months.length !== 2) {
                     throw new Error(`the month did not end: ${JSON.stringify(months)}`);
                 }
                 return { ...readSums(database), cost: Number(months[1].cost) };
             } };
}

export const FAULTS = {
    'reloads': { what: '20 reloads', store: 'both', act: repeat(20, 'reload') },
    'upgrades': { what: '3 upgrades', store: 'both', act: repeat(3, 'upgrade', 2000) },
    'logger': { what: 'logger killed 50 times', store: 'both', act: repeat(50, 'killLogger', PACE_MS) },
    'keeper': { what: 'keeper killed 50 times', store: 'both', act: repeat(50, 'killKeeper', PACE_MS) },
    'workers': { what: 'workers killed 30 times', store: 'both', act: repeat(30, 'killWorker', PACE_MS) },
    'master': { what: 'master killed 5 times', store: 'both', act: repeat(5, 'killMaster', PACE_MS) },
    'everything': { what: 'everything killed 5 times', store: 'both', act: repeat(5, 'killAll', PACE_MS) },
    'stopped': { what: `store stopped for ${OUTAGE_SECONDS} s`, store: 'postgres', act: stopStore },
    'locked': { what: `store locked for ${OUTAGE_SECONDS} s`, store: 'sqlite', act: holdStore },
    'slow': { what: 'store slow, 1 s a commit', store: 'both', act: slowStore },
    'read-only': { what: 'store read-only for 15 s', store: 'postgres', act: readOnlyStore },
    'store-full': { what: 'disk of the store full for 15 s', store: 'sqlite', namespace: true,
                    options: storeOnDisk, act: fillFor('store', 15) },
    'disk-full': { what: 'disk of spool and store full for 4 s', store: 'sqlite', namespace: true,
                   options: { options: stateOnDisk(256) }, act: fillFor('state', 4) },
    'disk-full-long': { what: 'the same until the queues are full', store: 'sqlite', namespace: true,
                        options: { options: stateOnDisk(256), service: { gateway_logs: { queue: '64KiB' } },
                                   tolerated: ['overloaded'] },
                        act: fillFor('state', 30) },
    'flapping': { what: 'a provider away every 0.7 s', store: 'sqlite', act: flap },
    'names': { what: 'name server dead', store: 'sqlite', namespace: true, options: loseNameServer,
               act: () => sleep(20_000) },
    'clock': { what: 'clock stepped an hour, both ways', store: 'both', options: stepped },
    'month': { what: 'end of the month', store: 'both', options: monthEnd },
};
