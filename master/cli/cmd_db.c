#include "master/cli/commands.h"
#include "master/cli/options.h"
#include "master/config/config_load.h"
#include "master/logger/rejected.h"
#include "master/logger/spool_look.h"
#include "master/store/store.h"
#include "shared/base/clock.h"
#include "shared/base/json.h"
#include "shared/base/xalloc.h"
#include "shared/counters/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

static int usage(void)
{
    fputs("usage: promptgate db status [--json] [--config DIR]\n"
          "       promptgate db migrate [--config DIR]\n",
          stderr);
    return 2;
}

/* --- what there is to see --- */

struct offsets {
    struct spool_committed_to *list;
    size_t count;
};

static void note_offset(void *context, const char *segment, uint64_t committed)
{
    struct offsets *offsets = context;
    offsets->list = xrealloc(offsets->list, (offsets->count + 1) * sizeof *offsets->list);
    offsets->list[offsets->count++] =
        (struct spool_committed_to){.segment = xstrdup(segment), .committed = committed};
}

static void free_offsets(struct offsets *offsets)
{
    for (size_t i = 0; i < offsets->count; i++)
        free(offsets->list[i].segment);
    free(offsets->list);
}

struct status {
    bool running; /* a gateway is, and the four below are its logger's */
    bool away;
    int reason;
    int64_t since_wall_ms, disk_full_wall_ms;
    bool readable;
    struct store_found found;
    bool spool_known;
    struct spool_depth depth;
    uint64_t rejected;
    struct error store_error, spool_error;
};

static bool lives(int64_t pid)
{
    return pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

static void ask_logger(const struct config *config, struct status *status)
{
    struct buf path = {0};
    struct counters counters = {0};
    struct error error;
    buf_printf(&path, "%s/counters", config->runtime_dir);
    if (counters_open(&counters, buf_cstr(&path), &error) &&
        lives(atomic_load(&counters.header->master_pid))) {
        const struct logger_state *state = &counters.header->logger;
        int store = atomic_load(&state->store);
        status->running = true;
        status->away = store == LOGGER_STORE_AWAY;
        status->reason = atomic_load(&state->store_reason);
        status->since_wall_ms =
            store == LOGGER_STORE_UNKNOWN ? 0 : atomic_load(&state->store_since_wall_ms);
        status->disk_full_wall_ms = atomic_load(&state->disk_full_wall_ms);
    }
    counters_close(&counters);
    buf_free(&path);
}

static void look(const struct config *config, struct status *status)
{
    char host[HOST_NAME_MAX + 1] = "";
    struct offsets offsets = {0};
    struct buf spool = {0};
    gethostname(host, sizeof host - 1);
    ask_logger(config, status);
    status->readable = store_inspect(&config->store, host, &status->found, note_offset, &offsets,
                                     &status->store_error);
    buf_printf(&spool, "%s/spool", config->state_dir);
    status->spool_known = spool_look(buf_cstr(&spool), offsets.list, offsets.count, &status->depth,
                                     &status->spool_error);
    status->rejected = rejected_count(config->state_dir);
    free_offsets(&offsets);
    buf_free(&spool);
}

static const char *state_name(const struct status *status)
{
    if (status->away)
        return "away";
    if (!status->readable)
        return "unreadable";
    return status->found.exists ? "ok" : "missing";
}

static bool healthy(const struct status *status)
{
    return status->readable && status->spool_known && !status->away && !status->disk_full_wall_ms;
}

/* --- as text --- */

static void print_store(const struct config *config, const struct status *status)
{
    char since[CLOCK_RFC3339_SIZE];
    struct buf place = {0};
    store_place(&config->store, &place);
    printf("store     %s %s: %s", config->store.driver, buf_cstr(&place), state_name(status));
    buf_free(&place);
    if (status->away)
        printf(" since %s: %s", clock_rfc3339(status->since_wall_ms, since),
               store_reason_text(status->reason));
    printf("\n");
    if (!status->readable) {
        printf("          %s\n", status->store_error.message);
        return;
    }
    printf("schema    step %d of %d\n", status->found.schema, status->found.schema_known);
    printf("rows      %" PRId64 "\n", status->found.rows);
}

static void print_spool(const struct status *status)
{
    char time[CLOCK_RFC3339_SIZE];
    const struct spool_depth *depth = &status->depth;
    if (!status->spool_known) {
        printf("spool     %s\n", status->spool_error.message);
        return;
    }
    printf("spool     %" PRIu64 " segments, %" PRIu64 " bytes not in the store", depth->segments,
           depth->pending_bytes);
    if (depth->oldest_wall_ms)
        printf(", the oldest of %s", clock_rfc3339(depth->oldest_wall_ms, time));
    printf("\n");
    if (status->disk_full_wall_ms)
        printf("          takes nothing since %s: no room on the disk, or it fails\n",
               clock_rfc3339(status->disk_full_wall_ms, time));
}

static void print_text(const struct config *config, const struct status *status)
{
    print_store(config, status);
    print_spool(status);
    printf("rejected  %" PRIu64 "\n", status->rejected);
    printf("gateway   %s\n", status->running ? "running" : "not running");
}

/* --- as JSON --- */

static void append_time(struct buf *out, const char *name, int64_t wall_ms)
{
    char text[CLOCK_RFC3339_SIZE];
    buf_printf(out, ",\"%s\":", name);
    json_write_string_or_null(out, wall_ms ? str_of(clock_rfc3339(wall_ms, text)) : STR_ABSENT);
}

static void append_text(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, ",\"%s\":", name);
    json_write_string_or_null(out, str_of(text));
}

