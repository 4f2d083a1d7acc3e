#include "master/cli/commands.h"
#include "master/cli/live.h"
#include "master/cli/options.h"
#include "master/cli/reader.h"
#include "master/cli/table.h"
#include "master/store/store.h"
#include "shared/base/clock.h"
#include "shared/base/json.h"

#include <inttypes.h>
#include <stdio.h>

static const struct grouping {
    const char *name;
    enum store_spend_by by;
    const char *group, *member; /* what the two names of a line are */
} groupings[] = {
    {"endpoint", STORE_BY_ENDPOINT, "project", "endpoint"},
    {"token", STORE_BY_TOKEN, "project", "token"},
    {"model", STORE_BY_MODEL, "provider", "model"},
};

struct output {
    const struct grouping *grouping;
    bool json;
    bool any;
    struct counters counters; /* of the gateway that runs; all zero when none does */
    struct live_reserved reserved;
    struct store_spend total;
    struct buf line;
};

static int usage(void)
{
    fputs("usage: promptgate spend [--by endpoint|token|model] [--json] [--config DIR]\n", stderr);
    return 2;
}

/* --- JSON --- */

static void append_sums(struct buf *out, const struct store_spend *spend)
{
    buf_printf(out,
               "\"requests\":%" PRId64 ",\"prompt_tokens\":%" PRId64
               ",\"completion_tokens\":%" PRId64 ",\"cost_nano_usd\":%" PRId64 ",\"cost_usd\":",
               spend->requests, spend->prompt_tokens, spend->completion_tokens,
               spend->cost_nano_usd);
    cli_append_usd(out, spend->cost_nano_usd);
}

static void append_name(struct buf *out, const char *name, struct str value)
{
    buf_printf(out, "\"%s\":", name);
    json_write_string_or_null(out, value.len ? value : STR_ABSENT);
    buf_putc(out, ',');
}

/* What is reserved for requests under way, and the budget: of an endpoint or a token while a
 * gateway runs. False when that is not known. */
static bool find_money(const struct output *output, const struct store_spend *spend,
                       struct live_money *money)
{
    enum account_kind kind =
        output->grouping->by == STORE_BY_TOKEN ? ACCOUNT_TOKEN : ACCOUNT_ENDPOINT;
    if (!output->counters.header || output->grouping->by == STORE_BY_MODEL)
        return false;
    uint32_t account = live_find(&output->counters, kind, spend->name, spend->group);
    if (account == ACCOUNT_NONE)
        return false;
    *money = live_money(&output->counters, &output->reserved, account);
    return true;
}

static void append_json_money(struct output *output, const struct store_spend *spend)
{
    struct live_money money;
    if (!find_money(output, spend, &money))
        return;
    buf_puts(&output->line, ",\"reserved_usd\":");
    cli_append_usd(&output->line, money.reserved);
    buf_puts(&output->line, ",\"cap_usd\":");
    if (money.cap == CAP_UNLIMITED)
        buf_puts(&output->line, "null");
    else
        cli_append_usd(&output->line, money.cap);
}

static void append_json(struct output *output, const struct store_spend *spend)
{
    buf_puts(&output->line, output->any ? ",{" : "{");
    append_name(&output->line, output->grouping->group, spend->group);
    append_name(&output->line, output->grouping->member, spend->name);
    append_sums(&output->line, spend);
    append_json_money(output, spend);
    buf_putc(&output->line, '}');
}

static void begin_json(struct output *output, const char *month, const char *timezone)
{
    append_name(&output->line, "month", str_of(month));
    append_name(&output->line, "timezone", str_of(timezone));
    append_name(&output->line, "by", str_of(output->grouping->name));
    buf_puts(&output->line, "\"spend\":[");
}

static void end_json(struct output *output)
{
    buf_puts(&output->line, "],\"total\":{");
    append_sums(&output->line, &output->total);
    buf_puts(&output->line, "}}\n");
}

/* --- the table --- */

static void append_money(const struct live_money *money, struct buf *line)
{
    struct buf text = {0};
    cli_append_usd(&text, money->reserved);
    buf_printf(line, " %15s", buf_cstr(&text));
    buf_clear(&text);
    if (money->cap != CAP_UNLIMITED)
        cli_append_usd(&text, money->cap);
    buf_printf(line, " %18s", money->cap != CAP_UNLIMITED ? buf_cstr(&text) : "-");
    buf_free(&text);
}

