/* A database of each test's own on a PostgreSQL of the test's own, and a store in it. */
#pragma once

#include "master/store/store.h"
#include "test/unit/postgres_server.h"

static struct postgres_server server;
static bool installed;

struct place {
    char name[32]; /* of the database */
    char dsn[2 * SCRATCH_PATH];
    struct config_store config;
    PGconn *admin; /* the superuser, in that database */
};

static inline void name_database(struct place *place, const char *user, const char *database)
{
    snprintf(place->dsn, sizeof place->dsn, "host=%s user=%s dbname=%s password=very-secret",
             server.directory, user, database);
    place->config = (struct config_store){.driver = "postgres", .dsn = place->dsn};
}

static inline int set_up(void **state)
{
    static int count;
    struct place *place = calloc(1, sizeof *place);
    char sql[128];
    *state = place;
    if (!installed)
        return 0;
    PGconn *conn = server_connect(&server, "postgres", "postgres");
    snprintf(place->name, sizeof place->name, "test_%d", ++count);
    snprintf(sql, sizeof sql, "CREATE DATABASE %s OWNER gateway", place->name);
    server_run(conn, sql);
    PQfinish(conn);
    place->admin = server_connect(&server, "postgres", place->name);
    name_database(place, "gateway", place->name);
    return 0;
}

static inline int tear_down(void **state)
{
    struct place *place = *state;
    PQfinish(place->admin);
    free(place);
    return 0;
}

static inline void no_offset(void *context, const char *segment, uint64_t committed)
{
    (void)context;
    fail_msg("unexpected offset %s %llu", segment, (unsigned long long)committed);
}

static inline enum store_result start(struct store *store, store_offset_fn *each, void *context,
                                      struct error *error)
{
    return store_complete(store, store_start(store, each, context, error), error);
}

static inline struct store *open_store(const struct place *place, store_offset_fn *each,
                                       void *context)
{
    struct store *store = NULL;
    struct error error;
    assert_true(store_open(&place->config, "host-1", &store, &error));
    if (start(store, each, context, &error) != STORE_DONE)
        fail_msg("%s", error.message);
    return store;
}

/* What the database says; '|' between columns, ';' behind rows. */
static inline const char *ask(const struct place *place, const char *sql)
{
    static char answer[4096];
    PGresult *result = PQexec(place->admin, sql);
    size_t len = 0;
    answer[0] = '\0';
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(place->admin));
    for (int row = 0; row < PQntuples(result); row++) {
        for (int i = 0; i < PQnfields(result); i++)
            len +=
                (size_t)snprintf(answer + len, sizeof answer - len, "%s%s", i ? "|" : "",
                                 PQgetisnull(result, row, i) ? "NULL" : PQgetvalue(result, row, i));
        len += (size_t)snprintf(answer + len, sizeof answer - len, ";");
    }
    PQclear(result);
    return answer;
}

static const int64_t now_ms = 1790000000042;

/* uuid_v7 never goes back in time; this does. */
static inline struct record row_at(int64_t wall_ms)
{
    struct record row;
    record_init(&row);
    row.request_id = uuid_v7(now_ms);
    for (int i = 0; i < 6; i++)
        row.request_id.bytes[i] = (uint8_t)(wall_ms >> (40 - 8 * i));
    row.created_at = wall_ms;
    row.status = STR("ok");
    return row;
}

static inline enum store_result commit_with(struct store *store, struct store_batch *batch,
                                            struct error *error)
{
    error->message[0] = '\0';
    enum store_result result = store_complete(store, store_commit(store, batch, error), error);
    if ((result == STORE_DONE) != (error->message[0] == '\0'))
        fail_msg("%d: %s", (int)result, error->message);
    return result;
}

static inline enum store_result commit(struct store *store, struct store_batch *batch)
{
    struct error error;
    return commit_with(store, batch, &error);
}

static inline void assert_committed(struct store *store, struct store_batch *batch)
{
    struct error error;
    if (commit_with(store, batch, &error) != STORE_DONE)
        fail_msg("%s", error.message);
}

static inline void note_offset(void *context, const char *segment, uint64_t committed)
{
    buf_printf(context, "%s=%llu;", segment, (unsigned long long)committed);
}

static inline int start_server(void **state)
{
    (void)state;
    if (!server_start(&server, &installed))
        return installed ? -1 : 0;
    PGconn *conn = server_connect(&server, "postgres", "postgres");
    server_run(conn, "CREATE ROLE gateway LOGIN");
    server_run(conn, "CREATE ROLE other LOGIN");
    PQfinish(conn);
    return 0;
}

static inline int remove_server(void **state)
{
    (void)state;
    server_remove(&server);
    return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

/* Without a server on this machine there is nothing to test. */
#define RUN_TESTS(name, tests)                                                                     \
    (server_is_installed()                                                                         \
         ? cmocka_run_group_tests_name(name, tests, start_server, remove_server)                   \
         : (printf("%s: skipped, no PostgreSQL server is installed\n", name), 0))

static inline bool server_is_installed(void)
{
    struct postgres_server found = {0};
    server_find(&found);
    return found.programs[0] != '\0';
}
