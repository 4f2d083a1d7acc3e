// Numbers that a seed repeats.

/** mulberry32: good enough to choose by, and a few lines. */
export class Random {
    constructor(seed) {
        this.state = seed >>> 0;
    }

    /** In [0, 1). */
    next() {
        this.state = (this.state + 0x6d2b79f5) >>> 0;
        let mixed = this.state;
        mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
        mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    }

    /** An integer from `low` to `high`, both possible. */
    between(low, high) {
        return low + Math.floor(this.next() * (high - low + 1));
    }

    chance(share) {
        return this.next() < share;
    }

    pick(list) {
        return list[this.between(0, list.length - 1)];
    }

    /** Another source, which this one's later use does not change. */
    fork() {
        return new Random(Math.floor(this.next() * 2 ** 32));
    }
}
