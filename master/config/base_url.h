/* The base URL of a provider as a credential may give it. */
#pragma once

#include "shared/base/error.h"
#include "shared/base/str.h"

/* https with a host, an optional port and path, and nothing else; http for a loopback host or with
 * `allow_http`. `*kept` is what is left without slashes at the end. */
bool base_url_check(struct str url, bool allow_http, struct str *kept, struct error *error)
    __attribute__((warn_unused_result));
