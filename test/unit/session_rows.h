/* Rows of sessions for tests of their stores, whichever driver they have; cmocka is included. */
#pragma once

#include "master/store/sessions.h"

#include <stdio.h>
#include <string.h>

static const int64_t start_ms = 1790000000000, hour_ms = 3600000, day_ms = 86400000;

static inline void assert_says(const struct error *error, const char *part)
{
    if (!strstr(error->message, part))
        fail_msg("\"%s\" lacks \"%s\"", error->message, part);
}

static inline void begin(struct sessions_store *store)
{
    struct error error;
    if (!sessions_begin(store, &error))
        fail_msg("%s", error.message);
}

static inline void commit_all(struct sessions_store *store)
{
    struct error error;
    if (!sessions_commit(store, &error))
        fail_msg("%s", error.message);
}

static inline struct uuid id_of(uint8_t number)
{
    struct uuid id = {{number, 0, 0xff, 7}};
    id.bytes[15] = number;
    return id;
}

/* Its turns are an hour long. */
static inline struct session_row new_row(uint8_t number)
{
    return (struct session_row){.id = id_of(number),
                                .last_request = id_of((uint8_t)(number + 100)),
                                .project = STR("shop"),
                                .endpoint = STR("chat"),
                                .token = STR("till"),
                                .created_ms = start_ms,
                                .stored_ms = start_ms,
                                .expires_ms = start_ms + hour_ms};
}

/* One turn more, of two messages. */
static inline bool try_turn(struct sessions_store *store, struct session_row *row, bool *moved,
                            struct error *error)
{
    char messages[128];
    row->turns++;
    row->messages += 2;
    row->tokens += 10;
    snprintf(messages, sizeof messages, "{\"q\":%d},{\"a\":%d}", (int)row->turns, (int)row->turns);
    return sessions_add_turn(store, row, str_of(messages), moved, error);
}
