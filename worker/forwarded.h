/* Whose request a trusted proxy passes on. */
#pragma once

#include "shared/config.h"
#include "shared/http/connection.h"

/* The client's address: the peer's, or, while that is a trusted proxy, the one before it in
 * X-Forwarded-For, read from its end. What is no address ends the reading. In `text` or of the
 * request, as long as that lives. */
const char *forwarded_client_ip(const struct config_http *config,
                                const struct http_request *request, char text[IP_TEXT_SIZE]);
