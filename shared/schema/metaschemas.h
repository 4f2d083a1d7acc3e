/* The drafts' own schemas, built in: metaschemas/ holds their texts. */
#pragma once

#include "shared/base/str.h"
#include "shared/schema/schema.h"

/* A part of the binary: made from metaschemas/ by embed.awk. */
struct metaschema_text {
    const char *name; /* the file's, without .json: "draft-07", "2020-12/meta/core" */
    const char *json;
};

extern const struct metaschema_text metaschema_texts[];
extern const size_t metaschema_texts_count;

/* Whether the URI (without fragment) is a draft's metaschema, and which. */
bool metaschema_draft(struct str uri, enum schema_draft *draft);
/* The document at the URI, the caller's to release; NULL when it is none of them. */
struct json_object *metaschema_load(struct str uri, enum schema_draft *draft);
/* "https://json-schema.org/draft/2020-12/schema" */
struct str metaschema_uri(enum schema_draft draft);
