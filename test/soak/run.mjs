// One run: a gateway under mixed traffic while something happens to it; at the end what clients and
// upstream saw, rows, sums, counters and sessions must agree, and nothing may be left.
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { Audit, readCounters, readSums, RowReader } from '../e2e/audit.mjs';
import { openStore } from '../e2e/database.mjs';
import { demo, PATIENCE, PROMPTGATE, SANITIZE, startGateway, until } from '../e2e/harness.mjs';
import { KEY } from '../e2e/mock.mjs';
import { Chaos, MOST_WORKERS } from './chaos.mjs';
import { Random } from './random.mjs';
import { mappers, measure, Samples } from './samples.mjs';
import { CAP_USD, ENDPOINTS, Traffic } from './traffic.mjs';
import { Upstream } from './upstream.mjs';

const SHUTDOWN_SECONDS = 6;
export const ENDING_SECONDS = 90; // after the last request: rows, drain, audit
const LONG_ENOUGH_SECONDS = 30; // for memory to say something

/** Reads new rows now and then, for as long as the gateway lives. */
class Follower {
    constructor(gateway, audit) {
        this.audit = audit;
        this.store = openStore(gateway.database, { readOnly: true });
        this.reader = new RowReader(this.store);
        this.timer = setInterval(() => this.#readIfThere(), 300);
    }

    #readIfThere() {
        try {
            this.read();
        } catch {
            // the store is away
        }
    }

    read() {
        for (let rows = this.reader.more(); rows.length > 0; rows = this.reader.more()) {
            rows.forEach((row) => this.audit.row(row));
        }
    }

    stop() {
        clearInterval(this.timer);
        this.read();
        this.store.close();
    }
}

export const mebibytes = (bytes) => `${(bytes / (1 << 20)).toFixed(1)} MiB`;

/** Growth from the first third to the last that is more than noise. All are replaced now and then;
 * workers hold bodies of megabytes, so their mean swings, and a logger's store has a cache of two
 * that fills with its age. */
function growth(thirds) {
    const allowed = { master: 0.1, logger: 0.25, worker: 0.5, keeper: 0.5 };
    const least = { master: 2 << 20, logger: 4 << 20, worker: 2 << 20, keeper: 4 << 20 };
    const found = [];
    for (const [role, { resident, descriptors }] of Object.entries(thirds)) {
        const memory = resident[1] - resident[0];
        if (!SANITIZE && memory > Math.max(resident[0] * allowed[role], least[role])) {
            found.push(`memory of ${role}: ${resident.map(mebibytes).join(' -> ')}`);
        }
        if (descriptors[1] - descriptors[0] > Math.max(4, descriptors[0] * 0.25)) {
            found.push(`descriptors of ${role}: ${descriptors.join(' -> ')}`);
        }
    }
    return found;
}

/** "pipe 3, socket 12". */
function tally(kinds) {
    const counted = Object.entries(Object.groupBy(kinds, (kind) => kind));
    return counted.map(([kind, all]) => `${kind} ${all.length}`).join(', ');
}

/** At rest after everything, each role holds no more than before: but for the segments that the
 * logger still appends to, at most one for each slot; the workers' connections to the upstream,
 * which are counted at its end; and, in a worker that a reload made, that reload's report. */
function leftOpen(before, after, { upstreamConnections, slots }) {
    const extra = { 'segment': slots, 'socket': upstreamConnections,
                    '/memfd:report (deleted)': MOST_WORKERS };
    const found = [];
    for (const role of ['master', 'logger', 'worker']) {
        const [then, now] = [before, after].map((members) =>
            members.filter((one) => one.role === role).flatMap((one) => one.descriptors));
        const count = (kinds, kind) => kinds.filter((one) => one === kind).length;
        const grown = [...new Set(now)].some((kind) =>
            count(now, kind) - count(then, kind) > (extra[kind] ?? 0));
        if (grown) {
            found.push(`descriptors of ${role} at rest: before ${tally(then)}; after ${tally(now)}`);
        }
    }
    return found;
}

/** The part of the counters file's path that no other gateway's has. */
const countersOf = (gateway) => path.join(gateway.directory, 'run/counters');

async function strays(gateway) {
    await sleep(100);
    return mappers(countersOf(gateway)).map((pid) => `a process is left: pid ${pid}`);
}

function rejected(gateway) {
    const folder = path.join(gateway.directory, 'state/rejected');
    return fs.existsSync(folder) ? fs.readdirSync(folder).map((name) => `a rejected row: ${name}`) : [];
}

/** A budget that was passed. */
function overspent({ accounts }) {
    const capped = accounts.find(({ kind, label }) => kind === 'endpoint' && label === 'capped');
    return capped?.nano_usd > CAP_USD * 1e9 ? [`capped has spent ${capped.nano_usd} nano-USD`] : [];
}

