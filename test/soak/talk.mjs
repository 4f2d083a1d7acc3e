// A client of conversations, who knows what they must hold.

/** A conversation: the upstream answers with how many messages it was told, so each answer tells
 * whether a turn that was answered is missing, or there twice. */
export class Talk {
    static #MOST = 20;
    #id = null;
    #turns = 0; // that were answered
    #unknown = 0; // whose end nobody has seen: stored or not

    constructor(wrong) {
        this.wrong = wrong;
    }

    member() {
        return this.#id ? { session_id: this.#id } : {};
    }

    answered(outcome, { json }) {
        if (outcome !== 'ok') {
            if (outcome === 'session_forbidden' || outcome === 'session_expired' || outcome === 'session_full') {
                this.wrong.push(`${outcome} after ${this.#turns} turns of ${this.#id}`);
            } else if (outcome === 'sessions_unavailable') {
                this.broke(); // it may be stored, and nobody could say so
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
        if (this.#turns >= Talk.#MOST) {
            this.#id = null;
            this.#turns = 0;
        }
    }

    broke() {
        this.#unknown += this.#id ? 1 : 0;
    }
}