static void append_number(struct buf *out, const char *name, bool known, int64_t value)
{
    buf_printf(out, ",\"%s\":", name);
    if (known)
        buf_i64(out, value);
    else
        buf_puts(out, "null");
}

static void append_store(struct buf *out, const struct config *config, const struct status *status)
{
    bool known = status->readable;
    buf_puts(out, "\"store\":{\"driver\":");
    json_write_string(out, str_of(config->store.driver));
    struct buf place = {0};
    store_place(&config->store, &place);
    append_text(out, "place", buf_cstr(&place));
    buf_free(&place);
    append_text(out, "state", state_name(status));
    append_text(out, "reason", status->away ? store_reason_name(status->reason) : NULL);
    append_time(out, "since", status->running ? status->since_wall_ms : 0);
    append_text(out, "error", known ? NULL : status->store_error.message);
    append_number(out, "schema", known, status->found.schema);
    append_number(out, "schema_known", known, status->found.schema_known);
    append_number(out, "rows", known, status->found.rows);
    buf_putc(out, '}');
}

static void append_spool(struct buf *out, const struct status *status)
{
    bool known = status->spool_known;
    const struct spool_depth *depth = &status->depth;
    buf_puts(out, ",\"spool\":{\"error\":");
    json_write_string_or_null(out, known ? STR_ABSENT : str_of(status->spool_error.message));
    append_number(out, "segments", known, (int64_t)depth->segments);
    append_number(out, "pending_bytes", known, (int64_t)depth->pending_bytes);
    append_time(out, "oldest", depth->oldest_wall_ms);
    append_time(out, "disk_full_since", status->disk_full_wall_ms);
    buf_putc(out, '}');
}

static void print_json(const struct config *config, const struct status *status)
{
    struct buf out = {0};
    buf_putc(&out, '{');
    append_store(&out, config, status);
    append_spool(&out, status);
    append_number(&out, "rejected", true, (int64_t)status->rejected);
    buf_printf(&out, ",\"running\":%s}\n", status->running ? "true" : "false");
    fputs(buf_cstr(&out), stdout);
    buf_free(&out);
}

static int show_status(const struct config *config, bool json)
{
    struct status status = {0};
    look(config, &status);
    if (json)
        print_json(config, &status);
    else
        print_text(config, &status);
    return fflush(stdout) == 0 && healthy(&status) ? 0 : 1;
}

/* --- the schema --- */

/* A running gateway, its last child too, holds the lock. It is held here in turn, so that none
 * begins meanwhile. -1 in `*lock` where no gateway ever ran. */
static bool keep_gateways_out(const struct config *config, int *lock, struct error *error)
{
    struct buf path = {0};
    buf_printf(&path, "%s/lock", config->runtime_dir);
    *lock = open(buf_cstr(&path), O_RDONLY | O_CLOEXEC);
    bool done = *lock >= 0 || errno == ENOENT ||
                error_errno(error, errno, "can't open %s", buf_cstr(&path));
    buf_free(&path);
    return done &&
           (*lock < 0 || flock(*lock, LOCK_SH | LOCK_NB) == 0 ||
            error_set(error, "a gateway is running: stop it first, or let its next start do this"));
}

static void ignore_offset(void *context, const char *segment, uint64_t committed)
{
    (void)context;
    (void)segment;
    (void)committed;
}

static bool bring_up_to_date(const struct config *config, struct error *error)
{
    struct store *store = NULL;
    if (!store_open(&config->store, "", &store, error))
        return false;
    enum store_result result = store_start(store, ignore_offset, NULL, error);
    bool done = store_complete(store, result, error) == STORE_DONE;
    store_close(&store);
    return done;
}

/* A running logger looks at the schema only when it opens the store. Of a later schema it would
 * be thrown out then, in the middle of its work. */
static bool may_migrate(const struct status *status, struct error *error)
{
    const struct store_found *found = &status->found;
    if (!status->readable)
        return error_set(error, "%s", status->store_error.message);
    return found->schema <= found->schema_known ||
           error_set(error, "the store's schema is step %d, this program knows %d", found->schema,
                     found->schema_known);
}

static int migrate(const struct config *config)
{
    struct status status = {0};
    struct error error;
    int lock = -1;
    look(config, &status);
    const struct store_found *found = &status.found;
    if (status.readable && found->exists && found->schema == found->schema_known) {
        printf("nothing to do: the schema is at step %d\n", found->schema);
        return 0;
    }
    bool done = may_migrate(&status, &error) && keep_gateways_out(config, &lock, &error) &&
                bring_up_to_date(config, &error);
    if (lock >= 0)
        close(lock);
    if (!done) {
        fprintf(stderr, "promptgate db migrate: %s\n", error.message);
        return 1;
    }
    printf("schema: from step %d to %d\n", found->schema, found->schema_known);
    return 0;
}

int cmd_db(int argc, char **argv)
{
    struct cli_options options;
    if (!cli_take_options(&argc, argv, &options) || argc != 2)
        return usage();
    bool to_status = strcmp(argv[1], "status") == 0, to_migrate = strcmp(argv[1], "migrate") == 0;
    if ((!to_status && !to_migrate) || (to_migrate && options.json))
        return usage();
    struct config_report report = {0};
    struct config *config = config_load(options.config, &report);
    int status = 1;
    if (!config)
        config_report_print(&report, stderr);
    else
        status = to_status ? show_status(config, options.json) : migrate(config);
    config_free(&config);
    config_report_free(&report);
    return status;
}
