// Holds against each other what clients saw, what the upstream saw, the rows in gateway_logs and
// the counters file, and says every disagreement.
//
// Each request carries a marker of its own in its message, so that a call at the upstream is known
// by it; and it comes from an address (127.x.y.z) that tells its connection, so that a row whose
// answer never arrived can still be told from all others. What agrees is forgotten at once: a long
// run needs no more memory than a short one.
import { execFileSync } from 'node:child_process';
import path from 'node:path';

import { openStore, POSTGRES } from './database.mjs';
import { PROMPTGATE, UUID7 } from './harness.mjs';

const DUMP = process.env.COUNTERS_DUMP ?? path.join(path.dirname(PROMPTGATE), 'counters-dump');

/** Refused before the token was accepted, whoever asks: such an answer has no row. */
const ROWLESS = new Set(['bad_http', 'headers_too_large', 'overloaded', 'unauthorized',
                         'method_not_allowed']);

/** The counters file in numbers: { slots: [{ requests, rows, … }], logged_rows, … }. */
export function readCounters(file) {
    return JSON.parse(execFileSync(DUMP, [file], { encoding: 'utf8' }));
}

const KEYS = ['project', 'endpoint', 'token', 'provider', 'model', 'status', 'routing_decision'];
const SUMS = ['prompt_tokens', 'completion_tokens', 'cached_tokens', 'cache_write_tokens',
              'reasoning_tokens', 'total_tokens', 'cost_nano_usd', 'bytes_in', 'bytes_out',
              'latency_ms', 'gateway_us', 'first_token_ms'];
const HISTOGRAMS = ['latency_ms', 'gateway_us', 'first_token_ms'];
const hourOf = (time) => (POSTGRES ? `to_char(${time} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24')`
                                   : `substr(${time}, 1, 13)`);
const NO = POSTGRES ? 'false' : '0';
const named = (values) => values.map((value, n) => `${value} AS v${String(n).padStart(2, '0')}`);
const SUMS_OF_ROWS = `
    SELECT ${named([hourOf('created_at'), ...KEYS.map((key) => `coalesce(${key}, '')`),
                    `coalesce(streamed, ${NO})`, 'count(*)',
                    ...SUMS.map((sum) => `coalesce(sum(${sum}), 0)`),
                    ...HISTOGRAMS.map((name) => `count(${name})`)])}
    FROM gateway_logs GROUP BY ${hourOf('created_at')}, ${KEYS}, streamed`;
const histogram = (name) =>
    Array.from({ length: 24 }, (_, n) => `${name}_b${String(n).padStart(2, '0')}`).join(' + ');
const SUMS_OF_USAGE = `
    SELECT ${named([hourOf('hour'), ...KEYS, 'streamed', 'sum(requests)',
                    ...SUMS.map((sum) => `sum(${sum})`),
                    ...HISTOGRAMS.map((name) => `sum(${histogram(name)})`)])}
    FROM gateway_usage_hourly GROUP BY ${hourOf('hour')}, ${KEYS}, streamed`;

/** What a store has added up: { refused, wrong: [hours and keys where the rollups are not
 * the sums of the rows], cost of all rows }. The gateway has been stopped. */
export function readSums(database) {
    const store = openStore(database, { readOnly: true });
    const rows = store.prepare(SUMS_OF_ROWS).all().map((row) => JSON.stringify(Object.values(row)));
    const usage = store.prepare(SUMS_OF_USAGE).all().map((row) => JSON.stringify(Object.values(row)));
    const refused = store.prepare('SELECT coalesce(sum(count), 0) AS sum FROM gateway_refused').get().sum;
    const cost = store.prepare('SELECT coalesce(sum(cost_nano_usd), 0) AS sum FROM gateway_logs').get().sum;
    store.close();
    const [inRows, inUsage] = [new Set(rows), new Set(usage)];
    return { refused, cost: Number(cost), wrong: [...rows.filter((sum) => !inUsage.has(sum)).map((sum) => `rows ${sum}`),
                              ...usage.filter((sum) => !inRows.has(sum)).map((sum) => `rollup ${sum}`)] };
}

