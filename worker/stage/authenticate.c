/* Who asks: the bearer token and its project (contract: Authentication). */
#include "worker/stage/stage.h"

#include "worker/log_writer.h"

enum { TOKEN_RANDOM_CHARS = 43 }; /* 32 bytes in base64url without padding */

static bool is_base64url(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

static bool looks_like_token(struct str text)
{
    struct str prefix = STR("pg_live_");
    if (!str_starts(text, prefix) || text.len != prefix.len + TOKEN_RANDOM_CHARS)
        return false;
    for (size_t i = prefix.len; i < text.len; i++)
        if (!is_base64url(text.at[i]))
            return false;
    return true;
}

/* The credentials of the one Authorization header; absent unless its scheme is Bearer. */
static struct str bearer(const struct http_request *request)
{
    struct str scheme = STR("Bearer ");
    struct str value = http_header(request, "authorization");
    if (http_header_count(request, "authorization") != 1 || !str_starts_nocase(value, scheme))
        return STR_ABSENT;
    return str_trim((struct str){value.at + scheme.len, value.len - scheme.len});
}

static const struct token_entry *living_token(const struct exchange *ex)
{
    uint8_t hash[SHA256_BYTES];
    struct str text = bearer(ex->request);
    if (!text.at || !looks_like_token(text))
        return NULL;
    sha256(text, hash);
    const struct token_entry *token = token_find(ex->services->tokens, hash);
    return token && token->expires_wall_ms > ex->created_wall_ms ? token : NULL;
}

/* From here on it will have its row, whatever dies. */
static struct shm_request *take_entry(const struct exchange *ex, const struct token_entry *token,
                                      const struct config_project *project)
{
    struct request_opening opening = {
        .id = ex->id,
        .created_wall_ms = ex->created_wall_ms,
        .began_us = ex->began_us,
        .project = project->account,
        .token = token->account,
        .month = month_number(&ex->services->config->store.months, ex->created_wall_ms),
        .client_ip = ex->client_ip,
    };
    struct shm_request *entry = requests_open(ex->services->requests, &opening);
    if (entry)
        return entry;
    log_writer_reclaim(ex->services->log);
    return requests_open(ex->services->requests, &opening);
}

static unsigned scope_for(enum route_kind kind, const char **name)
{
    if (kind == ROUTE_MODELS) {
        *name = "models";
        return SCOPE_MODELS;
    }
    if (kind == ROUTE_USAGE) {
        *name = "usage";
        return SCOPE_USAGE;
    }
    return SCOPE_CHAT;
}

enum stage_result stage_authenticate(struct exchange *ex)
{
    const struct token_entry *token = living_token(ex);
    if (!token)
        return exchange_fail(ex, API_unauthorized,
                             "A valid token is required: Authorization: Bearer pg_live_…");
    const struct config_project *project = config_project(ex->services->config, &ex->route.project);
    if (!project || !token->has_project || uuid_compare(&token->project, &project->id) != 0)
        return exchange_fail(ex, API_not_found, "There is no such project for this token.");
    if (log_writer_is_full(ex->services->log))
        return exchange_fail(ex, API_overloaded,
                             "The gateway's log is not keeping up; try again in a moment.");
    ex->entry = take_entry(ex, token, project);
    if (!ex->entry)
        return exchange_fail(ex, API_overloaded,
                             "Too many requests are in flight; try again in a moment.");
    ex->token = token;
    ex->project = project;
    if (!project->active)
        return exchange_fail(ex, API_project_inactive, "The project is not active.");
    const char *name = "chat";
    unsigned scope = scope_for(ex->route.kind, &name);
    if (!(token->scopes & scope))
        return exchange_fail(ex, API_scope_missing, "The token lacks the scope %s.", name);
    return STAGE_NEXT;
}
