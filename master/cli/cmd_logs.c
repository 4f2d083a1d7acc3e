#include "master/cli/commands.h"
#include "master/cli/options.h"
#include "master/cli/reader.h"
#include "master/cli/table.h"
#include "master/cli/terminal.h"
#include "master/config/values.h"
#include "master/store/store.h"
#include "shared/base/clock.h"
#include "shared/base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LIMIT_DEFAULT = 20, LIMIT_MAX = 1000000, FOLLOW_ROWS = 1000, FOLLOW_MS = 500 };

/* Columns by their place in columns.def. */
enum column {
#define COLUMN(name, kind) COLUMN_##name,
#include "shared/record/columns.def"
#undef COLUMN
};

struct output {
    bool json, colours;
    struct buf line, shown;
};

static int usage(void)
{
    fputs("usage: promptgate logs [--endpoint [PROJECT/]SLUG] [--token NAME] [--status STATUS]\n"
          "           [--decision NAME] [--since TIME] [--until TIME] [--limit N] [--follow]\n"
          "           [--json] [--config DIR]\n"
          "TIME is as 2026-06-30T12:00:00Z, or so long ago: 2h, 30m, 7d\n",
          stderr);
    return 2;
}

/* --- JSON: every column by its name --- */

static void append_value(struct buf *line, enum record_kind kind, struct str value)
{
    bool plain = kind == RECORD_KIND_INT || kind == RECORD_KIND_BOOL;
    if (value.at && plain)
        buf_str(line, value);
    else
        json_write_string_or_null(line, value);
}

static void append_cost_usd(struct buf *line, struct str nano_usd)
{
    unsigned long long nano;
    buf_puts(line, ",\"cost_usd\":");
    if (nano_usd.at && str_to_u64(nano_usd, &nano))
        cli_append_usd(line, (int64_t)nano);
    else
        buf_puts(line, "null");
}

static void append_json(struct buf *line, const struct str *values)
{
    for (size_t i = 0; i < record_columns_count; i++) {
        buf_printf(line, "%c\"%s\":", i ? ',' : '{', record_columns[i].name);
        append_value(line, record_columns[i].kind, values[i]);
        if (i == COLUMN_cost_nano_usd)
            append_cost_usd(line, values[i]);
    }
    buf_putc(line, '}');
}

/* --- the table --- */

static void append_cell(struct buf *line, int width, struct str value)
{
    if (!value.at)
        value = STR("-");
    buf_printf(line, "%-*.*s ", width, STR_ARG(value));
}

static void append_right(struct buf *line, int width, struct str value)
{
    if (!value.at)
        value = STR("-");
    buf_printf(line, "%*.*s ", width, STR_ARG(value));
}

static void append_endpoint(struct buf *line, const struct str *values)
{
    struct buf both = {0};
    buf_str(&both, values[COLUMN_project]);
    buf_putc(&both, '/');
    buf_str(&both, values[COLUMN_endpoint].at ? values[COLUMN_endpoint] : STR("-"));
    append_cell(line, 28, buf_view(&both));
    buf_free(&both);
}

/* From the status on, two places: `*status` and `*behind`. */
static void append_row(struct buf *line, const struct str *values, size_t *status, size_t *behind)
{
    append_cell(line, 24, values[COLUMN_created_at]);
    append_cell(line, 36, values[COLUMN_request_id]);
    append_endpoint(line, values);
    append_cell(line, 16, values[COLUMN_token]);
    *status = line->len;
    append_cell(line, 26, values[COLUMN_status]);
    *behind = line->len;
    append_right(line, 4, values[COLUMN_http_status]);
    append_cell(line, 20, values[COLUMN_model]);
    append_right(line, 8, values[COLUMN_total_tokens]);
    append_right(line, 8, values[COLUMN_latency_ms]);
    append_right(line, 12, values[COLUMN_cost_nano_usd]);
}

static void print_heading(void)
{
    printf("%-24s %-36s %-28s %-16s %-26s %4s %-20s %8s %8s %12s\n", "TIME", "REQUEST",
           "PROJECT/ENDPOINT", "TOKEN", "STATUS", "HTTP", "MODEL", "TOKENS", "MS", "NANO-USD");
}

/* As terminals understand it (ECMA-48): what is well, what its client was told to mend, and what
 * the gateway or a provider could not do. */
static const char *colour_of(const struct str *values)
{
    struct str status = values[COLUMN_status], http = values[COLUMN_http_status];
    if (str_eq(status, STR("ok")) || str_eq(status, STR("replayed")))
        return "\033[32m";
    return http.at && http.len == 3 && http.at[0] == '4' ? "\033[33m" : "\033[31m";
}

