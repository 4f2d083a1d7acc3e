// Where a run's gateway lies.
import fs from 'node:fs';

function roomIn(folder) {
    try {
        const { bavail, bsize } = fs.statfsSync(folder);
        return bavail * bsize;
    } catch {
        return 0;
    }
}

/** The processes' heartbeats are in shared memory, which a service has in a tmpfs; and where others
 * keep the disk busy for seconds, everything here would wait for it. Call it before anything asks for
 * the temporary directory. */
export function preferMemory() {
    if (!process.env.TMPDIR && roomIn('/dev/shm') > 2 ** 30) {
        process.env.TMPDIR = '/dev/shm';
    }
}
