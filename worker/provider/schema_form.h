/* A JSON Schema as a provider's structured output takes it: a part of the language, each its own.
 * What a bound says that a provider has no word for is put into `description`, for the model to
 * read. The whole schema is still what answers are held to.
 *
 * Source: the vendors' documentation of structured outputs, and what their SDKs make of a schema
 * before they send it. */
#pragma once

#include "shared/base/str.h"

enum schema_form {
    FORM_WHOLE,  /* as it is, if an object is what it describes */
    FORM_STRICT, /* OpenAI's strict mode */
    FORM_ANTHROPIC,
    FORM_GEMINI,
    FORM_OLLAMA,
    FORM_COHERE,
    FORM_COUNT
};

/* JSON text, the caller's to free; NULL when the form has no words for what the schema means. */
char *schema_form_write(enum schema_form form, struct str schema)
    __attribute__((warn_unused_result));
