/* Formats of strings (JSON Schema Validation 7). */
#pragma once

#include "shared/base/str.h"
#include "shared/schema/schema.h"

struct format;

/* NULL for one that is not known: everything has it. */
const struct format *format_named(struct str name, enum schema_draft draft);
bool format_fits(const struct format *format, struct str text);
