#include "worker/answer.h"

#include "shared/base/clock.h"
#include "worker/cors.h"

static void member_string(struct buf *out, const char *name, struct str value)
{
    buf_printf(out, ",\"%s\":", name);
    json_write_string_or_null(out, value);
}

void answer_make_id(const struct exchange *ex, struct buf *out)
{
    buf_puts(out, "chatcmpl-");
    for (const char *c = ex->id_text; *c; c++)
        if (*c != '-')
            buf_putc(out, *c);
}

static void write_id(const struct exchange *ex, struct buf *out)
{
    if (ex->completion.id.len > 0) {
        json_write_string(out, ex->completion.id);
        return;
    }
    buf_putc(out, '"');
    answer_make_id(ex, out);
    buf_putc(out, '"');
}

static struct str model_of(const struct exchange *ex)
{
    return ex->completion.model.len > 0 ? ex->completion.model : str_of(ex->attempt.target->model);
}

static void write_usage(const struct usage *usage, struct buf *out)
{
    buf_printf(out,
               ",\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,"
               "\"total_tokens\":%lld,\"prompt_tokens_details\":{\"cached_tokens\":%lld},"
               "\"completion_tokens_details\":{\"reasoning_tokens\":%lld}}",
               (long long)usage->prompt_tokens, (long long)usage->completion_tokens,
               (long long)usage->total_tokens, (long long)usage->cached_tokens,
               (long long)usage->reasoning_tokens);
}

static void write_ignored(const struct name_list *ignored, struct buf *out)
{
    buf_puts(out, ",\"ignored\":[");
    for (const struct name_list *one = ignored; one; one = one->next) {
        if (one != ignored)
            buf_putc(out, ',');
        json_write_string(out, one->name);
    }
    buf_putc(out, ']');
}

/* Where there is no price, no number is better than a wrong one. */
static void write_cost(const struct exchange *ex, struct buf *out)
{
    const struct shm_sums *sums = request_sums(ex->entry);
    if (sums->basis == COST_NONE)
        return;
    buf_puts(out, ",\"cost_usd\":");
    usd_write(out, sums->cost_nano_usd);
}

static void write_meta(const struct exchange *ex, struct buf *out)
{
    buf_printf(out, ",\"meta\":{\"request_id\":\"%s\"", ex->id_text);
    member_string(out, "endpoint", str_of(ex->endpoint->slug));
    member_string(out, "provider", str_of(provider_name(ex->attempt.target->provider)));
    if (exchange_has_session(ex)) {
        char id[UUID_TEXT_LEN + 1];
        member_string(out, "session_id", str_of(uuid_format(&ex->session.id, id)));
    }
    if (ex->chain.rule)
        member_string(out, "routing_decision", str_of(ex->chain.rule->rule.decision));
    buf_printf(out, ",\"attempts\":%u", ex->attempts);
    write_cost(ex, out);
    write_ignored(ex->ignored, out);
    if (ex->endpoint->output_schema)
        buf_printf(out, ",\"output_checked\":%s", ex->output_checked ? "true" : "false");
    buf_putc(out, '}');
}

static void write_tool_calls(const struct exchange *ex, struct buf *out)
{
    if (!ex->completion.tool_calls)
        return;
    buf_puts(out, ",\"tool_calls\":");
    json_write(out, ex->completion.tool_calls);
}

void answer_native(const struct exchange *ex, struct buf *out)
{
    buf_puts(out, "{\"ok\":true,\"id\":");
    write_id(ex, out);
    member_string(out, "model", model_of(ex));
    member_string(out, "content", ex->completion.content);
    if (ex->output_checked) {
        buf_puts(out, ",\"output\":");
        json_write(out, ex->output);
    }
    if (ex->completion.refusal.at)
        member_string(out, "refusal", ex->completion.refusal);
    member_string(out, "finish_reason", str_of(ex->completion.finish_reason));
    write_tool_calls(ex, out);
    write_usage(&ex->completion.usage, out);
    write_meta(ex, out);
    buf_putc(out, '}');
}

void answer_openai(const struct exchange *ex, struct buf *out)
{
    buf_puts(out, "{\"id\":");
    write_id(ex, out);
    buf_printf(out, ",\"object\":\"chat.completion\",\"created\":%lld",
               (long long)(ex->created_wall_ms / 1000));
    member_string(out, "model", model_of(ex));
    buf_puts(out, ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\"");
    member_string(out, "content", ex->completion.content);
    member_string(out, "refusal", ex->completion.refusal);
    write_tool_calls(ex, out);
    buf_puts(out, "},\"logprobs\":null");
    member_string(out, "finish_reason", str_of(ex->completion.finish_reason));
    buf_puts(out, "}]");
    write_usage(&ex->completion.usage, out);
    write_meta(ex, out);
    buf_putc(out, '}');
}

void answer_success(const struct exchange *ex, struct buf *out)
{
    if (ex->route.kind == ROUTE_DISPATCHER)
        answer_openai(ex, out);
    else
        answer_native(ex, out);
}

/* Nobody asked when an endpoint was made: `created` is 0. */
void answer_models(const struct exchange *ex, struct buf *out)
{
    bool any = false;
    buf_puts(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < ex->project->endpoints_count; i++) {
        const struct config_endpoint *endpoint = &ex->project->endpoints[i];
        if (!endpoint->active || !token_allows(ex->token, endpoint))
            continue;
        buf_printf(out, "%s{\"id\":\"%s\",\"object\":\"model\",\"created\":0", any ? "," : "",
                   endpoint->slug);
        member_string(out, "owned_by", str_of(ex->project->title));
        buf_putc(out, '}');
        any = true;
    }
    buf_puts(out, "]}");
}

