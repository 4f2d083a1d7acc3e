/* A streamed answer: what providers' events say is collected here, and, where they are not in
 * OpenAI's shape, written as its chunks. */
#pragma once

#include "worker/provider/provider.h"

/* A tool call as far as it has come. */
struct streamed_call {
    struct str id, name;
    struct buf arguments;
    bool has_arguments;
    int64_t place;             /* the provider's own number of it */
    struct json_object *extra; /* owned: its extra_content; NULL = none */
};

/* Zeroed, with the first members set, is one at the beginning. */
struct streamed {
    enum provider_id provider;
    enum model_api api;
    struct arena *arena;                  /* texts that stay */
    int64_t created_s;                    /* wall clock, for the chunks */
    struct str default_id, default_model; /* where the provider says none */

    /* collected */
    struct str id, model;
    bool keeps_text; /* else only how long it is */
    struct buf text, refusal, reasoning;
    size_t said_bytes; /* of all that was told: text, calls, reasoning */
    struct streamed_call *calls;
    size_t calls_count;
    const char *finish_reason; /* NULL = not ended yet */
    struct usage usage;
    struct str failure; /* the provider's words: not for clients as they are */
    bool unusable;      /* or what is wrong with an event that cannot be read */
    bool role_written, finish_due;
};

void streamed_free(struct streamed *streamed);
/* What has come becomes the completion's, as far as it was kept; its texts stay in the arena. The
 * usage is only taken where it is the whole answer's. */
void streamed_complete(const struct streamed *streamed, struct completion *completion);

/* Whether the provider streams lines of JSON, not server-sent events. */
bool streamed_in_lines(enum provider_id provider);
/* Whether its events have OpenAI's shape, so that their bytes can go on as they are. */
bool streamed_is_openai(enum provider_id provider, enum model_api api);
/* Reads one event's data (absent = it has none). What is not in OpenAI's shape is appended to
 * `chunks`, as events of its shape; where nothing is appended to an event that has it, its own
 * bytes are meant. */
enum event_kind streamed_read(struct streamed *streamed, struct str event, struct buf *chunks);
/* The chunk with the reason to end, unless it has gone out with the provider's own bytes. */
void chunks_write_finish(struct streamed *streamed, struct buf *chunks);
/* The event with the usage, for clients that asked for it. */
void chunks_write_usage(const struct streamed *streamed, struct buf *chunks);
/* All that was collected, as few chunks of OpenAI's shape; `usage` tells whether its event is a
 * part of it. */
void chunks_write_again(const struct streamed *streamed, bool usage, struct buf *chunks);

/* ---- for providers: collects, and writes a chunk unless `chunks` is NULL. Whether there was
 * anything to say. ---- */

/* `text` is a JSON string; others and empty ones say nothing. */
bool chunks_add_text(struct streamed *streamed, struct json_object *text, struct buf *chunks);
bool chunks_add_refusal(struct streamed *streamed, struct json_object *text, struct buf *chunks);
bool chunks_add_reasoning(struct streamed *streamed, struct json_object *text, struct buf *chunks);
/* A call begins, at the provider's place; an absent id is made up. `extra` (NULL = none) is the
 * chunk's extra_content. */
void chunks_begin_call(struct streamed *streamed, int64_t place, struct str id, struct str name,
                       struct json_object *extra, struct buf *chunks);
/* A piece of the arguments of the call at that place; none there = passed over. */
bool chunks_add_arguments(struct streamed *streamed, int64_t place, struct str piece,
                          struct buf *chunks);
/* The call at that place is complete: without arguments it gets {}. */
bool chunks_end_call(struct streamed *streamed, int64_t place, struct buf *chunks);
/* A call that comes as a whole. */
void chunks_add_call(struct streamed *streamed, struct str id, struct str name,
                     struct json_object *arguments, struct json_object *extra, struct buf *chunks);
/* The reason to end; it is written when all has come, for some repeat it, or say more after it. */
void chunks_finish(struct streamed *streamed, const char *reason, struct buf *chunks);
/* An event of OpenAI's shape, as it is. */
void chunks_write(struct json_object *chunk, struct buf *chunks);
bool streamed_has_call(const struct streamed *streamed, int64_t place);
/* What the provider says of itself; the first word counts. */
void streamed_note_names(struct streamed *streamed, struct str id, struct str model);
enum event_kind streamed_fail(struct streamed *streamed, struct str message);
