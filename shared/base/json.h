/* JSON values as json-c objects, read by the strict reader and written compactly.
 * Numbers that neither int64 nor double holds exactly as written, and strings with lone surrogate
 * escapes, keep their source text and are written back as they came. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/error.h"
#include "shared/base/json_text.h"

#include <json-c/json.h>
#include <stdint.h>

/* Reads one JSON value into `*value` (json null is a NULL pointer there, as json-c has it); give
 * it back with json_object_put. False with a reason for whatever json_check refuses. */
bool json_read(struct str text, struct json_object **value, struct error *error)
    __attribute__((warn_unused_result));

/* Compact text of a value, no white space. */
void json_write(struct buf *out, struct json_object *value);

/* The member `name`, or NULL when there is none; `*present` (may be NULL) tells a null member from
 * none. */
struct json_object *json_member(struct json_object *object, const char *name, bool *present);
/* The text of a string value; absent for anything else. Valid as long as the value. */
struct str json_text(struct json_object *value);
/* The integer of an int value or of a double without a fraction within int64; else `otherwise`. */
int64_t json_int_or(struct json_object *value, int64_t otherwise);
