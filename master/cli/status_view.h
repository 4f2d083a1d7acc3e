/* The JSON of `promptgate status` for people. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/error.h"

/* Appends one line for each member of the object, and a table for each list of objects, whatever
 * their names are: a newer master may tell more. False when the text is no JSON object. */
bool status_view(struct str json, struct buf *out, struct error *error)
    __attribute__((warn_unused_result));