static void append_table_row(struct output *output, const struct str *values)
{
    size_t status, behind;
    struct buf *line = &output->line;
    append_row(line, values, &status, &behind);
    cli_clean_line(line);
    if (!output->colours)
        return;
    buf_clear(&output->shown);
    buf_append(&output->shown, line->data, status);
    buf_puts(&output->shown, colour_of(values));
    buf_append(&output->shown, line->data + status, behind - status);
    buf_puts(&output->shown, "\033[0m");
    buf_append(&output->shown, line->data + behind, line->len - behind);
    buf_clear(line);
    buf_str(line, buf_view(&output->shown));
}

static bool print_one(void *context, const struct str *values)
{
    struct output *output = context;
    buf_clear(&output->line);
    if (output->json)
        append_json(&output->line, values);
    else
        append_table_row(output, values);
    buf_putc(&output->line, '\n');
    return fwrite(output->line.data, 1, output->line.len, stdout) == output->line.len;
}

/* --- reading --- */

static bool print_query(struct store *store, struct store_query *query, struct output *output)
{
    struct error error;
    if (!store_query(store, query, print_one, output, &error)) {
        fprintf(stderr, "promptgate logs: %s\n", error.message);
        return false;
    }
    return fflush(stdout) == 0;
}

static int show(struct store *store, const struct store_filter *filter, size_t limit, bool follow,
                bool json)
{
    struct output output = {.json = json, .colours = cli_has_colours()};
    struct store_query query = {.filter = *filter, .limit = limit, .after = -1};
    if (!json)
        print_heading();
    bool good = print_query(store, &query, &output);
    while (good && follow) {
        usleep(FOLLOW_MS * 1000);
        query.after = query.position;
        query.limit = FOLLOW_ROWS;
        good = print_query(store, &query, &output);
    }
    buf_free(&output.line);
    buf_free(&output.shown);
    return good ? 0 : 1;
}

static bool read_limit(const char *text, size_t *limit)
{
    unsigned long long number;
    if (!text)
        return true;
    if (!str_to_u64(str_of(text), &number) || number < 1 || number > LIMIT_MAX)
        return false;
    *limit = (size_t)number;
    return true;
}

static bool bad_time(const char *option, const char *text)
{
    fprintf(
        stderr,
        "promptgate logs: %s: must be a time such as 2026-06-30T12:00:00Z, or how long ago, such "
        "as 2h, not \"%s\"\n",
        option, text);
    return false;
}

static bool read_time(const char *option, const char *text, int64_t *wall_ms)
{
    union value ago;
    if (!text || value_parse_time(str_of(text), wall_ms))
        return true;
    if (!value_parse(VALUE_DURATION, "0s..36500d", str_of(text), &ago))
        return bad_time(option, text);
    *wall_ms = clock_wall_ms() - ago.number;
    return true;
}

/* "demo/summarize", or an endpoint of this name in any project. */
static void read_endpoint(const char *text, struct store_filter *filter)
{
    struct str rest = str_of(text), first = text ? str_split(&rest, '/') : STR_ABSENT;
    filter->project = rest.at ? first : STR_ABSENT;
    filter->endpoint = rest.at ? rest : first;
}

static bool take_filter(int *argc, char **argv, struct store_filter *filter)
{
    const char *endpoint = NULL, *token = NULL, *status = NULL, *decision = NULL;
    const char *since = NULL, *until = NULL;
    if (!cli_take_value(argc, argv, "--endpoint", &endpoint) ||
        !cli_take_value(argc, argv, "--token", &token) ||
        !cli_take_value(argc, argv, "--status", &status) ||
        !cli_take_value(argc, argv, "--decision", &decision) ||
        !cli_take_value(argc, argv, "--since", &since) ||
        !cli_take_value(argc, argv, "--until", &until))
        return false;
    filter->token = str_of(token);
    filter->status = str_of(status);
    filter->decision = str_of(decision);
    read_endpoint(endpoint, filter);
    return read_time("--since", since, &filter->since_wall_ms) &&
           read_time("--until", until, &filter->until_wall_ms);
}

int cmd_logs(int argc, char **argv)
{
    struct cli_options options;
    const char *limit_text = NULL;
    size_t limit = LIMIT_DEFAULT;
    struct store_filter filter = {0};
    bool follow = cli_take_flag(&argc, argv, "--follow");
    if (!cli_take_options(&argc, argv, &options) ||
        !cli_take_value(&argc, argv, "--limit", &limit_text) ||
        !take_filter(&argc, argv, &filter) || argc > 1 || !read_limit(limit_text, &limit))
        return usage();
    struct config *config;
    struct store *store;
    if (!cli_open_reader("logs", options.config, &config, &store))
        return 1;
    int status = show(store, &filter, limit, follow, options.json);
    cli_close_reader(&config, &store);
    return status;
}
