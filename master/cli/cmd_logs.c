#include "master/cli/commands.h"
#include "master/cli/options.h"
#include "master/config/config_load.h"
#include "master/store/store.h"
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
    bool json;
    struct buf line;
};

static int usage(void)
{
    fputs("usage: promptgate logs [--limit N] [--follow] [--json] [--config DIR]\n", stderr);
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

/* Nano-USD as USD, exact: nine decimals. */
static void append_cost_usd(struct buf *line, struct str nano_usd)
{
    unsigned long long nano;
    buf_puts(line, ",\"cost_usd\":");
    if (nano_usd.at && str_to_u64(nano_usd, &nano))
        buf_printf(line, "%llu.%09llu", nano / 1000000000, nano % 1000000000);
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

static void append_row(struct buf *line, const struct str *values)
{
    append_cell(line, 24, values[COLUMN_created_at]);
    append_cell(line, 36, values[COLUMN_request_id]);
    append_endpoint(line, values);
    append_cell(line, 16, values[COLUMN_token]);
    append_cell(line, 20, values[COLUMN_status]);
    append_right(line, 4, values[COLUMN_http_status]);
    append_cell(line, 20, values[COLUMN_model]);
    append_right(line, 8, values[COLUMN_total_tokens]);
    append_right(line, 8, values[COLUMN_latency_ms]);
    append_right(line, 12, values[COLUMN_cost_nano_usd]);
}

static void print_heading(void)
{
    printf("%-24s %-36s %-28s %-16s %-20s %4s %-20s %8s %8s %12s\n", "TIME", "REQUEST",
           "PROJECT/ENDPOINT", "TOKEN", "STATUS", "HTTP", "MODEL", "TOKENS", "MS", "NANO-USD");
}

/* A terminal must not be told what to do by a model's name. */
static void blank_controls(struct buf *line)
{
    for (size_t i = 0; i < line->len; i++)
        if ((unsigned char)line->data[i] < 0x20 || line->data[i] == 0x7F)
            line->data[i] = ' ';
}

static bool print_one(void *context, const struct str *values)
{
    struct output *output = context;
    buf_clear(&output->line);
    if (output->json) {
        append_json(&output->line, values);
    } else {
        append_row(&output->line, values);
        blank_controls(&output->line);
        while (output->line.data[output->line.len - 1] == ' ')
            output->line.len--;
    }
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

static int show(struct store *store, size_t limit, bool follow, bool json)
{
    struct output output = {.json = json};
    struct store_query query = {.limit = limit, .after = -1};
    if (!json)
        print_heading();
    bool good = print_query(store, &query, &output);
    while (good && follow) {
        usleep(FOLLOW_MS * 1000);
        query = (struct store_query){.limit = FOLLOW_ROWS, .after = query.position};
        good = print_query(store, &query, &output);
    }
    buf_free(&output.line);
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

int cmd_logs(int argc, char **argv)
{
    struct cli_options options;
    const char *limit_text = NULL;
    size_t limit = LIMIT_DEFAULT;
    bool follow = cli_take_flag(&argc, argv, "--follow");
    if (!cli_take_options(&argc, argv, &options) ||
        !cli_take_value(&argc, argv, "--limit", &limit_text) || argc > 1 ||
        !read_limit(limit_text, &limit))
        return usage();
    struct config_report report = {0};
    struct config *config = config_load_service(options.config, &report);
    struct store *store = NULL;
    struct error error;
    int status = 1;
    if (!config)
        config_report_print(&report, stderr);
    else if (!store_open_reader(&config->store, &store, &error))
        fprintf(stderr, "promptgate logs: %s\n", error.message);
    else
        status = show(store, limit, follow, options.json);
    store_close(&store);
    config_free(&config);
    config_report_free(&report);
    return status;
}