void answer_details(const struct failure *failure, struct buf *out)
{
    if (!failure->details)
        return;
    buf_putc(out, '[');
    for (const struct api_detail *one = failure->details; one; one = one->next) {
        if (one != failure->details)
            buf_putc(out, ',');
        buf_puts(out, "{\"path\":");
        json_write_string(out, str_of(one->path));
        if (one->schema_path)
            member_string(out, "schema_path", str_of(one->schema_path));
        member_string(out, "keyword", str_of(one->keyword));
        member_string(out, "message", str_of(one->message));
        buf_putc(out, '}');
    }
    buf_putc(out, ']');
}

static void member_usd(struct buf *out, const char *name, int64_t nano_usd)
{
    buf_printf(out, ",\"%s\":", name);
    usd_write(out, nano_usd > 0 ? nano_usd : 0);
}

/* Which limit it is, and how it stands. */
static void write_limit(const struct failure *failure, struct buf *out)
{
    if (failure->scope)
        member_string(out, "scope", str_of(failure->scope));
    if (failure->retry_after_s > 0)
        buf_printf(out, ",\"retry_after\":%lld", (long long)failure->retry_after_s);
    if (!failure->budget.set)
        return;
    member_usd(out, "spent_usd", failure->budget.spent_nano_usd);
    member_usd(out, "reserved_usd", failure->budget.reserved_nano_usd);
    member_usd(out, "cap_usd", failure->budget.cap_nano_usd);
}

void answer_error(const struct failure *failure, const char *request_id, struct buf *out)
{
    const struct api_error_info *info = api_error_info(failure->code);
    struct str message = failure->message.len ? failure->message : str_of(info->sentence);
    buf_printf(out, "{\"ok\":false,\"error\":{\"type\":\"%s\",\"code\":\"%s\"", info->type,
               info->code);
    member_string(out, "message", message);
    member_string(out, "param", failure->param);
    write_limit(failure, out);
    if (failure->details)
        buf_puts(out, ",\"details\":");
    answer_details(failure, out);
    if (failure->content.at)
        member_string(out, "content", failure->content);
    buf_printf(out, "},\"meta\":{\"request_id\":\"%s\"}}", request_id);
}

void answer_headers(struct buf *out, const char *content_type, const char *request_id,
                    int64_t gateway_us, int64_t upstream_us)
{
    buf_printf(out,
               "Content-Type: %s\r\nX-Request-Id: %s\r\n"
               "Server-Timing: gateway;dur=%lld.%03lld, upstream;dur=%lld.%03lld\r\n",
               content_type, request_id, (long long)(gateway_us / 1000),
               (long long)(gateway_us % 1000), (long long)(upstream_us / 1000),
               (long long)(upstream_us % 1000));
}

/* As OpenAI says durations: "6m0s". */
static void write_duration(struct buf *out, int64_t seconds)
{
    if (seconds >= 3600)
        buf_printf(out, "%lldh", (long long)(seconds / 3600));
    if (seconds >= 60)
        buf_printf(out, "%lldm", (long long)(seconds / 60 % 60));
    buf_printf(out, "%llds", (long long)(seconds % 60));
}

/* x-ratelimit-*, where there is a limit. */
static void write_limit_headers(struct buf *out, const struct rate_verdict *rate)
{
    const struct rate_limit *tightest = &rate->tightest;
    if (!rate->limited)
        return;
    buf_printf(out,
               "x-ratelimit-limit-requests: %lld\r\nx-ratelimit-remaining-requests: %lld\r\n"
               "x-ratelimit-reset-requests: ",
               (long long)tightest->cap, (long long)tightest->remaining);
    write_duration(out, tightest->reset_s);
    buf_puts(out, "\r\n");
}

void answer_error_headers(struct buf *out, const struct failure *failure)
{
    enum api_error code = failure->code;
    if (code == API_unauthorized)
        buf_puts(out, "WWW-Authenticate: Bearer\r\n");
    if (code == API_overloaded)
        buf_puts(out, "Retry-After: 1\r\n");
    if (failure->retry_after_s > 0)
        buf_printf(out, "Retry-After: %lld\r\n", (long long)failure->retry_after_s);
    if (code == API_budget_exceeded || failure->final)
        buf_puts(out, "x-should-retry: false\r\n"); /* the official SDKs obey it */
}

void answer_head(const struct exchange *ex, const char *content_type, struct buf *out)
{
    int64_t now_us = clock_now_us();
    answer_headers(out, content_type, ex->id_text, exchange_gateway_us(ex, now_us),
                   exchange_upstream_us(ex, now_us));
    answer_error_headers(out, &ex->failure);
    if (exchange_tells_session(ex)) {
        char id[UUID_TEXT_LEN + 1];
        buf_printf(out, "X-Session-Id: %s\r\n", uuid_format(&ex->session.id, id));
    }
    struct str decision = ex->chain.rule        ? str_of(ex->chain.rule->rule.decision)
                          : ex->repeat.replayed ? ex->repeat.reply.decision
                                                : STR_ABSENT;
    if (decision.at)
        buf_printf(out, "X-Routing-Decision: %.*s\r\n", STR_ARG(decision));
    if (ex->repeat.replayed)
        buf_puts(out, "Idempotent-Replayed: true\r\n");
    write_limit_headers(out, &ex->rate);
    cors_headers(config_project(ex->services->config, &ex->route.project), ex->request, out);
}
