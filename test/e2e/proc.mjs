// What Linux tells about processes: children, titles, descriptors, memory.
import fs from 'node:fs';

function stat(pid) {
    let text;
    try {
        text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    } catch {
        return null;
    }
    // The name stands in parentheses and may hold anything.
    const rest = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { pid, state: rest[0], parent: Number(rest[1]), started: rest[19] };
}

/** True while this very process (pid and start time) lives; a zombie does not. */
export function lives(process) {
    const now = stat(process.pid);
    return now !== null && now.started === process.started && now.state !== 'Z';
}

function title(pid) {
    try {
        return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replace(/\0+/g, ' ').trim();
    } catch {
        return '';
    }
}

/** The process itself as { pid, parent, started, title }, or null. */
export function look(pid) {
    const found = stat(pid);
    return found && found.state !== 'Z' ? { ...found, title: title(pid) } : null;
}

/** Direct children of `parent`, oldest first. */
export function children(parent) {
    return fs.readdirSync('/proc')
        .filter((name) => /^\d+$/.test(name))
        .map((name) => look(Number(name)))
        .filter((found) => found && found.parent === parent)
        .sort((a, b) => Number(a.started) - Number(b.started) || a.pid - b.pid);
}

/** Why memory and descriptors of the processes can't be looked at; false when they can. */
export const CLOSED = process.getuid() !== 0 &&
    'the processes are closed to others of their user (PR_SET_DUMPABLE 0): needs root to look in';

/** What each open descriptor is: "socket", "pipe", "anon_inode", or a path; one of the spool's
 * segments, which come and go by name, is "segment". */
export function descriptors(pid) {
    const kinds = [];
    for (const name of fs.readdirSync(`/proc/${pid}/fd`)) {
        try {
            kinds.push(fs.readlinkSync(`/proc/${pid}/fd/${name}`)
                .replace(/:\[.*$/, '').replace(/^.*\.seg( \(deleted\))?$/, 'segment'));
        } catch {
            // closed since the folder was read
        }
    }
    return kinds.sort();
}

/** Resident memory in bytes, without the counters file: that is there as a whole from the start, and
 * only seems to grow with each page that a process looks at. Where mappings can't be looked at, the
 * process's own memory alone. */
export function resident(pid) {
    if (CLOSED) {
        const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
        return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)[1]) * 1024;
    }
    let bytes = 0;
    let isCounters = false;
    for (const line of fs.readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
        const mapping = /^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+\s*(.*)$/.exec(line);
        if (mapping) {
            isCounters = mapping[1].endsWith('/run/counters');
        }
        const rss = isCounters ? null : /^Rss:\s+(\d+) kB$/.exec(line);
        bytes += rss ? Number(rss[1]) * 1024 : 0;
    }
    return bytes;
}

/** Processor time that the process has taken, in milliseconds. */
export function cpuMs(pid) {
    const text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10; // USER_HZ is 100 on Linux
}

// Sanitizers reserve terabytes.
const LARGEST = 256 << 20;

/** Whether any writable page of the process holds the text. */
function holds(pid, text) {
    const wanted = Buffer.from(text);
    const memory = fs.openSync(`/proc/${pid}/mem`, 'r');
    try {
        for (const line of fs.readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
            const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
            const size = from ? Number(BigInt(`0x${to}`) - BigInt(`0x${from}`)) : 0;
            if (size === 0 || size > LARGEST) {
                continue;
            }
            const bytes = Buffer.alloc(size);
            try {
                fs.readSync(memory, bytes, 0, size, BigInt(`0x${from}`));
            } catch {
                continue; // pages of the kernel's, or gone since
            }
            if (bytes.includes(wanted)) {
                return true;
            }
        }
        return false;
    } finally {
        fs.closeSync(memory);
    }
}

/** The titles of a gateway's processes whose memory holds the text. */
export function holders(gateway, text) {
    return [{ pid: gateway.pid, title: 'promptgate: master' }, ...gateway.children()]
        .filter(({ pid }) => holds(pid, text))
        .map(({ title }) => title.replace(/^promptgate: /, '').replace(/ \(gen.*/, ''))
        .sort();
}
