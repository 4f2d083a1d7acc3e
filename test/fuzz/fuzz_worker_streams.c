/* A streamed answer of any provider, whole and in pieces: the same is collected and relayed. The
 * first byte says whose it is, the second how long the pieces are, the rest is the stream. */
#include "shared/base/json.h"
#include "worker/provider/chunks.h"
#include "worker/provider/openai_glance.h"
#include "worker/upstream/event_reader.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reading {
    struct streamed streamed;
    struct arena arena;
    struct buf relayed;
    enum event_kind worst;
};

/* What is recognised at a glance is what a whole reading says. */
static void check_glance(struct reading *reading, struct str event)
{
    struct openai_glance seen = {0};
    struct json_object *data;
    struct error error;
    struct streamed whole = {.provider = reading->streamed.provider, .arena = &reading->arena};
    struct buf chunks = {0};
    if (!streamed_is_openai(whole.provider, whole.api) || !event.at || !openai_glance(event, &seen))
        return;
    if (!json_read(event, &data, &error))
        abort();
    enum event_kind kind = openai_read_event(&whole, data, &chunks);
    if (kind != (seen.text_bytes > 0 ? EVENT_CONTENT : EVENT_SILENT) || chunks.len > 0 ||
        whole.said_bytes != seen.text_bytes || whole.calls_count > 0 || whole.usage.reported ||
        whole.finish_reason)
        abort();
    json_object_put(data);
    streamed_free(&whole);
}

static bool on_event(void *context, const struct stream_event *event)
{
    struct reading *reading = context;
    check_glance(reading, event->data);
    enum event_kind kind = streamed_read(&reading->streamed, event->data, &reading->relayed);
    if (kind == EVENT_FAILED && !reading->streamed.failure.at && event->data.len == 0)
        abort();
    if (kind > reading->worst)
        reading->worst = kind;
    return kind != EVENT_FAILED;
}

/* Behind the last provider is OpenAI's other API. */
enum { KINDS = PROVIDER_COUNT + 1 };

static void read_in_pieces(unsigned kind, struct str stream, size_t piece, struct reading *reading)
{
    bool other = kind == PROVIDER_COUNT;
    enum provider_id provider = other ? PROVIDER_OPENAI : (enum provider_id)kind;
    struct event_reader reader = {
        .framing = streamed_in_lines(provider) ? STREAM_NDJSON : STREAM_SSE, .max_event = SIZE_MAX};
    enum stream_read read = STREAM_MORE;
    reading->streamed = (struct streamed){.provider = provider,
                                          .api = other ? MODEL_API_RESPONSES : MODEL_API_CHAT,
                                          .arena = &reading->arena,
                                          .keeps_text = true,
                                          .default_id = STR("i"),
                                          .default_model = STR("m")};
    for (size_t at = 0; read == STREAM_MORE && at < stream.len; at += piece) {
        size_t len = piece < stream.len - at ? piece : stream.len - at;
        read = event_reader_feed(&reader, (struct str){stream.at + at, len}, on_event, reading);
    }
    if (read == STREAM_MORE)
        (void)event_reader_end(&reader, on_event, reading);
    event_reader_free(&reader);
    chunks_write_finish(&reading->streamed, &reading->relayed);
}

static void check_usage(const struct usage *usage)
{
    if (usage->prompt_tokens < 0 || usage->completion_tokens < 0 || usage->cached_tokens < 0 ||
        usage->total_tokens != usage->prompt_tokens + usage->completion_tokens)
        abort();
}

/* What was translated is JSON that a client can read. */
static void check_relayed(struct reading *reading)
{
    struct reading client = {.worst = EVENT_SILENT};
    read_in_pieces(PROVIDER_OPENAI, buf_view(&reading->relayed), reading->relayed.len, &client);
    if (client.worst == EVENT_FAILED)
        abort();
    streamed_free(&client.streamed);
    buf_free(&client.relayed);
    arena_free(&client.arena);
}

static void release(struct reading *reading)
{
    streamed_free(&reading->streamed);
    buf_free(&reading->relayed);
    arena_free(&reading->arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reading whole = {.worst = EVENT_SILENT}, pieces = {.worst = EVENT_SILENT};
    if (size < 3)
        return 0;
    unsigned kind = data[0] % KINDS;
    struct str stream = {(const char *)data + 2, size - 2};
    read_in_pieces(kind, stream, stream.len, &whole);
    read_in_pieces(kind, stream, data[1] ? data[1] : 1, &pieces);
    if (!str_eq(buf_view(&whole.streamed.text), buf_view(&pieces.streamed.text)) ||
        !str_eq(buf_view(&whole.relayed), buf_view(&pieces.relayed)) ||
        whole.streamed.calls_count != pieces.streamed.calls_count || whole.worst != pieces.worst)
        abort();
    check_usage(&whole.streamed.usage);
    check_relayed(&whole);
    release(&whole);
    release(&pieces);
    return 0;
}
