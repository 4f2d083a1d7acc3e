#include "worker/relay.h"

#include "shared/base/clock.h"
#include "worker/answer.h"
#include "worker/exchange.h"
#include "worker/upstream/delay.h"
#include "worker/upstream/transfer.h"

enum {
    PULSE_MS = 10000,              /* contract: Streaming */
    MAX_EVENT_BYTES = 16 << 20,    /* an image may be megabytes */
    BATCH_BYTES = 64 * 1024,       /* of http.stream_buffer, for what comes before a pause holds */
    KEPT_BUFFER_BYTES = 16 * 1024, /* between two writes */
};

/* Its events go on as they are. */
static bool passes_bytes(const struct exchange *ex)
{
    const struct config_target *target = ex->attempt.target;
    return ex->relay.native || streamed_is_openai(target->provider, target->known.api);
}

static bool speaks_lines(const struct exchange *ex)
{
    return ex->relay.native && streamed_in_lines(ex->attempt.target->provider);
}

/* --- reading --- */

/* The stream's last bytes may lack what ends an event. */
static void pass(struct exchange *ex, struct str raw)
{
    struct relay *relay = &ex->relay;
    buf_str(&relay->out, raw);
    if (relay->closing)
        buf_puts(&relay->out, speaks_lines(ex) ? "\n" : "\n\n");
}

static void pass_usage(struct exchange *ex, struct str raw)
{
    struct relay *relay = &ex->relay;
    bool due = relay->native || (relay->wants_usage && !relay->usage_told);
    if (due && passes_bytes(ex))
        pass(ex, raw);
    relay->usage_told = relay->usage_told || (due && passes_bytes(ex));
}

static void pass_event(struct exchange *ex, struct str raw, bool carries, bool is_written)
{
    struct relay *relay = &ex->relay;
    if (!is_written && passes_bytes(ex))
        pass(ex, raw);
    if (carries && relay->first_us == 0)
        relay->first_us = clock_now_us();
    relay->carries = relay->carries || carries;
}

static void take_failure(struct relay *relay)
{
    bool is_cut = relay->closing && relay->streamed.unusable; /* in the middle of an event */
    relay->problem = relay->streamed.failure;
    if (!is_cut)
        relay->state = relay->streamed.unusable ? RELAY_UNUSABLE : RELAY_FAILED;
}

static bool on_event(void *context, const struct stream_event *event)
{
    struct exchange *ex = context;
    struct relay *relay = &ex->relay;
    struct buf unused = {0};
    struct buf *chunks = relay->native ? &unused : &relay->out;
    size_t before = chunks->len;
    enum event_kind kind = streamed_read(&relay->streamed, event->data, chunks);
    if (kind != EVENT_FAILED && str_eq(event->name, STR("error")))
        kind = streamed_fail(&relay->streamed, event->data);
    bool is_written = !relay->native && chunks->len > before;
    buf_free(&unused);
    switch (kind) {
    case EVENT_END:
        relay->state = RELAY_ENDED;
        relay->end_mark = passes_bytes(ex) ? arena_copy(&ex->arena, event->raw) : STR_ABSENT;
        break;
    case EVENT_FAILED:
        take_failure(relay);
        break;
    case EVENT_USAGE:
        pass_usage(ex, event->raw);
        break;
    case EVENT_CONTENT:
    case EVENT_SILENT:
        pass_event(ex, event->raw, kind == EVENT_CONTENT, is_written);
        break;
    }
    return relay->state == RELAY_GOES_ON;
}

static void forget_attempt(struct relay *relay)
{
    event_reader_free(&relay->reader);
    streamed_free(&relay->streamed);
    buf_clear(&relay->out);
    relay->streamed = (struct streamed){0};
    relay->end_mark = relay->problem = STR_ABSENT;
    relay->state = RELAY_GOES_ON;
    relay->started = relay->closing = relay->carries = relay->usage_told = relay->held_up = false;
}

