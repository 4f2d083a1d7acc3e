/* The estimate of tokens that is used where no money hangs on it: a quarter of the characters,
 * rounded up. */
#pragma once

#include "shared/base/str.h"

#include <stdint.h>

struct json_object;

int64_t estimate_text(struct str text);
/* Of all texts in a conversation's messages. */
int64_t estimate_messages(struct json_object *messages);
