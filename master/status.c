#include "master/status.h"

#include "shared/base/clock.h"
#include "shared/base/json.h"

#include <unistd.h>

static const char *const state_names[] = {
    [GENERATION_STARTING] = "starting",
    [GENERATION_SERVING] = "serving",
    [GENERATION_RETIRING] = "retiring",
    [GENERATION_FAILED] = "failed",
};

static void write_worker(const struct process *worker, const struct counters *counters,
                         struct buf *out)
{
    const struct shm_worker *shared = &counters->workers[worker->slot];
    uint64_t rows = atomic_load(&shared->rows), requests = atomic_load(&shared->requests);
    uint64_t in_flight = requests > rows ? requests - rows : 0;
    buf_printf(out,
               "{\"index\":%u,\"pid\":%d,\"slot\":%d,\"ready\":%s,\"heartbeat_age_ms\":%lld,"
               "\"in_flight\":%llu,\"requests\":%llu,\"refused\":%llu}",
               worker->index, (int)worker->pid, worker->slot,
               process_is_ready(worker, counters) ? "true" : "false",
               (long long)(clock_now_ms() - atomic_load(&shared->heartbeat_ms)),
               (unsigned long long)in_flight, (unsigned long long)requests,
               (unsigned long long)atomic_load(&shared->refused));
}

static void write_generation(const struct generation *generation, const struct counters *counters,
                             struct buf *out)
{
    buf_printf(out, "{\"number\":%lld,\"state\":\"%s\",\"workers\":[",
               (long long)generation->number, state_names[generation->state]);
    bool first = true;
    for (unsigned i = 0; i < generation->count; i++) {
        if (generation->workers[i].pid == 0)
            continue;
        buf_puts(out, first ? "" : ",");
        write_worker(&generation->workers[i], counters, out);
        first = false;
    }
    buf_puts(out, "]}");
}

static void write_address(const struct listener *listener, struct buf *out)
{
    struct buf text = {0};
    listener_write_address(listener, &text);
    json_write_string(out, buf_view(&text));
    buf_free(&text);
}

void status_write(const struct status_view *view, struct buf *out)
{
    buf_printf(out, "{\"version\":\"%s\",\"pid\":%d,\"stopping\":%s,\"logger_pid\":%d",
               PROMPTGATE_VERSION, (int)getpid(), view->stopping ? "true" : "false",
               (int)view->logger->pid);
    if (view->keeper->pid > 0)
        buf_printf(out, ",\"keeper_pid\":%d", (int)view->keeper->pid);
    buf_printf(out, ",\"sessions\":\"%s\"",
               atomic_load(&view->counters->header->sessions_away_ms) ? "away" : "ok");
    if (view->upgrading > 0)
        buf_printf(out, ",\"upgrading_to_pid\":%d", (int)view->upgrading);
    if (view->replaces > 0)
        buf_printf(out, ",\"replaces_pid\":%d,\"replaces_workers\":%u", (int)view->replaces,
                   slots_foreign(view->slots, false));
    buf_printf(out, ",\"slots\":%u,\"slots_free\":%u,\"rows_logged\":%llu,\"listening\":[",
               view->slots->count, slots_available(view->slots),
               (unsigned long long)atomic_load(&view->counters->header->logged_rows));
    for (unsigned i = 0; i < view->listeners->count; i++) {
        buf_puts(out, i ? "," : "");
        write_address(&view->listeners->at[i], out);
    }
    buf_puts(out, "],\"generations\":[");
    for (unsigned i = 0; i < view->generations_count; i++) {
        buf_puts(out, i ? "," : "");
        write_generation(view->generations[i], view->counters, out);
    }
    buf_puts(out, "]}");
}