/** "ok", "replayed" or the error's code, as the row's status must say it. */
function outcomeOf({ status, json, headers }) {
    if (json?.error) {
        return json.error.code;
    }
    if (headers?.['idempotent-replayed']) {
        return 'replayed';
    }
    return status === 200 ? 'ok' : `status ${status} without a code`;
}

const now = () => performance.now();

/** One request of a client: to be ended by `answered` or `broke`, once. */
class Request {
    constructor(audit, fields) {
        Object.assign(this, { row: 'must', upstream: false, leaves: false, calls: 0 }, fields);
        this.audit = audit;
        this.began = now();
    }

    toString() {
        const { marker, ip, endpoint, id = 'no id', kind = 'request' } = this;
        return `${kind} ${marker} (${id}) from ${ip} to ${endpoint}`;
    }

    /** The whole answer is there: { status, id (X-Request-Id), json }. */
    answered(answer) {
        this.ended = now();
        this.audit._answered(this, answer);
    }

    /** The connection ended before the whole answer was there, by either side. `id` if the
     * answer's head had come. */
    broke(reason, id) {
        this.ended = now();
        this.audit._broke(this, reason, id);
    }
}

export class Audit {
    #open = new Map(); // marker -> request that has not ended, or whose row is awaited
    #repeated = new Map(); // marker -> { calls, attempts } of all requests that said it, if several did
    #byId = new Map(); // id -> request that was answered and whose row is awaited
    #groups = new Map(); // address -> { open, broken, rows }
    #unexpected = []; // [request, what is wrong with its answer]
    #kills = []; // [from, to] around deaths
    #tolerated = new Set();
    moneyOff = 0; // nano-USD between rows and counters

    constructor() {
        this.disagreements = [];
        this.kinds = {}; // of disagreement -> how many
        this.counts = { requests: 0, answers: 0, broken: 0, calls: 0, rows: 0, rowless: 0,
                        excused: 0, outcomes: {} };
    }

