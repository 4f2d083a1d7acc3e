/* The bodies of answers (contract: Answer, Errors). */
#pragma once

#include "worker/exchange.h"

/* An answer's id where the provider gave none: OpenAI's clients expect one of this form. */
void answer_make_id(const struct exchange *ex, struct buf *out);
/* The native shape, for the slug routes. */
void answer_native(const struct exchange *ex, struct buf *out);
/* A chat.completion object, for the dispatcher. */
void answer_openai(const struct exchange *ex, struct buf *out);
/* The one of both that the route has. */
void answer_success(const struct exchange *ex, struct buf *out);
/* OpenAI's list of models: the endpoints that the token may call. */
void answer_models(const struct exchange *ex, struct buf *out);
/* A failure's details as a JSON array; nothing where there are none. */
void answer_details(const struct failure *failure, struct buf *out);
/* The error shape; also for requests that never became an exchange. */
void answer_error(const struct failure *failure, const char *request_id, struct buf *out);
/* Headers that every answer has, each line with its CRLF. */
void answer_headers(struct buf *out, const char *content_type, const char *request_id,
                    int64_t gateway_us, int64_t upstream_us);
/* Headers that belong to an error: WWW-Authenticate, Retry-After, x-should-retry. */
void answer_error_headers(struct buf *out, const struct failure *failure);
/* All of them for an exchange, as it stands now. */
void answer_head(const struct exchange *ex, const char *content_type, struct buf *out);
