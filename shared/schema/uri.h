/* URI references, as far as $id and $ref need them (RFC 3986 5). */
#pragma once

#include "shared/base/arena.h"
#include "shared/base/str.h"

/* `reference` as seen from `base`, without its fragment, which is in `fragment` (absent = none). In
 * `arena`. */
struct str uri_resolve(struct str base, struct str reference, struct str *fragment,
                       struct arena *arena);
/* Percent-encoded bytes become what they are. In `arena`. */
struct str uri_decode(struct str text, struct arena *arena);
