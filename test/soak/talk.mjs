// A client of conversations, who knows what they must hold.

/** One conversation after the other: the upstream answers with how many messages it was told, so each
 * answer tells whether a turn that was answered is missing, or there twice. With `keyed` each turn
 * has an Idempotency-Key and is said again, word by word, until it is answered, and sometimes after
 * that: then there is never a doubt what the conversation holds. */
export class Talk {
    static #MOST = 20;
    static #talks = 0;
    #id = null;
    #turns = 0; // that were answered
    #unknown = 0; // whose end nobody has seen: stored or not
    #said = null; // a turn with a key that has no answer yet
    #last = null; // one that has, { said, text }
    #repeating = false; // that one is said again
    #number = ++Talk.#talks;
    #keys = 0;

    constructor(wrong, { keyed = false } = {}) {
        this.wrong = wrong;
        this.keyed = keyed;
    }

    /** What is said next: { body, headers, said }; `marker` stands in it, or where it is said again
     * that of the first time, which is `said`. */
    next(marker) {
        const member = this.#id ? { session_id: this.#id } : {};
        if (!this.keyed) {
            return { body: JSON.stringify({ message: marker, ...member }), headers: {}, said: marker };
        }
        this.#repeating = this.#said === null && this.#last !== null && Math.random() < 0.2;
        if (this.#repeating) {
            return this.#last.said;
        }
        this.#said ??= { body: JSON.stringify({ message: marker, ...member }), said: marker,
                         headers: { 'Idempotency-Key': `talk ${process.pid} ${this.#number} ${++this.#keys}` } };
        return this.#said;
    }

    answered(outcome, { json, text }) {
        if (outcome !== 'ok' && outcome !== 'replayed') {
            if (['session_forbidden', 'session_expired', 'session_full', 'idempotency_mismatch'].includes(outcome)) {
                this.wrong.push(`${outcome} after ${this.#turns} turns of ${this.#id}`);
            } else if (outcome === 'sessions_unavailable') {
                this.broke(); // it may be stored, and nobody could say so
            }
            return;
        }
        if (this.#repeating) {
            if (outcome !== 'replayed' || text !== this.#last.text) {
                this.wrong.push(`${outcome}, ${text.slice(0, 200)} for what was answered with ${this.#last.text.slice(0, 200)}`);
            }
            return;
        }
        const told = Number(/ (\d+)$/.exec(json.content)?.[1]);
        const turns = (told - 1) / 2;
        if (turns < this.#turns || turns > this.#turns + this.#unknown) {
            this.wrong.push(`${told} messages after ${this.#turns} turns, and perhaps ${this.#unknown} more, of ${this.#id}`);
        }
        this.#id = json.meta.session_id;
        this.#turns = turns + 1;
        this.#unknown = 0;
        this.#last = this.#said && { said: this.#said, text };
        this.#said = null;
        if (this.#turns >= Talk.#MOST) {
            this.#id = null;
            this.#turns = 0;
        }
    }

    /** How many turns of conversations have been answered, and whether one has no answer yet. */
    get inDoubt() {
        return this.#said !== null || this.#unknown > 0;
    }

    get session() {
        return this.#id;
    }

    broke() {
        this.#unknown += this.#id && !this.keyed ? 1 : 0;
    }
}
