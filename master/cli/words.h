/* JSON as people read it: a member a line, "yes" and "no", texts of several lines below their
 * names. */
#pragma once

#include "shared/base/buf.h"

#include <json-c/json.h>

void cli_write_words(struct json_object *object, struct buf *out);
