// What happens to the gateway while clients are served: reloads, kills, pauses, a locked store.
import fs from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';

import { run, until } from '../e2e/harness.mjs';
import { lives } from '../e2e/proc.mjs';

export const MOST_WORKERS = 3;
const MOST_GENERATIONS = 4;

/** A killed worker's connections end a moment later, and a row that it had queued while the logger
 * could not take it goes with it. */
const KILL_SLACK_MS = 250;

export class Chaos {
    stopping = false;
    counts = {};
    problems = []; // that the gateway had and should not have had
    #killed = new Set(); // pids of ours
    #loggerBusySince = null;

    /** `say(text)` writes a line into the run's diary. */
    constructor({ gateway, audit, random, say }) {
        Object.assign(this, { gateway, audit, random, say });
        this.file = path.join(gateway.config, 'promptgate.yaml');
        this.original = fs.readFileSync(this.file, 'utf8');
    }

    start() {
        this.loop = this.#loop();
    }

    async stop() {
        this.stopping = true;
        await this.loop;
    }

    async #loop() {
        const { random } = this;
        const deeds = [this.reload, this.reload, this.badReload, this.killWorker, this.killWorker,
                       this.killLogger, this.pauseLogger, this.lockStore];
        while (!this.stopping) {
            const deed = random.pick(deeds);
            const began = performance.now();
            this.counts[deed.name] = (this.counts[deed.name] ?? 0) + 1;
            const told = await deed.call(this, random.fork());
            this.say(`${deed.name}: ${told} (${Math.round(performance.now() - began)} ms)`);
            this.#countGenerations();
            await sleep(random.between(200, 2500));
        }
    }

    #countGenerations() {
        const numbers = new Set(this.gateway.workers().map(({ title }) => /gen (\d+)/.exec(title)?.[1]));
        if (numbers.size > MOST_GENERATIONS) {
            this.problems.push(`${numbers.size} generations alive: ${[...numbers].join(' ')}`);
        }
    }

    // ---- reloads

    /** How often this was said on stderr. */
    #said(pattern) {
        return (this.gateway.stderr.match(pattern) ?? []).length;
    }

    async #ask(byCommand) {
        if (byCommand) {
            await run('reload', '--config', this.gateway.config);
        } else {
            this.gateway.child.kill('SIGHUP');
        }
    }

    /** 'serves' or 'failed'. */
    async #reloaded(byCommand) {
        const outcome = { serves: /generation \d+ serves/g, failed: /the reload failed/g };
        const before = Object.fromEntries(
            Object.entries(outcome).map(([name, pattern]) => [name, this.#said(pattern)]));
        await this.#ask(byCommand);
        return until('the reload to end', () => Object.keys(outcome).find((name) =>
            this.#said(outcome[name]) > before[name]), 30);
    }

    /** Another number of workers, another time limit, an endpoint that comes and goes. */
    async reload(random) {
        const workers = random.between(2, MOST_WORKERS);
        const changed = this.original.replace(/^workers: \d+$/m, `workers: ${workers}`) +
            `http:\n  idle_timeout: ${random.between(60, 90)}s\n`;
        fs.writeFileSync(this.file, changed);
        const kills = this.#killed.size;
        const outcome = await this.#reloaded(random.chance(0.5));
        // Only a new worker that was killed may stop it.
        if (outcome === 'failed' && this.#killed.size === kills) {
            this.problems.push(`a good reload failed:\n${this.gateway.stderr.slice(-2000)}`);
        }
        return `${workers} workers, ${outcome}`;
    }

    async badReload(random) {
        const good = fs.readFileSync(this.file, 'utf8');
        const bad = random.pick([`${good}wrokers: 2\n`, `${good}: [`,
                                 good.replace(/^state_dir: .*$/m, 'state_dir: /nonexistent')]);
        fs.writeFileSync(this.file, bad);
        const outcome = await this.#reloaded(random.chance(0.5));
        fs.writeFileSync(this.file, good);
        if (outcome !== 'failed') {
            this.problems.push(`a bad configuration was taken:\n${bad}`);
        }
        return outcome;
    }

    /** Back to what it was at the start, with the most workers. */
    async settle() {
        fs.writeFileSync(this.file,
                         this.original.replace(/^workers: \d+$/m, `workers: ${MOST_WORKERS}`));
        const outcome = await this.#reloaded(false);
        if (outcome !== 'serves') {
            this.problems.push(`a good reload failed:\n${this.gateway.stderr.slice(-2000)}`);
        }
        await until('one generation of workers', () => {
            const titles = this.gateway.workers().map(({ title }) => title);
            return titles.length === MOST_WORKERS &&
                new Set(titles.map((title) => /gen \d+/.exec(title)?.[0])).size === 1;
        }, 30);
        await until('a logger', () => this.gateway.logger());
    }

    // ---- kills and pauses

    async #kill(victim) {
        this.#killed.add(victim.pid);
        process.kill(victim.pid, 'SIGKILL');
        await until(`the end of ${victim.title}`, () => !lives(victim));
    }

    async killWorker(random) {
        const victims = this.gateway.workers();
        if (victims.length === 0) {
            return 'none lives';
        }
        const victim = random.pick(victims);
        const from = (this.#loggerBusySince ?? performance.now()) - KILL_SLACK_MS;
        await this.#kill(victim);
        this.audit.workerKilled(from, performance.now() + KILL_SLACK_MS);
        return victim.title;
    }

    async killLogger() {
        const victim = this.gateway.logger();
        if (!victim) {
            return 'none lives';
        }
        await this.#kill(victim);
        await until('another logger', () => (this.gateway.logger()?.pid ?? victim.pid) !== victim.pid);
        return victim.title;
    }

    /** Sometimes a worker is killed meanwhile. */
    async pauseLogger(random) {
        const logger = this.gateway.logger();
        if (!logger) {
            return 'none lives';
        }
        const ms = random.between(50, 1500);
        this.#loggerBusySince = performance.now();
        process.kill(logger.pid, 'SIGSTOP');
        await sleep(ms / 2);
        const also = random.chance(0.3) ? await this.killWorker(random) : 'nobody';
        await sleep(ms / 2);
        process.kill(logger.pid, 'SIGCONT');
        this.#loggerBusySince = null;
        return `${ms} ms, killed meanwhile: ${also}`;
    }

    /** For a second nobody else can write to the store. */
    async lockStore(random) {
        const store = new DatabaseSync(this.gateway.database, { timeout: 5000 });
        const ms = random.between(200, 1200);
        store.exec('BEGIN IMMEDIATE');
        await sleep(ms);
        store.exec('ROLLBACK');
        store.close();
        return `${ms} ms`;
    }

    // ---- what the gateway said of deaths

    get workersKilled() {
        return [...this.#killed].filter((pid) => this.#obituary(pid, 'worker')).length;
    }

    get loggersKilled() {
        return [...this.#killed].filter((pid) => this.#obituary(pid, 'logger')).length;
    }

    #obituary(pid, role) {
        return new RegExp(`${role}[^\\n]*\\(pid ${pid}\\) was killed`).test(this.gateway.stderr);
    }

    /** Deaths that were not our doing. */
    strangeDeaths() {
        const ends = [...this.gateway.stderr.matchAll(
            /^.*\(pid (\d+)\) (was killed by signal|ended with status).*$/gm)];
        return ends.filter(([, pid]) => !this.#killed.has(Number(pid))).map(([line]) => line);
    }
}
