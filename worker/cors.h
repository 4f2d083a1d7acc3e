/* Web pages of other origins as clients (contract: Browsers; Fetch, "CORS protocol"). */
#pragma once

#include "shared/config.h"
#include "shared/http/connection.h"

/* Appends what lets a page of the request's origin read an answer of the project's: nothing but
 * `Vary` unless the project lists the origin. `project` may be NULL. */
void cors_headers(const struct config_project *project, const struct http_request *request,
                  struct buf *headers);
/* Appends the answer to an OPTIONS that asks before such a request, which may use the methods
 * `allow`. False when the project does not list the origin. */
bool cors_preflight(const struct config_project *project, const struct http_request *request,
                    const char *allow, struct buf *headers) __attribute__((warn_unused_result));
