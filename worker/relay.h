/* A streamed answer on its way to the client (contract: Streaming). The provider's bytes are read
 * event by event; events go out, as they are or translated, in one write for all that came
 * together. Nothing goes out until one carries something, so until then another provider may
 * answer, or an error with its own status.
 *
 *   relay_start ── relay_take … relay_flush ──┬─ RELAY_ENDED, _FAILED, _UNUSABLE
 *   (per attempt)                             └─ relay_close, when the provider's bytes end
 *   then, the attempt being settled, relay_finish: the last write */
#pragma once

#include "worker/kept_reply.h"
#include "worker/provider/chunks.h"
#include "worker/upstream/event_reader.h"

struct delay;
struct exchange;

enum relay_state {
    RELAY_GOES_ON,
    RELAY_ENDED,    /* with the provider's own mark */
    RELAY_FAILED,   /* the provider says so: relay.problem */
    RELAY_UNUSABLE, /* what it sends is no stream of its: likewise */
};

/* All zero = no stream is asked for. */
struct relay {
    /* the client's wish */
    bool asked, wants_usage;
    bool native; /* the provider's own events, not OpenAI's */

    /* of the attempt under way */
    bool started;
    bool closing; /* what is read now is all there is */
    enum relay_state state;
    struct event_reader reader;
    struct streamed streamed;
    bool carries; /* an event carried something */
    bool usage_told;
    bool held_up;        /* the client was too slow for the provider once */
    struct str end_mark; /* the provider's, as it came; absent = none yet */
    struct str problem;

    /* towards the client */
    bool begun;          /* the answer's head has gone out */
    bool spoken;         /* events of the provider's, too */
    struct buf out;      /* to be written */
    size_t sent;         /* bytes of events */
    uint64_t written_ms; /* when something was written last, by the loop's clock */
    int64_t first_us;    /* when an event carried something first; 0 = not yet */
    struct delay *pulse; /* the next look whether a comment is due */
    struct buf past;     /* a native stream for an Idempotency-Key: what has gone out */
};

/* An attempt begins; what an earlier one said is forgotten. */
void relay_start(struct exchange *ex);
/* Takes bytes of the provider's stream; writes nothing. */
enum relay_state relay_take(struct exchange *ex, struct str bytes);
/* Writes what is due; a provider that is faster than the client pauses. */
void relay_flush(struct exchange *ex);
/* No more bytes of the provider's come: relay.streamed.finish_reason tells whether it was all. */
void relay_close(struct exchange *ex);
/* The client has taken all that was written. */
void relay_writable(struct exchange *ex);
/* What has come becomes ex->completion. */
void relay_collect(struct exchange *ex);
/* The end, good or bad as ex->failure says. Returns the bytes of the whole answer. */
size_t relay_finish(struct exchange *ex);
/* Appends the stream as a later request with the same key gets it, from its first event to its end:
 * OpenAI's put together, the provider's own as it was. */
enum kept_kind relay_again(const struct exchange *ex, struct buf *out);
/* Sends such a one. Returns the bytes of the whole answer. */
size_t relay_replay(struct exchange *ex, const struct kept_reply *reply);
void relay_release(struct exchange *ex);
