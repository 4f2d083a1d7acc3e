// A disk without room.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';

/** Takes all the room there is on the disk of a folder, to the last byte; what it returns gives it
 * back. */
export function fillDisk(folder) {
    const name = path.join(folder, 'ballast');
    const ballast = fs.openSync(name, 'a');
    for (let size = 1 << 20; size >= 1;) {
        try {
            fs.writeSync(ballast, Buffer.alloc(size));
        } catch (error) {
            assert.equal(error.code, 'ENOSPC');
            size >>= 1;
        }
    }
    fs.closeSync(ballast);
    return () => fs.rmSync(name);
}
