#include "worker/bodies.h"

#include "worker/secrets.h"

static bool wanted(const struct exchange *ex)
{
    enum log_bodies bodies = ex->services->config->log_bodies;
    bool is_error = ex->failure.code != API_OK || ex->client_gone;
    return ex->token && (bodies == LOG_BODIES_ALL || (bodies == LOG_BODIES_ERRORS && is_error));
}

static struct kept_body keep(struct exchange *ex, struct str body)
{
    const struct config_target *target = ex->attempt.target;
    size_t max = (size_t)ex->services->config->log_max_body;
    struct kept_body kept = {.cut = body.len > max};
    body = target ? without_secrets(target->credential, body, max, &ex->arena) : str_cut(body, max);
    kept.text = arena_copy(&ex->arena, body);
    return kept;
}

void bodies_keep_request(struct exchange *ex)
{
    if (wanted(ex) && ex->body_ended_us > 0)
        ex->request_kept = keep(ex, ex->request->body);
}

void bodies_keep_response(struct exchange *ex, struct str body)
{
    if (wanted(ex))
        ex->response_kept = keep(ex, body);
}
