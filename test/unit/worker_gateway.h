/* For tests of whole requests: a worker's pipeline behind a real HTTP server on loopback, a
 * configuration made in memory, a provider of raw bytes, and the log pipe's other end. Time stands
 * still unless the test moves it (but libuv's timers run on their own clock). */
#pragma once

#include "shared/base/clock.h"
#include "shared/base/json.h"
#include "shared/record/frame.h"
#include "shared/record/record.h"
#include "test/unit/mock_upstream.h"
#include "worker/budget_queue.h"
#include "worker/frontend.h"
#include "worker/log_writer.h"
#include "worker/refusals.h"
#include "worker/stage/stage.h"
#include "worker/upstream/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define DEMO "0192f0c1-7e7a-7cc3-98c4-dc0c0c073981"
#define OTHER "0192f0c1-7e7a-7cc3-98c4-dc0c0c073982"
#define SLEEPING "0192f0c1-7e7a-7cc3-98c4-dc0c0c073983"
#define NOBODY "0192f0c1-7e7a-7cc3-98c4-dc0c0c073984"

/* 43 characters of base64url; each token has one letter. */
#define TOKEN(letter) "pg_live_" letter "234567890123456789012345678901234567890123"
#define BEARER(letter) "Authorization: Bearer " TOKEN(letter) "\r\n"
#define JSON_TYPE "Content-Type: application/json\r\n"
#define GOOD BEARER("g") JSON_TYPE

static const int64_t gateway_wall_ms = INT64_C(1795000000000);
static int64_t gateway_now_us = 1000000;

struct gateway_answer {
    int status;
    struct buf bytes; /* all of it */
    const char *body; /* in it */
    struct json_object *json;
};

struct gateway_endpoint {
    const char *slug, *model, *system_prompt, *user_prompt;
    int64_t max_output_tokens, timeout_ms;
    bool inactive;
    bool picky; /* its model refuses what can be refused, and answers 50 tokens at most */
};

static struct gateway {
    uv_loop_t loop;
    uv_tcp_t listener;
    struct sockaddr_in address;
    struct http_server server;
    struct frontend frontend;
    struct services services;
    struct shm_worker counts;
    struct shm_request *table;
    struct requests requests;
    struct config config;
    struct token_table *tokens;
    struct shm_header header;
    struct counters counters; /* of one slot, in this process's memory */
    uint32_t accounts;        /* that are used */
    struct mock mock;
    int pipe[2];
    struct buf pipe_bytes;
    struct frame_reader frames;
    struct buf record_bytes;
    struct record record;
    int client; /* -1: none */
    struct gateway_answer answer;
    unsigned ended, all_idle;
} gateways[64];

static unsigned gateways_begun;

static inline int64_t gateway_clock_us(void)
{
    return gateway_now_us;
}

static inline int64_t gateway_clock_wall_ms(void)
{
    return gateway_wall_ms;
}

/* --- configuration --- */

static inline const struct template *gateway_template(struct arena *arena, const char *source)
{
    static const struct template_names no_names;
    struct template *compiled;
    size_t offset;
    struct error error;
    if (!source)
        return NULL;
    if (!template_compile(str_of(source), &no_names, arena, &compiled, &offset, &error))
        fail_msg("%s: %s", source, error.message);
    return compiled;
}

