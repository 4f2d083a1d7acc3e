#include "master/status.h"

#include "shared/base/clock.h"
#include "shared/base/json.h"

static void text_member(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, "\"%s\":", name);
    json_write_string_or_null(out, str_of(value));
    buf_putc(out, ',');
}

/* Below zero is null. */
static void number_member(struct buf *out, const char *name, int64_t value)
{
    buf_printf(out, "\"%s\":", name);
    if (value < 0)
        buf_puts(out, "null");
    else
        buf_i64(out, value);
    buf_putc(out, ',');
}

static void count_member(struct buf *out, const char *name, uint64_t value)
{
    buf_printf(out, "\"%s\":", name);
    buf_u64(out, value);
    buf_putc(out, ',');
}

/* In place of the last member's comma. */
static void end_with(struct buf *out, char bracket)
{
    if (out->data[out->len - 1] == ',')
        out->len--;
    buf_putc(out, bracket);
}

static void write_process(struct buf *out, const struct status_process *process)
{
    buf_putc(out, '{');
    text_member(out, "role", process->role);
    number_member(out, "index", process->index);
    number_member(out, "slot", process->slot);
    number_member(out, "pid", process->pid > 0 ? process->pid : -1);
    number_member(out, "generation", process->generation > 0 ? process->generation : -1);
    text_member(out, "state", process->state);
    number_member(out, "heartbeat_ms", process->heartbeat_ms);
    count_member(out, "requests", process->requests);
    count_member(out, "in_flight", process->in_flight);
    end_with(out, '}');
}

void status_write(struct buf *out, const struct status *status)
{
    char time[CLOCK_RFC3339_SIZE];
    buf_putc(out, '{');
    text_member(out, "state", status->state);
    text_member(out, "version", PROMPTGATE_VERSION);
    number_member(out, "pid", status->pid);
    text_member(out, "started", clock_rfc3339(status->started_wall_ms, time));
    text_member(out, "config", status->config);
    number_member(out, "generation", status->generation > 0 ? status->generation : -1);
    number_member(out, "generations", status->generations);
    count_member(out, "logged_rows", status->logged_rows);
    buf_puts(out, "\"listen\":[");
    for (size_t i = 0; i < status->listens_count; i++) {
        json_write_string(out, str_of(status->listens[i]));
        buf_putc(out, ',');
    }
    end_with(out, ']');
    buf_puts(out, ",\"processes\":[");
    for (size_t i = 0; i < status->processes_count; i++) {
        write_process(out, &status->processes[i]);
        buf_putc(out, ',');
    }
    end_with(out, ']');
    buf_puts(out, "}\n");
}
