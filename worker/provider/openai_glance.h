/* Most events of a stream are a few characters of text. These are recognised in the one pass that
 * checks their JSON, without making anything of it. */
#pragma once

#include "shared/base/buf.h"

struct openai_glance {
    struct buf *text;  /* what is said is appended; NULL = only counted */
    size_t text_bytes; /* of it */
};

/* True for an event of OpenAI's shape that has one choice, in which there is nothing but text (or
 * none) and what nobody waits for. False for any other, and for what is not JSON: read it whole. */
bool openai_glance(struct str event, struct openai_glance *seen);