    #disagree(kind, what) {
        this.kinds[kind] = (this.kinds[kind] ?? 0) + 1;
        if (this.kinds[kind] <= 20) {
            this.disagreements.push(`${kind}: ${what}`);
        }
    }

    #group(ip) {
        let group = this.#groups.get(ip);
        if (!group) {
            group = { open: 0, broken: [], rows: new Map() };
            this.#groups.set(ip, group);
        }
        return group;
    }

    #forgetGroup(ip) {
        const group = this.#groups.get(ip);
        if (group && group.open === 0 && group.broken.length === 0 && group.rows.size === 0) {
            this.#groups.delete(ip);
        }
    }

    /** A client begins a request.
     *   marker    its own; it stands in its message
     *   said      another request's that stands there, because this one says the same again
     *   ip        the client's address
     *   row       'must' | 'may' (it leaves so that its head may be lost) | 'never'
     *   endpoint  its slug, for the row
     *   upstream  whether the endpoint's provider is the one whose calls are told
     *   leaves    the client means to break the connection
     *   echoes    the answer's content must have the marker
     *   expect    outcomes ("ok", error codes) that are right; all when left out */
    request(fields) {
        const request = new Request(this, fields);
        if (this.#open.has(request.marker)) {
            throw new Error(`the marker ${request.marker} is used twice`);
        }
        this.#open.set(request.marker, request);
        if (request.said && request.said !== request.marker) {
            this.#repeats(request);
        }
        this.#group(request.ip).open++;
        this.counts.requests++;
        return request;
    }

    /** Whose call it was nobody can tell of a message that was said again: the upstream may read late
     * what a dead worker had sent. But all their calls must stand in all their rows. */
    #repeats(request) {
        const all = this.#repeated.get(request.said) ?? { calls: 0, attempts: 0 };
        this.#repeated.set(request.said, all);
        const first = this.#open.get(request.said);
        if (first && !first.all) {
            first.all = all;
            all.calls += first.calls;
            first.calls = 0;
        }
        request.all = all;
    }

    /** Processes were killed between these times (performance.now), and clients may have lost their
     * connections. Nothing that the gateway had taken on may be lost. */
    killed(from, to) {
        this.#kills.push([from, to]);
    }

    /** Outcomes that are right for all requests from now on. */
    tolerate(outcomes) {
        this.#tolerated = new Set(outcomes);
    }

    /** Whether a process died while the request was under way. */
    #metKill(request) {
        return this.#kills.some(([from, to]) => request.began <= to && request.ended >= from);
    }

    _answered(request, answer) {
        const outcome = outcomeOf(answer);
        this.counts.answers++;
        this.counts.outcomes[outcome] = (this.counts.outcomes[outcome] ?? 0) + 1;
        Object.assign(request, { id: answer.id, status: answer.status, outcome });
        if (!UUID7.test(answer.id ?? '')) {
            this.#disagree('answer without an id', request);
        }
        const said = answer.json?.meta?.request_id;
        if ((said !== answer.id) !== (outcome === 'replayed')) {
            this.#disagree('two ids in one answer', `${request}: the body says ${said}`);
        }
        if (request.expect && !request.expect.includes(outcome) && !this.#tolerated.has(outcome)) {
            this.#unexpected.push([request, `${request}: ${outcome} (${answer.json?.error?.message}) ` +
                                   `where ${request.expect.join(' or ')} is right`]);
        }
        if (request.echoes && outcome === 'ok' && !answer.text.includes(request.marker)) {
            this.#disagree("another request's answer", `${request}: ${answer.text.slice(0, 200)}`);
        }
        if (request.upstream && outcome === 'replayed' && request.calls > 0) {
            this.#disagree('a call for an answer that was there already', request);
        }
        if (request.upstream && outcome === 'ok' && (request.all ?? request).calls === 0) {
            this.#disagree('an answer without a call', request);
        }
        const group = this.#group(request.ip);
        group.open--;
        if (request.row === 'never' || ROWLESS.has(outcome)) {
            this.counts.rowless++;
            this.#open.delete(request.marker);
            this.#forgetGroup(request.ip);
            return;
        }
        if (this.#byId.has(request.id)) {
            this.#disagree('an id twice', `${request} and ${this.#byId.get(request.id)}`);
        }
        this.#byId.set(request.id, request);
        const row = group.rows.get(request.id);
        if (row) {
            group.rows.delete(request.id);
            this.#match(request, row);
        }
    }

    _broke(request, reason, id) {
        this.counts.broken++;
        Object.assign(request, { reason, id });
        const group = this.#group(request.ip);
        group.open--;
        group.broken.push(request);
    }

    /** The upstream got a call with this marker. */
    call(marker) {
        const request = this.#open.get(marker);
        const all = this.#repeated.get(marker);
        this.counts.calls++;
        if (all) {
            all.calls++;
        } else if (!request) {
            this.#disagree('a call that no open request explains', marker);
        } else if (!request.upstream) {
            this.#disagree('a call for an endpoint without upstream', request);
        } else if (++request.calls > (request.mostCalls ?? 1)) {
            this.#disagree('a request that the upstream saw too often', request);
        }
    }

    /** A row of gateway_logs, in the order of their being stored. */
    row(row) {
        this.counts.rows++;
        const request = this.#byId.get(row.request_id);
        if (request) {
            this.#match(request, row);
            return;
        }
        const { rows } = this.#group(row.client_ip);
        if (rows.has(row.request_id)) {
            this.#disagree('a row twice', row.request_id);
        }
        rows.set(row.request_id, row);
    }

    /** Row and answer of the same request. */
    #match(request, row) {
        this.#byId.delete(request.id);
        this.#open.delete(request.marker);
        this.#forgetGroup(request.ip);
        const differs = (what, inRow, seen) =>
            this.#disagree('a row that contradicts the answer',
                           `${request}: ${what} is ${inRow} in the row, ${seen} to the client`);
        if (row.status !== request.outcome) {
            differs('status', row.status, request.outcome);
        }
        if (row.http_status !== request.status) {
            differs('http_status', row.http_status, request.status);
        }
        if (row.client_ip !== request.ip) {
            differs('client_ip', row.client_ip, request.ip);
        }
        const unresolved = row.endpoint === null && request.outcome !== 'ok';
        if (row.endpoint !== request.endpoint && !unresolved) {
            differs('endpoint', row.endpoint, request.endpoint);
        }
        const attempts = this.#countAttempts(request, row);
        if (request.calls > attempts) {
            differs('attempts', attempts, `${request.calls} calls`);
        }
    }

    /** What a dead worker had tried stands in one object. */
    #countAttempts(request, { attempts }) {
        const count = attempts === null ? 0
            : JSON.parse(attempts).reduce((sum, { tries = 1 }) => sum + tries, 0);
        if (request.all) {
            request.all.attempts += count;
        }
        return count;
    }

    // ---- the end

    /** How many answers still wait for their rows. */
    awaited() {
        return this.#byId.size;
    }

    /** Requests whose answer never came, of one address, against the rows left over there. Rows
     * and requests of one address are taken in the order of time. */
    #settleGroup(group) {
        const rows = [...group.rows.values()].sort((a, b) => (a.request_id < b.request_id ? -1 : 1));
        const named = new Map(rows.map((row) => [row.request_id, row]));
        const left = [];
        for (const request of group.broken) {
            const row = named.get(request.id);
            if (row) {
                named.delete(request.id);
                this.#matchBroken(request, row);
            } else {
                left.push(request);
            }
        }
        // The upstream's word comes first, then who needs a row, then who may have none.
        const needs = (request) => request.row === 'must' || request.calls > 0;
        const rank = (request) => (request.calls > 0 ? 0 : needs(request) ? 1 : 2);
        const waiting = [...named.values()];
        for (const request of left.sort((a, b) => rank(a) - rank(b))) {
            const row = request.row === 'never' ? undefined : this.#takeRow(waiting, request);
            if (row) {
                this.#matchBroken(request, row);
            } else if (request.calls > 0 || (needs(request) && !this.#mayBeRefused(request))) {
                this.#disagree(request.calls > 0 ? 'a call without a row' : 'a request without a row',
                               `${request}, ${request.reason}`);
            } else { // nobody had read it yet
                this.counts.excused += needs(request) ? 1 : 0;
            }
        }
        for (const row of waiting) {
            this.#disagree('a row without a request',
                           `${row.request_id} from ${row.client_ip}: ${row.endpoint} ${row.status}`);
        }
    }

    /** Whoever left may have been about to hear that there is no room. */
    #mayBeRefused(request) {
        return this.#metKill(request) || (request.leaves && this.#tolerated.has('overloaded'));
    }

    /** One of its endpoint, or that died before it had one; any, if it must have one. */
    #takeRow(waiting, request) {
        const fits = [(row) => row.endpoint === request.endpoint, (row) => row.endpoint === null,
                      () => !this.#metKill(request)];
        const places = fits.map((fit) => waiting.findIndex(fit));
        const place = places.find((found) => found >= 0);
        return place === undefined ? undefined : waiting.splice(place, 1)[0];
    }

    #matchBroken(request, row) {
        this.#countAttempts(request, row);
        if (row.status === 'worker_died' && !this.#metKill(request)) {
            this.#disagree('worker_died, and none was killed', request);
        }
        if (row.endpoint !== null && row.endpoint !== request.endpoint) {
            this.#disagree('a row that contradicts the request',
                           `${request}: endpoint ${row.endpoint} in ${row.request_id}`);
        }
    }

    #settleBroken() {
        for (const group of this.#groups.values()) {
            for (const request of group.broken) {
                if (!request.leaves && !this.#metKill(request)) {
                    this.#disagree('a connection broke', `${request}: ${request.reason}`);
                }
            }
            this.#settleGroup(group);
        }
    }

    #settleRepeated() {
        for (const [said, { calls, attempts }] of this.#repeated) {
            if (calls > attempts) {
                this.#disagree('a call without a row', `${calls} calls of ${said}, which several requests said; ${attempts} are in their rows`);
            }
        }
    }

    #settleAnswered() {
        for (const request of this.#byId.values()) {
            this.#disagree('an answer without a row', `${request}: ${request.outcome}`);
        }
    }

    /** Workers whose master and logger are both dead refuse what they could not log. */
    #settleUnexpected() {
        for (const [request, what] of this.#unexpected) {
            if (request.outcome !== 'overloaded' || !this.#metKill(request)) {
                this.#disagree('unexpected answer', what);
            }
        }
    }

    /** The counters' sums. Requests and rows are exact whatever died. A logger may have died between
     * a commit and its count, and a refused request's worker before its count or its answer. */
    #settleCounters({ slots, logged_rows: logged }, killed) {
        const sum = (name) => slots.reduce((total, slot) => total + slot[name], 0);
        const { rows } = this.counts;
        const compare = (name, value, from, to) => {
            if (value < from || value > to) {
                const right = from === to ? from : `${from} to ${to}`;
                this.#disagree('a counter', `${name} is ${value}, from what else is known ${right}`);
            }
        };
        compare('requests', sum('requests'), rows, rows);
        compare('rows', sum('rows'), rows, rows);
        compare('in_flight', sum('in_flight'), 0, 0);
        compare('logged_rows', logged, killed.logger ? 0 : rows, rows);
        compare('refused', sum('refused'), killed.worker ? 0 : this.counts.rowless,
                this.counts.rowless + this.counts.broken);
        Object.assign(this.counts, { counted: { requests: sum('requests'), rows: sum('rows'),
                                                logged_rows: logged, refused: sum('refused') } });
    }

    /** Refused requests are told to the logger every few seconds, so a worker that is killed takes
     * some with it. */
    #settleSums({ refused, wrong, cost }, counters, killed) {
        // "Row cost and counter are always the same number": nothing is reserved any more.
        for (const kind of ['project', 'endpoint', 'token']) {
            const counted = counters.accounts.filter((account) => account.kind === kind)
                .reduce((total, account) => total + account.nano_usd, 0);
            if (counted !== cost) {
                this.moneyOff = Math.max(this.moneyOff, Math.abs(counted - cost));
                this.#disagree('money', `the rows cost ${cost} nano-USD, the accounts of each ${kind} have ${counted}`);
            }
        }
        this.counts.cost = cost;
        for (const what of wrong) {
            this.#disagree('a rollup that is not the sum of the rows', what);
        }
        const counted = counters.slots.reduce((total, slot) => total + slot.refused, 0);
        if (refused > counted || (refused < counted && !killed.worker)) {
            this.#disagree('refused requests', `${refused} in the store, ${counted} counted`);
        }
    }

    /** Call it when every row that will ever come was given. `counters` as of readCounters, if they
     * began at zero with the first request; `sums` as of readSums, with them; `killed` how many of
     * each role were. Returns the disagreements; [] is what is wanted. */
    finish({ counters = null, sums = null, killed = {} } = {}) {
        for (const request of this.#open.values()) {
            if (request.ended === undefined) {
                this.#disagree('a request without an end', request);
            }
        }
        this.#settleUnexpected();
        this.#settleBroken();
        this.#settleRepeated();
        this.#settleAnswered();
        if (counters) {
            this.#settleCounters(counters, killed);
        }
        if (sums) {
            this.#settleSums(sums, counters, killed);
        }
        return this.disagreements;
    }
}

/** Rows of a store as they come: each call of `more` returns those stored since the last. */
export class RowReader {
    #last = 0;

    /** `store` is of openStore. */
    constructor(store) {
        const sequence = store.sequence ?? 'rowid';
        this.statement = store.prepare(
            `SELECT ${sequence} AS place, request_id, client_ip, endpoint, status, http_status, ` +
            `attempts FROM gateway_logs WHERE ${sequence} > ? ORDER BY ${sequence} LIMIT 2000`);
    }

    more() {
        const rows = this.statement.all(this.#last);
        this.#last = rows.at(-1)?.place ?? this.#last;
        return rows;
    }
}