static inline void gateway_add_endpoints(struct gateway *g, struct config_project *project,
                                         const struct gateway_endpoint *endpoints, size_t count)
{
    struct arena *arena = &g->config.arena;
    project->endpoints = arena_alloc(arena, count * sizeof *project->endpoints);
    project->endpoints_count = count;
    for (size_t i = 0; i < count; i++) {
        bool echo = strncmp(endpoints[i].model, "echo", 4) == 0;
        project->endpoints[i] = (struct config_endpoint){
            .slug = endpoints[i].slug,
            .account = g->accounts++,
            .project = project,
            .caps = {CAP_UNLIMITED, CAP_UNLIMITED, CAP_UNLIMITED},
            .active = !endpoints[i].inactive,
            .target =
                {
                    .provider = echo ? PROVIDER_ECHO : PROVIDER_OPENAI,
                    .model = endpoints[i].model,
                    .credential = &g->config.credentials[echo ? 0 : 1],
                    .temperature = NAN,
                    .top_p = NAN,
                    .max_output_tokens = endpoints[i].max_output_tokens,
                    .timeout_ms = endpoints[i].timeout_ms ? endpoints[i].timeout_ms : 20000,
                },
            .client_parameters =
                member_client_set() | (endpoints[i].picky ? MEMBER_BIT(MEMBER_temperature) : 0),
            .system_prompt = gateway_template(arena, endpoints[i].system_prompt),
            .user_prompt = gateway_template(arena, endpoints[i].user_prompt),
        };
        if (endpoints[i].picky) {
            struct config_target *target = &project->endpoints[i].target;
            target->temperature = target->top_p = 0.5;
            target->max_output_tokens = 100;
            target->known = (struct config_model){
                .lacks = {.parameters = MEMBER_BIT(MEMBER_temperature) | MEMBER_BIT(MEMBER_stop),
                          .prefill = true,
                          .forced_tool_choice = true},
                .output_limit = 50};
        }
        assert_true(i == 0 || strcmp(endpoints[i - 1].slug, endpoints[i].slug) < 0);
    }
}

static inline void gateway_add_token(struct gateway *g, const char *name, const char *text,
                                     const struct config_project *project, unsigned scopes)
{
    struct config_token *token = &g->config.tokens[g->config.tokens_count++];
    *token = (struct config_token){
        .name = name,
        .account = g->accounts++,
        .project = project,
        .scopes = scopes,
        .all_endpoints = true,
        .active = true,
        .expires_wall_ms = INT64_MAX,
    };
    sha256(str_of(text), token->hash);
}

static inline void gateway_configure_tokens(struct gateway *g)
{
    struct config *config = &g->config;
    const struct config_project *demo = &config->projects[0], *sleeping = &config->projects[2];
    config->tokens = arena_alloc(&config->arena, 16 * sizeof *config->tokens);
    struct config_token *tokens = config->tokens;
    gateway_add_token(g, "good", TOKEN("g"), demo, SCOPE_CHAT | SCOPE_MODELS);
    gateway_add_token(g, "narrow", TOKEN("n"), demo, SCOPE_CHAT);
    gateway_add_token(g, "inactive", TOKEN("i"), demo, SCOPE_CHAT);
    gateway_add_token(g, "expired", TOKEN("e"), demo, SCOPE_CHAT);
    gateway_add_token(g, "lasting", TOKEN("l"), demo, SCOPE_CHAT);
    gateway_add_token(g, "reader", TOKEN("r"), demo, SCOPE_MODELS | SCOPE_USAGE);
    gateway_add_token(g, "sleeper", TOKEN("s"), sleeping, SCOPE_CHAT);
    gateway_add_token(g, "admin", TOKEN("a"), NULL, SCOPE_ADMIN);
    tokens[1].all_endpoints = false;
    tokens[1].endpoints = arena_alloc(&config->arena, sizeof *tokens[1].endpoints);
    tokens[1].endpoints[0] = config_endpoint(demo, STR("echo"));
    tokens[1].endpoints_count = 1;
    tokens[2].active = false;
    tokens[3].expires_wall_ms = gateway_wall_ms;
    tokens[4].expires_wall_ms = gateway_wall_ms + 1;
    struct error error;
    g->tokens = token_table_new(tokens, config->tokens_count, &error);
    assert_non_null(g->tokens);
}

