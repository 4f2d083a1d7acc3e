/* Requests that are refused before their token is accepted, added up by minute, by what was
 * answered and by the client's network, and sent to the logger when the minute is over. Of so many
 * networks in one minute; the rest is one more, "other", so that no crowd of clients takes more
 * memory. */
#pragma once

#include "shared/http/api_error.h"

#include <stdint.h>

enum { REFUSALS_NETWORKS = 256, REFUSALS_SEND_MS = 5000 };

struct log_writer;
struct refusals;

/* `host` is the caller's, as long as this lives. */
struct refusals *refusals_new(struct log_writer *log, const char *host);
void refusals_free(struct refusals **refusals);
/* `client_ip` as http_client_ip says it. */
void refusals_count(struct refusals *refusals, enum api_error code, const char *client_ip);
/* Sends what was counted a few seconds ago, or in an earlier minute. Call it now and then. */
void refusals_tick(struct refusals *refusals);
/* Sends everything: before the process leaves. */
void refusals_flush(struct refusals *refusals);
