/* top: what the running gateway does, from its counters, every second on a terminal. */
#include "master/cli/commands.h"
#include "master/cli/live.h"
#include "master/cli/options.h"
#include "master/cli/table.h"
#include "master/config/config_load.h"
#include "shared/base/clock.h"
#include "shared/base/json.h"
#include "shared/base/money.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct top {
    struct counters counters;
    struct months months;
    bool json;
    uint64_t *requests; /* of each slot, at the last look */
    int64_t looked_ms;  /* 0 = not yet */
};

static int usage(void)
{
    fputs("usage: promptgate top [--json] [--config DIR]\n", stderr);
    return 2;
}

/* --- workers --- */

static double rate_of(const struct top *top, unsigned slot, int64_t now_ms)
{
    uint64_t requests = atomic_load(&top->counters.workers[slot].requests);
    if (top->looked_ms == 0 || now_ms <= top->looked_ms)
        return 0;
    return (double)(requests - top->requests[slot]) * 1000 / (double)(now_ms - top->looked_ms);
}

static bool lives(const struct shm_worker *worker)
{
    int32_t state = atomic_load(&worker->state);
    return state == SHM_SLOT_READY || state == SHM_SLOT_DRAINING;
}

static uint64_t in_flight(const struct shm_worker *worker)
{
    uint64_t rows = atomic_load(&worker->rows), requests = atomic_load(&worker->requests);
    return requests > rows ? requests - rows : 0;
}

static void write_workers(const struct top *top, int64_t now_ms, struct buf *out)
{
    const char *before = "";
    buf_puts(out, top->json ? "\"workers\":[" : "WORKER   GEN      PID  IN FLIGHT   REQUESTS/S\n");
    for (unsigned i = 0; i < top->counters.header->workers; i++) {
        const struct shm_worker *worker = &top->counters.workers[i];
        if (!lives(worker))
            continue;
        buf_printf(out,
                   top->json ? "%s{\"index\":%d,\"generation\":%lld,\"pid\":%d,\"in_flight\":%llu,"
                               "\"requests_per_second\":%.1f}"
                             : "%s%6d %5lld %8d %10llu %12.1f\n",
                   before, atomic_load(&worker->index), (long long)atomic_load(&worker->generation),
                   atomic_load(&worker->pid), (unsigned long long)in_flight(worker),
                   rate_of(top, i, now_ms));
        before = top->json ? "," : "";
    }
    buf_puts(out, top->json ? "]" : "");
}

/* --- accounts --- */

static const char *kind_name(uint32_t kind)
{
    static const char *const names[] = {
        [ACCOUNT_PROJECT] = "project", [ACCOUNT_ENDPOINT] = "endpoint", [ACCOUNT_TOKEN] = "token"};
    return kind < sizeof names / sizeof *names ? names[kind] : NULL;
}

static void write_name(const struct top *top, uint32_t account, struct buf *out)
{
    struct str name = account_label(&top->counters, account, 0);
    struct str project = account_label(&top->counters, account, 1);
    if (project.len > 0 &&
        atomic_load(&top->counters.accounts[account].kind) != (uint32_t)ACCOUNT_PROJECT)
        buf_printf(out, "%.*s/", STR_ARG(project));
    buf_str(out, name);
}

/* "used/cap" of a window, or "-". */
static void write_window(const struct top *top, uint32_t account, bool hourly, struct buf *out)
{
    struct rate_limit limit;
    const struct shm_account *one = &top->counters.accounts[account];
    bool limited =
        rate_look(one, hourly, clock_now_us(), top->counters.header->clock_offset_us, &limit);
    long long used = limited ? (long long)(limit.cap - limit.remaining) : 0;
    if (top->json && limited)
        buf_printf(out, ",\"%s\":{\"used\":%lld,\"limit\":%lld}",
                   hourly ? "per_hour" : "per_minute", used, (long long)limit.cap);
    else if (top->json)
        buf_printf(out, ",\"%s\":null", hourly ? "per_hour" : "per_minute");
    else if (limited)
        buf_printf(out, "%lld/%lld", used, (long long)limit.cap);
    else
        buf_putc(out, '-');
}

static void write_usd(int64_t nano_usd, bool json, struct buf *out)
{
    if (nano_usd == CAP_UNLIMITED)
        buf_puts(out, json ? "null" : "-");
    else
        usd_write(out, nano_usd);
}

static void write_cells(const struct top *top, uint32_t account, const struct live_money *money,
                        struct buf *out)
{
    struct buf cells[6] = {{0}};
    write_name(top, account, &cells[0]);
    write_window(top, account, false, &cells[1]);
    write_window(top, account, true, &cells[2]);
    write_usd(money->spent, false, &cells[3]);
    write_usd(money->reserved, false, &cells[4]);
    write_usd(money->cap, false, &cells[5]);
    size_t start = out->len;
    buf_printf(out, "%-8s %-40s %14s %14s %14s %12s %12s",
               kind_name(atomic_load(&top->counters.accounts[account].kind)), buf_cstr(&cells[0]),
               buf_cstr(&cells[1]), buf_cstr(&cells[2]), buf_cstr(&cells[3]), buf_cstr(&cells[4]),
               buf_cstr(&cells[5]));
    struct buf line = {.data = out->data + start, .len = out->len - start};
    cli_clean_line(&line);
    out->len = start + line.len;
    buf_putc(out, '\n');
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        buf_free(&cells[i]);
}