static inline void gateway_configure(struct gateway *g)
{
    static const struct gateway_endpoint demo[] = {
        {.slug = "capped", .model = "gpt-x", .max_output_tokens = 100},
        {.slug = "echo", .model = "echo"},
        {.slug = "fail-401", .model = "echo/fail-401"},
        {.slug = "fail-422", .model = "echo/fail-422"},
        {.slug = "fail-503", .model = "echo/fail-503"},
        {.slug = "invalid", .model = "echo/invalid-json"},
        {.slug = "net", .model = "gpt-x"},
        {.slug = "net-short", .model = "gpt-x", .timeout_ms = 500},
        {.slug = "never", .model = "echo/never", .timeout_ms = 40},
        {.slug = "off", .model = "echo", .inactive = true},
        {.slug = "picky", .model = "gpt-x", .picky = true},
        {.slug = "pinned",
         .model = "gpt-x",
         .system_prompt = "Be brief about {{input}}.",
         .user_prompt = "<{{input}}>"},
        {.slug = "slow", .model = "echo/slow-20"},
        {.slug = "stuck", .model = "echo/never", .timeout_ms = 600000},
        {.slug = "system", .model = "gpt-x", .system_prompt = "Be brief."},
        {.slug = "ticket", .model = "gpt-x", .user_prompt = "{{input.title}}: {{input.tags.0}}"},
    };
    static const struct gateway_endpoint others[] = {{.slug = "echo", .model = "echo"}};
    static const char *const names[] = {"demo", "other", "sleeping"};
    static const char *const ids[] = {DEMO, OTHER, SLEEPING};
    struct config *config = &g->config;
    config->upstream.first_byte_timeout_ms = 20000;
    config->upstream.max_response = 4096;
    config->upstream.breaker = (struct config_breaker){1000, 100, 10000, 5000};
    config->credentials = arena_alloc(&config->arena, 2 * sizeof *config->credentials);
    config->credentials_count = 2;
    config->credentials[0] =
        (struct config_credential){.name = "built-in", .provider = PROVIDER_ECHO, .base_url = ""};
    static struct config_header headers[] = {{"X-Proxy-Key", "proxy-secret-7"}, {"X-Beta", "1"}};
    config->credentials[1] = (struct config_credential){
        .name = "main",
        .provider = PROVIDER_OPENAI,
        .base_url = g->mock.base,
        .api_key = "sk-very-secret",
        .headers = headers,
        .headers_count = 2,
    };
    config->projects = arena_alloc(&config->arena, 3 * sizeof *config->projects);
    config->projects_count = 3;
    for (size_t i = 0; i < 3; i++) {
        struct config_project *project = &config->projects[i];
        *project = (struct config_project){
            .name = names[i], .title = names[i], .active = i != 2, .account = g->accounts++};
        assert_true(uuid_parse(str_of(ids[i]), &project->id));
        if (i == 0)
            gateway_add_endpoints(g, project, demo, sizeof demo / sizeof *demo);
        else
            gateway_add_endpoints(g, project, others, 1);
    }
    gateway_configure_tokens(g);
}

/* --- life --- */

static inline void gateway_ended(void *context)
{
    ((struct gateway *)context)->ended++;
}

static inline void gateway_all_idle(void *context)
{
    ((struct gateway *)context)->all_idle++;
}

static inline void gateway_accept(uv_stream_t *listener, int status)
{
    struct gateway *g = listener->data;
    assert_int_equal(status, 0);
    http_server_accept(&g->server, listener, NULL);
}

static inline void gateway_listen(struct gateway *g)
{
    static const struct http_limits limits = {
        .max_header = 4096,
        .max_body = 100000,
        .header_timeout_ms = 20000,
        .body_timeout_ms = 20000,
        .idle_timeout_ms = 20000,
        .write_timeout_ms = 20000,
    };
    g->frontend = (struct frontend){
        .services = &g->services, .server = &g->server, .all_idle = gateway_all_idle, .context = g};
    http_server_init(&g->server, &g->loop, &limits, &frontend_events, &g->frontend);
    g->address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    uv_tcp_init(&g->loop, &g->listener);
    g->listener.data = g;
    assert_int_equal(uv_tcp_bind(&g->listener, (struct sockaddr *)&g->address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&g->listener, 64, gateway_accept), 0);
    int len = sizeof g->address;
    uv_tcp_getsockname(&g->listener, (struct sockaddr *)&g->address, &len);
}