static struct str own_id(struct exchange *ex)
{
    struct buf id = {0};
    answer_make_id(ex, &id);
    struct str copy = arena_copy(&ex->arena, buf_view(&id));
    buf_free(&id);
    return copy;
}

static void watch_pulse(struct exchange *ex, int64_t wait_ms);

void relay_start(struct exchange *ex)
{
    struct relay *relay = &ex->relay;
    const struct config_target *target = ex->attempt.target;
    forget_attempt(relay);
    relay->started = true;
    relay->reader.framing = streamed_in_lines(target->provider) ? STREAM_NDJSON : STREAM_SSE;
    relay->reader.max_event = MAX_EVENT_BYTES;
    relay->streamed = (struct streamed){
        .provider = target->provider,
        .api = target->known.api,
        .arena = &ex->arena,
        .created_s = ex->created_wall_ms / 1000,
        .default_id = own_id(ex),
        .default_model = str_of(target->model),
        .keeps_text = ex->services->config->log_bodies != LOG_BODIES_NONE ||
                      ex->endpoint->output_schema || ex->session.wanted || ex->repeat.wanted,
    };
    if (relay->pulse)
        return;
    relay->written_ms = uv_now(ex->services->loop);
    watch_pulse(ex, PULSE_MS);
}

enum relay_state relay_take(struct exchange *ex, struct str bytes)
{
    struct relay *relay = &ex->relay;
    if (relay->state != RELAY_GOES_ON)
        return relay->state;
    if (event_reader_feed(&relay->reader, bytes, on_event, ex) == STREAM_TOO_LARGE) {
        relay->problem = STR("an event has more than 16 MiB");
        relay->state = RELAY_UNUSABLE;
    }
    return relay->state;
}

void relay_close(struct exchange *ex)
{
    struct relay *relay = &ex->relay;
    relay->closing = true;
    if (relay->state == RELAY_GOES_ON)
        (void)event_reader_end(&relay->reader, on_event, ex);
}

void relay_collect(struct exchange *ex)
{
    if (ex->relay.started)
        streamed_complete(&ex->relay.streamed, &ex->completion);
}

/* --- writing --- */

static bool send_head(struct exchange *ex, bool lines, struct str first)
{
    struct buf headers = {0};
    answer_head(ex, lines ? "application/x-ndjson" : "text/event-stream", &headers);
    buf_puts(&headers, "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n");
    const struct http_response response = {
        .status = 200, .headers = buf_view(&headers), .body = first};
    bool begun = http_stream_begin(ex->connection, &response);
    buf_free(&headers);
    return begun;
}

static void begin(struct exchange *ex, struct str first)
{
    ex->relay.begun = send_head(ex, speaks_lines(ex), first);
}

static void write_out(struct exchange *ex, struct str bytes)
{
    struct relay *relay = &ex->relay;
    if (relay->begun)
        http_stream_write(ex->connection, bytes);
    else
        begin(ex, bytes);
    relay->sent += bytes.len;
    relay->written_ms = uv_now(ex->services->loop);
}

void relay_flush(struct exchange *ex)
{
    struct relay *relay = &ex->relay;
    size_t most = (size_t)ex->services->config->http.stream_buffer - BATCH_BYTES;
    if (!ex->connection || relay->out.len == 0)
        return;
    if (!relay->carries && relay->out.len <= most)
        return;
    write_out(ex, buf_view(&relay->out));
    relay->spoken = true;
    if (relay->native && ex->repeat.wanted)
        buf_str(&relay->past, buf_view(&relay->out));
    buf_clear(&relay->out);
    if (relay->out.cap > KEPT_BUFFER_BYTES)
        buf_free(&relay->out);
    if (!ex->transfer || http_stream_pending(ex->connection) <= most)
        return;
    relay->held_up = true;
    transfer_pause(ex->transfer);
}

void relay_writable(struct exchange *ex)
{
    if (ex->transfer)
        transfer_resume(ex->transfer);
}

/* --- while nothing comes --- */

