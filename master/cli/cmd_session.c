#include "master/cli/commands.h"
#include "master/cli/options.h"
#include "master/cli/table.h"
#include "master/config/config_load.h"
#include "master/store/sessions.h"
#include "shared/base/clock.h"
#include "shared/base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { LISTED_MAX = 1000 };

struct listing {
    bool json, any;
    struct buf line;
};

static int usage(void)
{
    fputs("usage: promptgate session list [--project NAME] [--json] [--config DIR]\n"
          "       promptgate session show ID [--json] [--config DIR]\n"
          "       promptgate session delete ID [--config DIR]\n",
          stderr);
    return 2;
}

static int fail(const char *message)
{
    fprintf(stderr, "promptgate session: %s\n", message);
    return 1;
}

/* --- list --- */

static void append_json(struct buf *out, const struct session_row *row)
{
    char id[UUID_TEXT_LEN + 1], created[CLOCK_RFC3339_SIZE], expires[CLOCK_RFC3339_SIZE];
    buf_printf(out, "{\"session_id\":\"%s\",\"project\":", uuid_format(&row->id, id));
    json_write_string(out, row->project);
    buf_puts(out, ",\"endpoint\":");
    json_write_string(out, row->endpoint);
    buf_puts(out, ",\"token\":");
    json_write_string(out, row->token);
    buf_printf(out,
               ",\"turns\":%" PRId64 ",\"messages\":%" PRId64 ",\"tokens\":%" PRId64
               ",\"created\":\"%s\",\"expires\":\"%s\"",
               row->turns, row->messages, row->tokens, clock_rfc3339(row->created_ms, created),
               clock_rfc3339(row->expires_ms, expires));
}

static void append_row(struct buf *out, const struct session_row *row)
{
    char id[UUID_TEXT_LEN + 1], expires[CLOCK_RFC3339_SIZE];
    struct buf name = {0};
    buf_printf(&name, "%.*s/%.*s", STR_ARG(row->project), STR_ARG(row->endpoint));
    buf_printf(out, "%s %-32s %-24.*s %6" PRId64 " %9" PRId64 " %10" PRId64 " %s",
               uuid_format(&row->id, id), buf_cstr(&name), STR_ARG(row->token), row->turns,
               row->messages, row->tokens, clock_rfc3339(row->expires_ms, expires));
    buf_free(&name);
}

static void print_one(void *context, const struct session_row *row)
{
    struct listing *listing = context;
    buf_clear(&listing->line);
    if (listing->json) {
        buf_puts(&listing->line, listing->any ? ",\n" : "[");
        append_json(&listing->line, row);
        buf_putc(&listing->line, '}');
    } else {
        append_row(&listing->line, row);
        cli_clean_line(&listing->line);
        buf_putc(&listing->line, '\n');
    }
    fwrite(listing->line.data, 1, listing->line.len, stdout);
    listing->any = true;
}

static int list(struct sessions_store *store, const char *project, bool json)
{
    struct listing listing = {.json = json};
    struct error error;
    if (!json)
        printf("%-36s %-32s %-24s %6s %9s %10s %s\n", "SESSION", "ENDPOINT", "TOKEN", "TURNS",
               "MESSAGES", "TOKENS", "EXPIRES");
    bool good = sessions_list(store, project, LISTED_MAX, print_one, &listing, &error);
    if (json)
        puts(listing.any ? "]" : "[]");
    buf_free(&listing.line);
    return good ? 0 : fail(error.message);
}

/* --- show, delete --- */

/* One message a line. */
static void print_messages(struct str messages)
{
    struct buf text = {0}, line = {0};
    struct json_object *all = NULL;
    struct error error;
    buf_printf(&text, "[%.*s]", STR_ARG(messages));
    if (json_read(buf_view(&text), &all, &error))
        for (size_t i = 0; i < json_object_array_length(all); i++) {
            json_write(&line, json_object_array_get_idx(all, i));
            buf_putc(&line, '\n');
        }
    fwrite(line.data, 1, line.len, stdout);
    json_object_put(all);
    buf_free(&text);
    buf_free(&line);
}

static void print_session(const struct session_row *row, struct str messages, bool json)
{
    struct buf out = {0};
    if (json) {
        append_json(&out, row);
        buf_printf(&out, ",\"messages_stored\":[%.*s]}\n", STR_ARG(messages));
        fwrite(out.data, 1, out.len, stdout);
    } else {
        append_row(&out, row);
        cli_clean_line(&out);
        puts(buf_cstr(&out));
        print_messages(messages);
    }
    buf_free(&out);
}

static int show(struct sessions_store *store, const struct uuid *id, bool json)
{
    struct session_row row;
    struct buf messages = {0};
    struct error error;
    bool found;
    int status = 0;
    if (!sessions_load(store, id, 0, &row, &messages, &found, &error))
        status = fail(error.message);
    else if (!found)
        status = fail("there is no such session");
    else if (row.ended)
        status = fail("the session has expired: its messages are gone");
    else
        print_session(&row, buf_view(&messages), json);
    buf_free(&messages);
    return status;
}

/* A turn of it that is open can't be stored any more. */
static int delete_one(struct sessions_store *store, const struct uuid *id)
{
    struct error error;
    bool found = false;
    if (!sessions_begin(store, &error) || !sessions_delete(store, id, &found, &error) ||
        !sessions_commit(store, &error))
        return fail(error.message);
    return found ? 0 : fail("there is no such session");
}

/* --- all --- */

static int run(int argc, char **argv, const struct cli_options *options, const char *project,
               struct sessions_store *store)
{
    struct uuid id;
    if (strcmp(argv[1], "list") == 0)
        return argc == 2 ? list(store, project, options->json) : usage();
    if (argc != 3 || project)
        return usage();
    if (!uuid_parse(str_of(argv[2]), &id))
        return fail("a session's id is a UUID");
    if (strcmp(argv[1], "show") == 0)
        return show(store, &id, options->json);
    return strcmp(argv[1], "delete") == 0 && !options->json ? delete_one(store, &id) : usage();
}

/* A file that is not there has no sessions, and is not made here. */
static int open_and_run(int argc, char **argv, const struct cli_options *options,
                        const char *project, const struct config *config)
{
    struct sessions_store *store = NULL;
    struct error error;
    bool is_file = strcmp(config->store.driver, "sqlite") == 0;
    if (is_file && access(config->sessions_path, F_OK) != 0) {
        fprintf(
            stderr,
            "promptgate session: there is no %s: no session was kept yet, or it can't be made\n",
            config->sessions_path);
        return 1;
    }
    if (!sessions_open(config, NULL, &store, &error))
        return fail(error.message);
    int status = run(argc, argv, options, project, store);
    sessions_close(&store);
    return status;
}

/* Before any file is looked at. */
static bool is_verb(int argc, char **argv)
{
    static const char *const verbs[] = {"list", "show", "delete"};
    for (size_t i = 0; argc > 1 && i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(argv[1], verbs[i]) == 0)
            return argc < 3 || argv[2][0] != '-';
    return false;
}

int cmd_session(int argc, char **argv)
{
    struct cli_options options;
    const char *project = NULL;
    struct config_report report = {0};
    if (!cli_take_options(&argc, argv, &options) ||
        !cli_take_value(&argc, argv, "--project", &project) || !is_verb(argc, argv))
        return usage();
    struct config *config = config_load_service(options.config, &report);
    if (!config)
        config_report_print(&report, stderr);
    int status = config ? open_and_run(argc, argv, &options, project, config) : 1;
    config_report_free(&report);
    config_free(&config);
    return status;
}