enum { GATEWAY_ACCOUNTS = 64 };

static inline void gateway_make_counters(struct gateway *g)
{
    size_t bytes = GATEWAY_ACCOUNTS * sizeof *g->counters.accounts;
    g->header.workers = 1;
    g->header.clock_offset_us = gateway_wall_ms * 1000 - gateway_clock_us();
    g->counters =
        (struct counters){.header = &g->header, .workers = &g->counts, .requests = g->table};
    g->counters.accounts = aligned_alloc(128, bytes);
    memset((void *)g->counters.accounts, 0, bytes);
    assert_true(g->accounts <= GATEWAY_ACCOUNTS);
    for (size_t i = 0; i < GATEWAY_ACCOUNTS; i++)
        for (size_t j = 0; j < CAP_COUNT; j++)
            atomic_store(&g->counters.accounts[i].caps[j], CAP_UNLIMITED);
}

static inline int gateway_begin(void **state, size_t queue_max)
{
    static const struct clock_source source = {gateway_clock_us, gateway_clock_wall_ms};
    static const struct logger_state logger;
    struct gateway *g = &gateways[gateways_begun++];
    signal(SIGPIPE, SIG_IGN);
    clock_set_source(&source);
    uv_loop_init(&g->loop);
    mock_start(&g->mock, &g->loop);
    gateway_configure(g);
    if (pipe2(g->pipe, O_NONBLOCK | O_CLOEXEC) != 0)
        return -1;
    fcntl(g->pipe[1], F_SETPIPE_SZ, 4096);
    g->table = aligned_alloc(128, SHM_REQUESTS_PER_SLOT * sizeof *g->table);
    memset((void *)g->table, 0, SHM_REQUESTS_PER_SLOT * sizeof *g->table);
    requests_init(&g->requests, &g->counts, g->table);
    gateway_make_counters(g);
    struct transfer_settings settings = {.connect_timeout_ms = 5000, .keepalive = 8, .hosts = 1};
    g->services = (struct services){
        .loop = &g->loop,
        .config = &g->config,
        .tokens = g->tokens,
        .transfers = transfer_pool_new(&g->loop, &settings),
        .log = log_writer_new(&g->loop, g->pipe[1], queue_max, &g->requests, NULL, NULL),
        .counts = &g->counts,
        .logger = &logger,
        .requests = &g->requests,
        .counters = &g->counters,
        .counting = counters_shm_new(&g->counters, 0),
        .waiting = budget_queue_new(&g->loop, budget_try),
        .worker = 3,
        .host = "test-host",
        .ended = gateway_ended,
        .context = g,
    };
    g->services.refusals = refusals_new(g->services.log, g->services.host);
    g->client = -1;
    gateway_listen(g);
    *state = g;
    return 0;
}

static inline int gateway_setup(void **state)
{
    return gateway_begin(state, 1 << 20);
}

/* Requests whose token was accepted and whose outcome isn't known. */
static inline uint64_t gateway_in_flight(const struct gateway *g)
{
    return atomic_load(&g->counts.requests) - atomic_load(&g->counts.rows);
}

static inline void gateway_turn(struct gateway *g)
{
    uv_run(&g->loop, UV_RUN_NOWAIT);
}

static inline void gateway_forget_answer(struct gateway *g)
{
    json_object_put(g->answer.json);
    buf_free(&g->answer.bytes);
    g->answer = (struct gateway_answer){0};
}

static inline void gateway_hang_up(struct gateway *g)
{
    if (g->client >= 0)
        close(g->client);
    g->client = -1;
}

/* Turns the loop until `condition`; alarm(2) ends a test that waits in vain. */
#define turn_until(g, condition)                                                                   \
    do {                                                                                           \
        alarm(60);                                                                                 \
        while (!(condition))                                                                       \
            gateway_turn(g);                                                                       \
    } while (0)