/* `money` NULL: not known. */
static void append_row(struct buf *line, struct str name, const struct store_spend *spend,
                       const struct live_money *money)
{
    struct buf usd = {0};
    size_t start = line->len;
    cli_append_usd(&usd, spend->cost_nano_usd);
    buf_printf(line, "%-48.*s %10" PRId64 " %14" PRId64 " %14" PRId64 " %18s", STR_ARG(name),
               spend->requests, spend->prompt_tokens, spend->completion_tokens, buf_cstr(&usd));
    if (money)
        append_money(money, line);
    struct buf clean = {.data = line->data + start, .len = line->len - start};
    cli_clean_line(&clean);
    line->len = start + clean.len;
    buf_putc(line, '\n');
    buf_free(&usd);
}

static void append_table_row(struct output *output, const struct store_spend *spend)
{
    struct buf name = {0};
    buf_str(&name, spend->group.len ? spend->group : STR("-"));
    buf_putc(&name, '/');
    buf_str(&name, spend->name.len ? spend->name : STR("-"));
    struct live_money money;
    bool known = find_money(output, spend, &money);
    append_row(&output->line, buf_view(&name), spend, known ? &money : NULL);
    buf_free(&name);
}

static void begin_table(struct output *output, const char *month, const char *timezone)
{
    struct buf heading = {0};
    buf_printf(&heading, "%s (%s)", month, timezone);
    buf_printf(&output->line, "%-48s %10s %14s %14s %18s", buf_cstr(&heading), "REQUESTS",
               "TOKENS IN", "TOKENS OUT", "USD");
    if (output->counters.header && output->grouping->by != STORE_BY_MODEL)
        buf_printf(&output->line, " %15s %18s", "RESERVED", "BUDGET");
    buf_putc(&output->line, '\n');
    buf_free(&heading);
}

/* --- both --- */

static bool take_one(void *context, const struct store_spend *spend)
{
    struct output *output = context;
    output->total.requests += spend->requests;
    output->total.prompt_tokens += spend->prompt_tokens;
    output->total.completion_tokens += spend->completion_tokens;
    output->total.cost_nano_usd += spend->cost_nano_usd;
    if (output->json)
        append_json(output, spend);
    else
        append_table_row(output, spend);
    output->any = true;
    return true;
}

static int show(struct store *store, const struct config *config, struct output *output)
{
    struct error error;
    char month[MONTH_SIZE];
    month_name(&config->store.months, clock_wall_ms(), month);
    if (output->counters.header)
        output->reserved =
            live_reserved(&output->counters, month_number(&config->store.months, clock_wall_ms()));
    if (output->json)
        buf_putc(&output->line, '{');
    (output->json ? begin_json : begin_table)(output, month, config->timezone);
    if (!store_spend(store, month, output->grouping->by, take_one, output, &error)) {
        fprintf(stderr, "promptgate spend: %s\n", error.message);
        return 1;
    }
    if (output->json)
        end_json(output);
    else
        append_row(&output->line, STR("total"), &output->total, NULL);
    bool good = fwrite(output->line.data, 1, output->line.len, stdout) == output->line.len;
    return good && fflush(stdout) == 0 ? 0 : 1;
}

static const struct grouping *grouping_named(const char *name)
{
    for (size_t i = 0; i < sizeof groupings / sizeof *groupings; i++)
        if (strcmp(groupings[i].name, name) == 0)
            return &groupings[i];
    return NULL;
}

int cmd_spend(int argc, char **argv)
{
    struct cli_options options;
    const char *by = "endpoint";
    struct output output = {0};
    if (!cli_take_options(&argc, argv, &options) || !cli_take_value(&argc, argv, "--by", &by) ||
        argc > 1 || !(output.grouping = grouping_named(by)))
        return usage();
    output.json = options.json;
    struct config *config;
    struct store *store;
    if (!cli_open_reader("spend", options.config, &config, &store))
        return 1;
    if (!live_open(options.config, &output.counters))
        output.counters = (struct counters){0};
    int status = show(store, config, &output);
    live_reserved_free(&output.reserved);
    counters_close(&output.counters);
    buf_free(&output.line);
    cli_close_reader(&config, &store);
    return status;
}
