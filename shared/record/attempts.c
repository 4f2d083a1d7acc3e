#include "shared/record/attempts.h"

#include "shared/base/json_text.h"

static void write_one(struct buf *out, const struct attempt_row *attempt)
{
    buf_puts(out, "{\"provider\":");
    json_write_string(out, attempt->provider);
    buf_puts(out, ",\"model\":");
    json_write_string(out, attempt->model);
    buf_puts(out, ",\"credential\":");
    json_write_string(out, attempt->credential);
    buf_puts(out, ",\"status\":");
    json_write_string(out, attempt->status);
    buf_printf(out,
               ",\"http_status\":%d,\"ms\":%lld,\"prompt_tokens\":%lld,"
               "\"completion_tokens\":%lld,\"cost_nano_usd\":",
               attempt->http_status, (long long)attempt->ms, (long long)attempt->prompt_tokens,
               (long long)attempt->completion_tokens);
    if (attempt->cost_nano_usd == ATTEMPT_NO_COST)
        buf_puts(out, "null");
    else
        buf_printf(out, "%lld", (long long)attempt->cost_nano_usd);
    buf_puts(out, ",\"error\":");
    json_write_string_or_null(out, attempt->error);
    if (attempt->tries > 1)
        buf_printf(out, ",\"tries\":%u", attempt->tries);
    buf_putc(out, '}');
}

void attempts_write(struct buf *out, const struct attempt_row *attempts, size_t count)
{
    buf_putc(out, '[');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_putc(out, ',');
        write_one(out, &attempts[i]);
    }
    buf_putc(out, ']');
}