static inline int gateway_teardown(void **state)
{
    struct gateway *g = *state;
    gateway_hang_up(g);
    http_server_drain(&g->server);
    uv_close((uv_handle_t *)&g->listener, NULL);
    turn_until(g, g->server.connections_count == 0);
    assert_int_equal(g->all_idle, 1);
    assert_int_equal(atomic_load(&g->counts.rows), atomic_load(&g->counts.requests));
    assert_int_equal(transfer_pool_running(g->services.transfers), 0);
    refusals_free(&g->services.refusals);
    requests_deinit(&g->requests);
    free(g->table);
    token_table_free(&g->tokens);
    g->services.counting->free(g->services.counting);
    budget_queue_free(&g->services.waiting);
    uv_run(&g->loop, UV_RUN_NOWAIT);
    free((void *)g->counters.accounts);
    mock_stop(&g->mock);
    close(g->pipe[0]);
    gateway_forget_answer(g);
    frame_reader_free(&g->frames);
    buf_free(&g->pipe_bytes);
    buf_free(&g->record_bytes);
    clock_set_source(NULL);
    return 0;
}

/* --- the client's side --- */

static inline void gateway_send(struct gateway *g, struct str bytes)
{
    if (g->client < 0) {
        g->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(g->client, (struct sockaddr *)&g->address, sizeof g->address), 0);
        fcntl(g->client, F_SETFL, O_NONBLOCK);
    }
    while (bytes.len > 0) {
        ssize_t part = send(g->client, bytes.at, bytes.len, MSG_NOSIGNAL);
        assert_true(part > 0 || errno == EAGAIN);
        if (part > 0) {
            bytes.at += part;
            bytes.len -= (size_t)part;
        }
        gateway_turn(g);
    }
}

static inline void gateway_post(struct gateway *g, const char *path, const char *headers,
                                const char *body)
{
    struct buf request = {0};
    buf_printf(&request, "POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n%s", path,
               headers, strlen(body), body);
    gateway_send(g, buf_view(&request));
    buf_free(&request);
}

static inline bool gateway_answered(struct gateway *g)
{
    struct gateway_answer *answer = &g->answer;
    gateway_turn(g);
    ssize_t part = recv(g->client, buf_reserve(&answer->bytes, 65536), 65536, 0);
    if (part > 0)
        answer->bytes.len += (size_t)part;
    const char *text = buf_cstr(&answer->bytes);
    const char *end = strstr(text, "\r\n\r\n"), *length = strstr(text, "\r\nContent-Length: ");
    if (!end || !length)
        return false;
    size_t whole = (size_t)(end - text) + 4 + strtoul(length + 18, NULL, 10);
    if (answer->bytes.len < whole)
        return false;
    assert_int_equal(answer->bytes.len, whole);
    answer->status = atoi(text + 9);
    answer->body = end + 4;
    return true;
}

static inline void gateway_await_answer(struct gateway *g)
{
    struct error error;
    gateway_forget_answer(g);
    turn_until(g, gateway_answered(g));
    if (!json_read(str_of(g->answer.body), &g->answer.json, &error))
        fail_msg("%s: %s", g->answer.body, error.message);
}

/* One request on a connection of its own, and its answer. */
static inline void ask(struct gateway *g, const char *path, const char *headers, const char *body)
{
    gateway_hang_up(g);
    gateway_post(g, path, headers, body);
    gateway_await_answer(g);
}

/* To an endpoint of the project demo, with the token that may do everything. */
static inline void ask_endpoint(struct gateway *g, const char *slug, const char *body)
{
    char path[128];
    snprintf(path, sizeof path, "/api/" DEMO "/%s", slug);
    ask(g, path, GOOD, body);
}

static inline void dispatch(struct gateway *g, const char *body)
{
    ask(g, "/api/" DEMO "/chat/completions", GOOD, body);
}