/* Lines of JSON have no comments. A client that takes nothing needs none, either. */
static void write_comment(struct exchange *ex)
{
    struct str comment = speaks_lines(ex) ? STR("") : STR(": keep-alive\n\n");
    if (!ex->relay.begun || http_stream_pending(ex->connection) == 0)
        write_out(ex, comment);
}

static void on_pulse(void *context)
{
    struct exchange *ex = context;
    struct relay *relay = &ex->relay;
    int64_t quiet_ms = (int64_t)(uv_now(ex->services->loop) - relay->written_ms);
    relay->pulse = NULL;
    if (quiet_ms >= PULSE_MS && ex->connection)
        write_comment(ex);
    watch_pulse(ex, quiet_ms >= PULSE_MS ? PULSE_MS : PULSE_MS - quiet_ms);
}

static void watch_pulse(struct exchange *ex, int64_t wait_ms)
{
    ex->relay.pulse = delay_start(ex->services->loop, wait_ms, on_pulse, ex);
}

/* --- the end --- */

static void write_end(struct exchange *ex)
{
    struct relay *relay = &ex->relay;
    bool usage_due = relay->wants_usage && !relay->usage_told && !relay->native;
    if (!relay->native)
        chunks_write_finish(&relay->streamed, &relay->out);
    if (usage_due && relay->streamed.usage.reported)
        chunks_write_usage(&relay->streamed, &relay->out);
    if (relay->end_mark.at)
        buf_str(&relay->out, relay->end_mark);
    else if (!relay->native)
        buf_puts(&relay->out, "data: [DONE]\n\n");
}

/* Few formats have a place for our codes. */
static void write_native_failure(struct exchange *ex, struct stream_failure failure)
{
    failure.message =
        str_of(arena_printf(&ex->arena, "%s: %.*s", failure.code, STR_ARG(failure.message)));
    exchange_provider(ex)->write_failure(&failure, &ex->relay.out);
}

static void write_failure(struct exchange *ex)
{
    struct relay *relay = &ex->relay;
    const struct api_error_info *info = api_error_info(ex->failure.code);
    struct buf details = {0};
    answer_details(&ex->failure, &details);
    const struct stream_failure failure = {
        .status = info->status,
        .code = info->code,
        .type = info->type,
        .message = ex->failure.message.len ? ex->failure.message : str_of(info->sentence),
        .details = buf_view(&details),
    };
    if (relay->native)
        write_native_failure(ex, failure);
    else
        openai_write_failure(&failure, &relay->out);
    buf_free(&details);
}

size_t relay_finish(struct exchange *ex)
{
    struct relay *relay = &ex->relay;
    if (ex->failure.code == API_OK)
        write_end(ex);
    else
        write_failure(ex);
    struct str last = buf_view(&relay->out);
    relay->sent += last.len;
    if (relay->begun)
        return http_stream_end(ex->connection, last);
    begin(ex, last);
    return http_stream_end(ex->connection, STR(""));
}

/* ---- once more ---- */

enum kept_kind relay_again(const struct exchange *ex, struct buf *out)
{
    const struct relay *relay = &ex->relay;
    if (!relay->native) {
        chunks_write_again(&relay->streamed, relay->wants_usage, out);
        buf_puts(out, "data: [DONE]\n\n");
        return KEPT_EVENTS;
    }
    buf_str(out, buf_view(&relay->past));
    buf_str(out, buf_view(&relay->out));
    buf_str(out, relay->end_mark);
    return speaks_lines(ex) ? KEPT_LINES : KEPT_EVENTS;
}

size_t relay_replay(struct exchange *ex, const struct kept_reply *reply)
{
    ex->relay.sent = reply->body.len;
    (void)send_head(ex, reply->kind == KEPT_LINES, reply->body);
    return http_stream_end(ex->connection, STR(""));
}

void relay_release(struct exchange *ex)
{
    struct relay *relay = &ex->relay;
    delay_cancel(&relay->pulse);
    if (relay->started)
        forget_attempt(relay);
    buf_free(&relay->out);
    buf_free(&relay->past);
}