/** Options, all of them may be left out but `seed`:
 *   act(run)   what happens meanwhile: the traffic goes on until it is over
 *   deeds, pause   chaos.mjs's, when `act` leaves it to that
 *   endpoints, credentials, clients   more of them than the usual ones
 *   service    laid over promptgate.yaml's keys
 *   options    more of startGateway
 *   sums(gateway)   what is to agree with the counters, readSums of the store when left out
 *   tolerated  outcomes that are right for any request
 *   say(text)  a line of a diary */
export class Run {
    findings = [];

    constructor(options) {
        Object.assign(this, { say: () => {}, endpoints: {}, credentials: {}, clients: [], service: {}, ...options });
        this.random = new Random(this.seed);
        this.audit = new Audit();
        this.audit.tolerate(this.tolerated ?? []);
        this.samples = new Samples();
        this.began = performance.now();
    }

    async #start() {
        const onCall = (marker) => this.audit.call(marker);
        this.upstream = await new Upstream(onCall).start();
        this.flappy = await new Upstream(onCall).start();
        const credential = ({ baseUrl }) => ({ provider: 'openai', base_url: baseUrl, api_key: KEY });
        this.gateway = await startGateway({
            workers: MOST_WORKERS,
            service: { shutdown_timeout: `${SHUTDOWN_SECONDS}s`, upstream: { max_response: '8MiB' }, ...this.service },
            credentials: { mock: credential(this.upstream), spare: credential(this.upstream),
                           flappy: credential(this.flappy), ...this.credentials },
            projects: demo({ ...ENDPOINTS, ...this.endpoints }),
            files: { 'models.yaml': [{ provider: 'openai', model: '', limits: { output: 1000 },
                                       price: { input: 0.15, output: 0.6, cached_input: 0.075 } }] },
            ...this.options,
        });
        this.atRest = measure(this.gateway);
        this.follower = new Follower(this.gateway, this.audit);
        this.traffic = new Traffic({ gateway: this.gateway, audit: this.audit, random: this.random.fork() });
        this.chaos = new Chaos({ gateway: this.gateway, audit: this.audit, random: this.random.fork(), say: this.say,
                                 ...(this.deeds && { deeds: this.deeds }), ...(this.pause && { pause: this.pause }) });
    }

    /** No requests until the traffic is started again; all rows of the answers are there. */
    async quiet() {
        await this.traffic.stop();
        this.say('no more requests');
        await until(`rows of the last ${this.audit.awaited()} answers`, () => this.audit.awaited() === 0, 30)
            .catch(() => {}); // the audit names them
        await sleep(1500); // the logger gives up a segment that is done with
    }

    /** All is as it was. */
    async #comeToRest() {
        await this.traffic.stop();
        this.seconds = (performance.now() - this.began) / 1000;
        await this.chaos.settle();
        await this.quiet();
    }

    /** What disagrees; [] is what is wanted. */
    async go() {
        await this.#start();
        const { gateway, chaos, samples } = this;
        const sampler = setInterval(() => samples.take(gateway), 500);
        this.say(`${this.traffic.start(this.clients)} clients, seed ${this.seed}`);
        await this.act(this);
        clearInterval(sampler);
        await this.#comeToRest();
        const left = leftOpen(this.atRest, measure(gateway), {
            upstreamConnections: this.upstream.connections + this.flappy.connections,
            slots: readCounters(countersOf(gateway)).slots.length,
        });
        await gateway.stop();
        this.follower.stop();
        await Promise.all([this.upstream.stop(), this.flappy.stop()]);
        const counters = readCounters(countersOf(gateway));
        const sums = (this.sums ?? (({ database }) => readSums(database)))(gateway, counters);
        return [
            ...this.audit.finish({ counters, sums, killed: chaos.killed }), ...overspent(counters),
            ...this.traffic.wrong, ...chaos.problems, ...chaos.strangeDeaths(), ...left,
            ...(this.seconds >= LONG_ENOUGH_SECONDS ? growth(samples.thirds()) : []),
            ...await strays(gateway), ...rejected(gateway),
        ];
    }

    /** Everything that helps to understand a failed run goes into a folder, whose name is returned. */
    keep(findings, diary) {
        const folder = path.join(path.dirname(PROMPTGATE), `soak-failed-${this.seed}`);
        fs.rmSync(folder, { recursive: true, force: true });
        fs.mkdirSync(folder, { recursive: true });
        fs.writeFileSync(path.join(folder, 'diary.txt'), `${diary.join('\n')}\n`);
        fs.writeFileSync(path.join(folder, 'findings.txt'), `${findings.join('\n')}\n`);
        if (this.gateway) {
            fs.writeFileSync(path.join(folder, 'stderr.txt'), this.chaos?.stderr ?? this.gateway.stderr);
            fs.cpSync(this.gateway.directory, path.join(folder, 'gateway'), { recursive: true,
                      filter: (name) => !fs.lstatSync(name).isSocket() });
        }
        return folder;
    }
}