static inline bool has_line(const struct gateway *g, const char *line)
{
    char whole[512];
    snprintf(whole, sizeof whole, "\r\n%s\r\n", line);
    const char *found = strstr(g->answer.bytes.data, whole);
    return found && found < g->answer.body;
}

/* The value at "a.b.0" of the answer, as compact JSON. */
static inline const char *at(const struct gateway *g, const char *path)
{
    static struct buf texts[4];
    static unsigned turn;
    struct buf *text = &texts[turn++ % 4];
    struct json_object *value = g->answer.json;
    struct str rest = str_of(path);
    while (rest.at) {
        struct str part = str_split(&rest, '.');
        char step[64];
        snprintf(step, sizeof step, "%.*s", STR_ARG(part));
        if (json_object_is_type(value, json_type_array))
            value = json_object_array_get_idx(value, strtoul(step, NULL, 10));
        else
            value = json_member(value, step, NULL);
    }
    buf_clear(text);
    json_write(text, value);
    return buf_cstr(text);
}

/* --- the logger's side --- */

/* The next row, or NULL when none is on its way. Its texts are valid until the next call. */
static inline const struct record *next_row(struct gateway *g)
{
    struct str bytes;
    struct error error;
    size_t consumed;
    for (unsigned idle = 0; idle < 3;) {
        if (frame_reader_next(&g->frames, buf_view(&g->pipe_bytes), &consumed, &bytes) ==
            FRAME_RECORD) {
            buf_clear(&g->record_bytes);
            buf_str(&g->record_bytes, bytes);
            buf_consume(&g->pipe_bytes, consumed);
            if (!record_decode(buf_view(&g->record_bytes), &g->record, &error))
                fail_msg("%s", error.message);
            return &g->record;
        }
        buf_consume(&g->pipe_bytes, consumed);
        gateway_turn(g);
        ssize_t part = read(g->pipe[0], buf_reserve(&g->pipe_bytes, 65536), 65536);
        if (part > 0)
            g->pipe_bytes.len += (size_t)part;
        idle = part > 0 ? 0 : idle + 1;
    }
    return NULL;
}

/* The only row there is. */
static inline struct record only_row(struct gateway *g)
{
    if (!next_row(g))
        fail_msg("there is no row");
    return g->record;
}

static inline void expect_no_row(struct gateway *g)
{
    const struct record *row = next_row(g);
    if (row)
        fail_msg("there is a row: %.*s", STR_ARG(row->status));
}

#define expect_text(value, expected)                                                               \
    do {                                                                                           \
        struct str text_ = (value);                                                                \
        if (!text_.at || !str_eq(text_, str_of(expected)))                                         \
            fail_msg("%s is \"%.*s\", not \"%s\"", #value, STR_ARG(text_), expected);              \
    } while (0)

/* The answer is this error, in the contract's shape. `param` NULL is null. */
static inline void expect_error(const struct gateway *g, int status, const char *code,
                                const char *param)
{
    char quoted[128];
    snprintf(quoted, sizeof quoted, "\"%s\"", code);
    if (g->answer.status != status || strcmp(at(g, "error.code"), quoted) != 0)
        fail_msg("%d %s instead of %d %s", g->answer.status, g->answer.body, status, code);
    assert_string_equal(at(g, "ok"), "false");
    assert_true(strlen(at(g, "error.message")) > 10);
    snprintf(quoted, sizeof quoted, "\"%s\"", param ? param : "");
    assert_string_equal(at(g, "error.param"), param ? quoted : "null");
    assert_int_equal(strlen(at(g, "meta.request_id")), UUID_TEXT_LEN + 2);
}

/* The same, and the row that says so. */
static inline struct record expect_error_row(struct gateway *g, int status, const char *code,
                                             const char *param)
{
    expect_error(g, status, code, param);
    struct record row = only_row(g);
    expect_text(row.status, code);
    assert_int_equal(row.http_status, status);
    return row;
}

static inline void expect_ok(const struct gateway *g)
{
    if (g->answer.status != 200)
        fail_msg("%d %s", g->answer.status, g->answer.body);
}