static void write_object(const struct top *top, uint32_t account, const struct live_money *money,
                         struct buf *out)
{
    struct buf name = {0};
    write_name(top, account, &name);
    buf_printf(out, "{\"kind\":\"%s\",\"name\":",
               kind_name(atomic_load(&top->counters.accounts[account].kind)));
    json_write_string(out, buf_view(&name));
    write_window(top, account, false, out);
    write_window(top, account, true, out);
    buf_puts(out, ",\"spent_usd\":");
    write_usd(money->spent, true, out);
    buf_puts(out, ",\"reserved_usd\":");
    write_usd(money->reserved, true, out);
    buf_puts(out, ",\"cap_usd\":");
    write_usd(money->cap, true, out);
    buf_putc(out, '}');
    buf_free(&name);
}

/* Those that have a limit, or have spent something. */
static bool is_shown(const struct shm_account *account, const struct live_money *money)
{
    bool limited = false;
    for (int i = 0; i < CAP_COUNT; i++)
        limited = limited || atomic_load(&account->caps[i]) != CAP_UNLIMITED;
    return limited || money->spent > 0 || money->reserved > 0;
}

static void write_accounts(const struct top *top, struct buf *out)
{
    struct live_reserved reserved =
        live_reserved(&top->counters, month_number(&top->months, clock_wall_ms()));
    uint32_t count = atomic_load(&top->counters.header->accounts);
    const char *before = "";
    if (top->json)
        buf_puts(out, ",\"accounts\":[");
    else
        buf_printf(out, "\n%-8s %-40s %14s %14s %14s %12s %12s\n", "KIND", "NAME", "MINUTE", "HOUR",
                   "SPENT USD", "RESERVED", "BUDGET");
    for (uint32_t i = 0; i < count; i++) {
        const struct shm_account *account = &top->counters.accounts[i];
        if (atomic_load(&account->key) == 0 || !kind_name(atomic_load(&account->kind)))
            continue;
        struct live_money money = live_money(&top->counters, &reserved, i);
        if (!is_shown(account, &money))
            continue;
        buf_puts(out, before);
        (top->json ? write_object : write_cells)(top, i, &money, out);
        before = top->json ? "," : "";
    }
    buf_puts(out, top->json ? "]" : "");
    live_reserved_free(&reserved);
}

/* --- credentials --- */

static void write_credential(const struct top *top, uint32_t account, enum breaker_state state,
                             struct buf *out)
{
    struct str name = account_label(&top->counters, account, 0);
    struct str provider = account_label(&top->counters, account, 1);
    if (!top->json) {
        buf_printf(out, "%-40.*s %-12.*s %s\n", STR_ARG(name), STR_ARG(provider),
                   breaker_state_name(state));
        return;
    }
    buf_puts(out, "{\"name\":");
    json_write_string(out, name);
    buf_puts(out, ",\"provider\":");
    json_write_string(out, provider);
    buf_printf(out, ",\"state\":\"%s\"}", breaker_state_name(state));
}

/* Those of the configuration that serves. */
static void write_credentials(const struct top *top, struct buf *out)
{
    const struct counters *counters = &top->counters;
    uint32_t count = atomic_load(&counters->header->accounts);
    int64_t generation = atomic_load(&counters->header->serving_generation);
    const char *before = "";
    if (top->json)
        buf_puts(out, ",\"credentials\":[");
    else
        buf_printf(out, "\n%-40s %-12s %s\n", "CREDENTIAL", "PROVIDER", "STATE");
    for (uint32_t i = 0; i < count; i++) {
        const struct shm_account *account = &counters->accounts[i];
        if (atomic_load(&account->key) == 0 ||
            atomic_load(&account->kind) != (uint32_t)ACCOUNT_CREDENTIAL ||
            atomic_load(&account->last_generation) < generation)
            continue;
        buf_puts(out, before);
        write_credential(top, i, breaker_look(&account->breaker, generation), out);
        before = top->json ? "," : "";
    }
    buf_puts(out, top->json ? "]" : "");
}

static void remember(struct top *top, int64_t now_ms)
{
    for (unsigned i = 0; i < top->counters.header->workers; i++)
        top->requests[i] = atomic_load(&top->counters.workers[i].requests);
    top->looked_ms = now_ms;
}

static void show(struct top *top, bool clears)
{
    struct buf out = {0};
    int64_t now_ms = clock_now_ms();
    buf_puts(&out, top->json ? "{" : clears ? "\033[H\033[J" : "");
    write_workers(top, now_ms, &out);
    write_accounts(top, &out);
    write_credentials(top, &out);
    buf_puts(&out, top->json ? "}\n" : "");
    fwrite(out.data, 1, out.len, stdout);
    fflush(stdout);
    buf_free(&out);
    remember(top, now_ms);
}

/* Two looks make a rate; on a terminal it goes on until it is ended. */
static void run(struct top *top)
{
    const struct timespec second = {.tv_sec = 1};
    bool terminal = isatty(STDOUT_FILENO) && !top->json;
    remember(top, clock_now_ms());
    do {
        nanosleep(&second, NULL);
        show(top, terminal);
    } while (terminal);
}

int cmd_top(int argc, char **argv)
{
    struct cli_options options;
    struct config_report report = {0};
    if (!cli_take_options(&argc, argv, &options) || argc > 1)
        return usage();
    struct config *config = config_load_service(options.config, &report);
    struct top top = {.json = options.json};
    bool opened = config && live_open(options.config, &top.counters);
    if (!config)
        config_report_print(&report, stderr);
    else if (!opened)
        fputs("promptgate top: no gateway has run here since the machine was started\n", stderr);
    config_report_free(&report);
    if (opened) {
        top.months = config->store.months;
        top.requests = calloc(top.counters.header->workers, sizeof *top.requests);
        if (top.requests)
            run(&top);
        free(top.requests);
        counters_close(&top.counters);
    }
    config_free(&config);
    return opened ? 0 : 1;
}
