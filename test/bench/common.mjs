// What the benchmarks share: a gateway to measure, load on it, processor time, tables.
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { readCounters } from '../e2e/audit.mjs';
import { demo, LOAD, PROJECT_ID, startGateway, until } from '../e2e/harness.mjs';

export const ROUNDS = Number(process.env.ROUNDS || 5);
export const SECONDS = Number(process.env.SECONDS || 1.5);
const TICK_US = 1e6 / Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

export function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)];
}

function times(pid, first) {
    const text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[first]) + Number(fields[first + 1])) * TICK_US;
}

/** User and system time of a process in microseconds. */
const cpuOf = (pid) => times(pid, 11);

/** The same of those children of its that have ended. */
export const cpuOfEnded = (pid) => times(pid, 13);

export const cpu = (pids) => pids.reduce((sum, pid) => sum + cpuOf(pid), 0);

// ---- the gateway

export const countersOf = (gateway) => readCounters(path.join(gateway.directory, 'run/counters'));

/** Requests that were counted, and rows that are in the store. */
export function progress(gateway) {
    const { slots, logged_rows: logged } = countersOf(gateway);
    return { asked: slots.reduce((sum, slot) => sum + slot.requests, 0), logged };
}

/** Endpoints: bench, of a provider at `upstreamPort`, and echo, the built-in one. */
export async function startPromptgate(upstreamPort, service = {}, count = 1) {
    const gateway = await startGateway({
        workers: count,
        service,
        credentials: { mock: { provider: 'openai', api_key: 'sk-bench-0123456789abcdef',
                               base_url: `http://127.0.0.1:${upstreamPort}/v1` } },
        projects: demo({
            bench: { provider: 'openai', credential: 'mock', model: 'bench-1', streaming_enabled: true },
            echo: { provider: 'echo', model: 'echo' },
        }),
    });
    const workers = gateway.workers().map(({ pid }) => pid);
    const all = [gateway.pid, ...gateway.children().map(({ pid }) => pid)];
    return {
        name: 'promptgate', gateway, port: gateway.port, path: `/api/${PROJECT_ID}/bench`,
        headers: ['-H', `Authorization: Bearer ${gateway.token}`],
        workers: () => workers, all: () => all,
        // Every row is in the store.
        settled: () => until('all rows', () => {
            const { asked, logged } = progress(gateway);
            return asked === logged;
        }, 120),
        stop: () => gateway.stop(),
    };
}

/** `requests` requests over `connections` connections; all must be answered with the system's
 * `status`, or 200. */
export function load(system, body, requests, connections) {
    return new Promise((resolve, reject) => {
        execFile(LOAD, ['-n', String(requests), '-c', String(connections), ...system.headers,
                        '-H', 'Content-Type: application/json', '-d', body, '127.0.0.1',
                        String(system.port), system.path], (error, stdout, stderr) => {
            const report = error ? null : JSON.parse(stdout);
            if (!report || report.by_status[system.status ?? 200] !== requests) {
                reject(new Error(`${system.name}: ${stdout} ${stderr}`));
            } else {
                resolve(report);
            }
        });
    });
}

/** Anonymous memory of a process: what is its own. */
export function memoryOf(pid) {
    const text = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/^RssAnon:\s+(\d+) kB/m.exec(text)[1]) * 1024;
}

// ---- the report

/** Date and machine, for the head of a report. */
export function machine() {
    const [{ model }] = os.cpus();
    return `${new Date().toISOString().slice(0, 10)}, ${os.cpus().length} x ${model}, ` +
           `${Math.round(os.totalmem() / 2 ** 30)} GiB, Linux ${os.release()}`;
}

export const whole = (value) => String(Math.round(value));
export const tenth = (value) => value.toFixed(1);
export const ratio = (a, b) => (a / b).toFixed(2);

export function print(table) {
    const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)));
    const line = (row) => `| ${row.map((cell, i) => cell.padEnd(widths[i])).join(' | ')} |`;
    const [head, ...rest] = table;
    console.log([line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`,
                 ...rest.map(line)].join('\n'));
}
