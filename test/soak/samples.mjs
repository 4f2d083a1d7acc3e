// Memory and descriptors of a gateway's processes over time.
import fs from 'node:fs';

import { descriptors, look, resident } from '../e2e/proc.mjs';

const ROLE = /^promptgate: (master|logger|worker|keeper)/;

/** Pids that have this file mapped. */
export function mappers(file) {
    return fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)).filter((pid) => {
        try {
            return fs.readFileSync(`/proc/${pid}/maps`, 'utf8').includes(file);
        } catch {
            return false;
        }
    }).map(Number);
}

/** [{ role, pid, title, resident, descriptors: [kind…] }] of all that live. */
export function measure(gateway) {
    const measured = [];
    for (const member of [look(gateway.pid), ...gateway.children()]) {
        const role = ROLE.exec(member?.title ?? '')?.[1];
        try {
            if (role) {
                measured.push({ ...member, role, resident: resident(member.pid),
                                descriptors: descriptors(member.pid) });
            }
        } catch {
            // gone meanwhile
        }
    }
    return measured;
}

/** Allocations that each process holds, by its pid, as alloc_counts.c writes them: { count, bytes }. */
export function allocations(file) {
    const places = new BigInt64Array(new Uint8Array(fs.readFileSync(file)).buffer);
    const held = new Map();
    for (let at = 0; places[at] !== 0n && at < places.length; at += 3) {
        held.set(Number(places[at]), { count: Number(places[at + 1]), bytes: Number(places[at + 2]) });
    }
    return held;
}

export function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted.length === 0 ? NaN : sorted[Math.floor(sorted.length / 2)];
}

export class Samples {
    #rows = []; // { role: { resident, descriptors } }, the mean of a role's processes

    take(gateway) {
        const byRole = Object.groupBy(measure(gateway), ({ role }) => role);
        this.#rows.push(Object.fromEntries(Object.entries(byRole).map(([role, members]) => [role, {
            resident: members.reduce((sum, one) => sum + one.resident, 0) / members.length,
            descriptors: members.reduce((sum, one) => sum + one.descriptors.length, 0) /
                members.length,
        }])));
    }

    /** { role: { resident: [first third, last third], descriptors: […] } }: medians. The first
     * tenth is left out: buffers grow to their size then. */
    thirds() {
        const settled = this.#rows.slice(Math.ceil(this.#rows.length / 10));
        const third = Math.floor(settled.length / 3);
        const of = (rows, role, what) =>
            median(rows.map((row) => row[role]?.[what]).filter((value) => value !== undefined));
        return Object.fromEntries(['master', 'logger', 'keeper', 'worker'].map((role) => [role,
            Object.fromEntries(['resident', 'descriptors'].map((what) => [what, [
                of(settled.slice(0, third), role, what), of(settled.slice(-third), role, what)]]))]));
    }
}
