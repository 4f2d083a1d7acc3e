// What happens to the gateway while clients are served: reloads, kills, pauses, a locked store.
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { lockStore } from '../e2e/database.mjs';
import { run, until } from '../e2e/harness.mjs';
import { lives, look } from '../e2e/proc.mjs';

export const MOST_WORKERS = 3;
const DEEDS = ['reload', 'reload', 'badReload', 'upgrade', 'upgrade', 'badUpgrade', 'killWorker', 'killWorker', 'killLogger', 'killKeeper', 'killKeeper',
               'killMaster', 'killAll', 'pauseLogger', 'lockStore'];
const MOST_GENERATIONS = 4;

/** The connections of what was killed end a moment later. */
const KILL_SLACK_MS = 500;

export class Chaos {
    stopping = false;
    counts = {};
    killed = { worker: 0, logger: 0, master: 0, keeper: 0 };
    problems = []; // that the gateway had and should not have had
    #past = ''; // what earlier masters and theirs wrote on stderr
    #pids = new Set(); // of those we killed

    /** `say(text)` writes a line into the run's diary; `deeds` names what happens, each as often as
     * it stands there, with `pause` ms in between at most. */
    constructor({ gateway, audit, random, say, deeds = DEEDS, pause = 2500 }) {
        Object.assign(this, { gateway, audit, random, say, deeds, pause });
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
        while (!this.stopping) {
            await this.deed(random.pick(this.deeds), random.fork());
            await sleep(random.between(Math.min(200, this.pause), this.pause));
        }
    }

    /** One of them, by its name. */
    async deed(name, random) {
        const began = performance.now();
        this.counts[name] = (this.counts[name] ?? 0) + 1;
        const told = await this[name](random);
        this.say(`${name}: ${told} (${Math.round(performance.now() - began)} ms)`);
        this.#countGenerations();
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
            process.kill(this.gateway.pid, 'SIGHUP');
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
        const kills = this.#pids.size;
        const outcome = await this.#reloaded(random.chance(0.5));
        // Only a new worker that was killed may stop it.
        if (outcome === 'failed' && this.#pids.size === kills) {
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

    // ---- upgrades

    /** The binary takes over from itself. What was upgraded before may have workers to wait for. */
    async upgrade() {
        const kills = this.#pids.size;
        const before = this.gateway.pid;
        const { status, stderr } = await this.gateway.upgrade();
        this.killed.logger++; // the old one's is ended in the middle of what it does
        if (status !== 0 && this.#pids.size === kills) {
            this.problems.push(`a good upgrade failed: ${stderr}\n${this.gateway.stderr.slice(-2000)}`);
        }
        return status === 0 ? `${before} -> ${this.gateway.pid}` : stderr.trim();
    }

    /** One whose configuration is wrong: nothing changes. */
    async badUpgrade() {
        const good = fs.readFileSync(this.file, 'utf8');
        fs.writeFileSync(this.file, `${good}wrokers: 2\n`);
        const { status } = await this.gateway.upgrade();
        fs.writeFileSync(this.file, good);
        if (status === 0) {
            this.problems.push('a bad configuration was taken over by an upgrade');
        }
        return 'failed';
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

    #signal(victim) {
        if (lives(victim)) {
            this.#pids.add(victim.pid);
            this.killed[/^promptgate: (\w+)/.exec(victim.title)?.[1]]++;
            process.kill(victim.pid, 'SIGKILL');
        }
    }

    async #kill(victim) {
        this.#signal(victim);
        await until(`the end of ${victim.title}`, () => !lives(victim));
    }

    /** Clients may lose their connections from `from` on until now. */
    #telling(from) {
        this.audit.killed(from - KILL_SLACK_MS, performance.now() + KILL_SLACK_MS);
    }

    async killWorker(random) {
        const victims = this.gateway.workers();
        if (victims.length === 0) {
            return 'none lives';
        }
        const victim = random.pick(victims);
        const from = performance.now();
        await this.#kill(victim);
        this.#telling(from);
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

    async killKeeper() {
        const keeper = () => this.gateway.children().find(({ title }) => title === 'promptgate: keeper');
        const victim = keeper();
        if (!victim) {
            return 'none lives';
        }
        await this.#kill(victim);
        await until('another keeper', () => (keeper()?.pid ?? victim.pid) !== victim.pid);
        return victim.title;
    }

    /** Starts it again as a service manager would, at once. */
    async #startAgain() {
        await this.gateway.end();
        this.#past += this.gateway.stderr;
        await this.gateway.restart();
    }

    /** Its children end what they have in hand; sometimes one of them is killed meanwhile. */
    async killMaster(random) {
        const { gateway } = this;
        const orphans = gateway.children();
        const also = random.chance(0.5) ? random.pick(orphans) : null;
        const from = performance.now();
        await this.#kill(look(gateway.pid));
        const started = this.#startAgain();
        if (also) {
            await sleep(random.between(0, 300));
            this.#signal(also);
        }
        await started;
        this.#telling(from);
        return `killed as well: ${also?.title ?? 'nobody'}`;
    }

    async killAll(random) {
        const { gateway } = this;
        const all = [...gateway.children(), look(gateway.pid)].filter(Boolean);
        const from = performance.now();
        for (let left = [...all]; left.length > 0;) {
            const [victim] = left.splice(random.between(0, left.length - 1), 1);
            this.#signal(victim);
        }
        await this.#startAgain();
        this.#telling(from);
        return `${all.length} processes`;
    }

    /** Sometimes a worker is killed meanwhile. */
    async pauseLogger(random) {
        const logger = this.gateway.logger();
        if (!logger) {
            return 'none lives';
        }
        const ms = random.between(50, 1500);
        process.kill(logger.pid, 'SIGSTOP');
        await sleep(ms / 2);
        const also = random.chance(0.3) ? await this.killWorker(random) : 'nobody';
        await sleep(ms / 2);
        process.kill(logger.pid, 'SIGCONT');
        return `${ms} ms, killed meanwhile: ${also}`;
    }

    /** For a second nobody else can write to the store. */
    async lockStore(random) {
        const unlock = await lockStore(this.gateway.database);
        const ms = random.between(200, 1200);
        await sleep(ms);
        await unlock();
        return `${ms} ms`;
    }

    // ---- what the gateway said of deaths

    get stderr() {
        return this.#past + this.gateway.stderr;
    }

    /** Deaths that were not our doing. */
    strangeDeaths() {
        const ends = [...this.stderr.matchAll(
            /^.*\(pid (\d+)\) (was killed by signal|ended with status).*$/gm)];
        return ends.filter(([, pid]) => !this.#pids.has(Number(pid))).map(([line]) => line);
    }
}
