/* How providers with OpenAI's chat completions differ from it, one row each. Source: the request
 * types of the vendors' SDKs, and their documentation of errors. */
#pragma once

#include "worker/provider/provider.h"

struct openai_dialect {
    const char *max_tokens, *seed; /* the members' names */
    bool stop_is_list;             /* a single text isn't taken */
    double hottest;                /* temperatures above are sent as this; 0 = any */
    bool short_ids;                /* tool call ids must be nine letters and digits */
    bool says_prefix; /* a last message of the assistant's is marked as one to go on with */
    bool strict;      /* content is a text and nothing else */
    bool asks_usage;  /* a stream has its usage only if asked for */
    uint64_t lacks;   /* members that it refuses or ignores */
    int request_status, later_status; /* beyond OpenAI's meaning: the client's fault; come back */
};

const struct openai_dialect *openai_dialect(enum provider_id id);
/* The conversation as the dialect wants it: a reference to `messages`, or another array. */
struct json_object *openai_dialect_messages(const struct openai_dialect *dialect,
                                            struct json_object *messages);
