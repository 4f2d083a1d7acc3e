/* models import: rows for models.yaml from LiteLLM's table of prices. */
#include "master/cli/commands.h"
#include "master/cli/options.h"
#include "master/config/drafts.h"
#include "master/config/file_write.h"
#include "shared/base/json.h"
#include "shared/base/money.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { TABLE_MAX_BYTES = 64 << 20 };

static int usage(void)
{
    fputs("usage: promptgate models import FILE [--config DIR]\n", stderr);
    return 2;
}

static int fail(const char *message)
{
    fprintf(stderr, "promptgate models: %s\n", message);
    return 1;
}

struct import {
    struct drafts drafts; /* what models.yaml has */
    struct buf rows;
    unsigned added, known, different, unusable;
};

/* --- one row of the table --- */

struct row {
    int provider;
    struct str model;
    int64_t input, output, cached, written; /* pico-USD; -1 = none */
    int64_t context, most;                  /* tokens; 0 = none */
    bool reasons;
};

/* Their names that are not ours. */
static int provider_of_table(struct str name)
{
    static const struct {
        const char *theirs, *ours;
    } others[] = {{"together_ai", "together"}, {"cohere_chat", "cohere"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (str_eq(name, str_of(others[i].theirs)))
            name = str_of(others[i].ours);
    for (int i = 0; i < PROVIDER_COUNT; i++)
        if (str_eq(name, str_of(provider_name((enum provider_id)i))))
            return i;
    return -1;
}

/* USD for a token. What six decimals of USD for a million don't hold exactly is refused. */
static bool take_price(struct json_object *row, const char *name, int64_t *pico)
{
    struct json_object *value = json_member(row, name, NULL);
    *pico = -1;
    if (!value || json_object_is_type(value, json_type_null))
        return true;
    double usd = json_object_get_double(value), scaled = usd * 1e12;
    if (!(usd >= 0) || usd > 1)
        return false;
    int64_t nearest = (int64_t)(scaled + 0.5);
    double off = scaled - (double)nearest;
    *pico = nearest;
    return off < 1e-3 && off > -1e-3;
}

static int64_t take_count(struct json_object *row, const char *name)
{
    int64_t count = json_int_or(json_member(row, name, NULL), 0);
    return count > 0 && count <= 100000000 ? count : 0;
}

/* False when it is none of a chat model that this gateway can call. */
static bool read_row(const char *key, struct json_object *table_row, struct row *row, bool *exact)
{
    if (!json_object_is_type(table_row, json_type_object))
        return false;
    struct str mode = json_text(json_member(table_row, "mode", NULL));
    row->provider = provider_of_table(json_text(json_member(table_row, "litellm_provider", NULL)));
    if (row->provider < 0 || !str_eq(mode, STR("chat")))
        return false;
    row->model = str_of(key);
    struct str prefix = json_text(json_member(table_row, "litellm_provider", NULL));
    if (str_starts(row->model, prefix) && row->model.len > prefix.len &&
        row->model.at[prefix.len] == '/')
        row->model = (struct str){row->model.at + prefix.len + 1, row->model.len - prefix.len - 1};
    *exact = take_price(table_row, "input_cost_per_token", &row->input) &&
             take_price(table_row, "output_cost_per_token", &row->output) &&
             take_price(table_row, "cache_read_input_token_cost", &row->cached) &&
             take_price(table_row, "cache_creation_input_token_cost", &row->written);
    row->context = take_count(table_row, "max_input_tokens");
    row->most = take_count(table_row, "max_output_tokens");
    row->reasons = json_object_get_boolean(json_member(table_row, "supports_reasoning", NULL));
    return row->input >= 0 && row->output >= 0;
}

/* --- into rows of ours --- */

/* A price is pico-USD a token, which is a millionth of a dollar for a million of them. */
static void write_price(struct buf *out, const char *name, int64_t pico)
{
    if (pico < 0)
        return;
    buf_printf(out, "%s: ", name);
    usd_write(out, pico * 1000);
}

static void write_row(const struct row *row, struct buf *out)
{
    buf_printf(out, "- provider: %s\n  model: ", provider_name((enum provider_id)row->provider));
    json_write_string(out, row->model);
    write_price(out, "\n  price: { input", row->input);
    write_price(out, ", output", row->output);
    write_price(out, ", cached_input", row->cached);
    write_price(out, ", cache_write", row->written);
    buf_puts(out, " }\n");
    if (row->context > 0 && row->most > 0)
        buf_printf(out, "  limits: { context: %lld, output: %lld }\n", (long long)row->context,
                   (long long)row->most);
    if (row->reasons)
        buf_puts(out, "  reasons: true\n");
}

static const struct model_draft *find(const struct drafts *drafts, const struct row *row)
{
    for (size_t i = 0; i < drafts->models_count; i++) {
        const struct model_draft *model = &drafts->models[i];
        if (model->provider == row->provider && str_eq(str_of(model->model), row->model))
            return model;
    }
    return NULL;
}

static void take_row(struct import *import, const char *key, struct json_object *table_row)
{
    struct row row;
    bool exact;
    if (!read_row(key, table_row, &row, &exact))
        return;
    const struct model_draft *known = find(&import->drafts, &row);
    if (!exact) {
        import->unusable++;
        fprintf(stderr, "%s: its price has more than six decimals of USD for a million tokens\n",
                key);
    } else if (!known) {
        import->added++;
        write_row(&row, &import->rows);
    } else if (known->price.input != row.input || known->price.output != row.output) {
        import->different++;
        fprintf(stderr, "%s: models.yaml says otherwise, at line %u; it stays\n", key,
                known->section.mark.line);
    } else {
        import->known++;
    }
}

/* --- the file --- */

static bool read_models(const char *directory, struct arena *arena, struct problems *problems,
                        struct config_file *file, struct import *import)
{
    struct reading reading = {
        .lasting = arena, .scratch = arena, .problems = problems, .directory = directory};
    *file = (struct config_file){
        .path = arena_printf(arena, "%s/models.yaml", directory), .name = "models", .order = 1};
    config_file_fetch(file, arena);
    if (file->unreadable && !file->text.at) {
        file->text = STR("");
        file->unreadable = NULL;
        return true;
    }
    config_file_parse(file, arena, problems);
    model_drafts_read(&reading, file, &import->drafts);
    return problems->errors == 0;
}

static bool read_table(const char *path, struct arena *arena, struct json_object **table)
{
    struct str bytes;
    struct error error;
    if (config_file_bytes(path, TABLE_MAX_BYTES, arena, &bytes, &error) &&
        json_read(bytes, table, &error) && json_object_is_type(*table, json_type_object))
        return true;
    fprintf(stderr, "promptgate models: %s: %s\n", path,
            *table ? "is not an object of models" : error.message);
    return false;
}

static bool write_models(const struct config_file *file, const struct import *import)
{
    struct buf text = {0};
    struct error error;
    bool exists, good;
    buf_str(&text, file->text);
    if (text.len > 0 && text.data[text.len - 1] != '\n')
        buf_putc(&text, '\n');
    buf_str(&text, buf_view(&import->rows));
    good = file->text.len > 0
               ? file_replace(file->path, buf_view(&text), &error)
               : file_create(file->path, buf_view(&text), FILE_OF_GROUP, &exists, &error);
    buf_free(&text);
    return good || fail(error.message) == 0;
}

static int import_table(const char *directory, const char *path)
{
    struct arena arena = {0};
    struct problems problems = {.arena = &arena};
    struct config_report report = {0};
    struct config_file file;
    struct import import = {.added = 0};
    struct json_object *table = NULL;
    bool good = read_models(directory, &arena, &problems, &file, &import);
    problems_finish(&problems, &report);
    config_report_print(&report, stderr);
    config_report_free(&report);
    good = good && read_table(path, &arena, &table);
    if (good) {
        json_object_object_foreach(table, key, row) take_row(&import, key, row);
    }
    good = good && (import.added == 0 || write_models(&file, &import));
    if (good)
        fprintf(stderr, "%u rows added to %s; %u were there, %u say otherwise, %u can't be used.\n",
                import.added, file.path, import.known, import.different, import.unusable);
    json_object_put(table);
    buf_free(&import.rows);
    problems_free(&problems);
    arena_free(&arena);
    return good ? 0 : 1;
}

int cmd_models(int argc, char **argv)
{
    struct cli_options options;
    if (!cli_take_options(&argc, argv, &options) || argc != 3 || options.json ||
        strcmp(argv[1], "import") != 0)
        return usage();
    return import_table(options.config, argv[2]);
}
