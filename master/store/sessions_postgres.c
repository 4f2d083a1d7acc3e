#include "master/store/postgres_link.h"
#include "master/store/sessions_drivers.h"
#include "shared/base/xalloc.h"

#include <endian.h>
#include <stdlib.h>

enum {
    SCHEMA = 3,              /* the step that made the tables */
    COMMAND_LINE_MS = 30000, /* a list of a million sessions takes its time */
    OID_BIGINT = 20,         /* of pg_type.dat */
    OID_BYTEA = 17,
};

static const int64_t tombstone_ms = INT64_C(30) * 24 * 60 * 60 * 1000;

/* An array in PostgreSQL's binary format; of one dimension. */
struct array {
    struct buf bytes;
    size_t count;
};

struct sessions_store {
    const struct sessions_driver *driver;
    struct postgres_link *link;
    char *host;
    struct array released; /* in the transaction under way */
};

/* ---- statements */

enum {
    CLAIM,
    RELEASE,
    RENEW,
    LOAD,
    ADD_SESSION,
    ADD_TURN,
    DELETE_SESSION,
    LOCK_EXPIRED,
    END_EXPIRED,
    FORGET_TOMBSTONES,
    FORGET_LEASES,
    LIST,
    FIND_ANSWER,
    ADD_ANSWER,
    SWEEP_ANSWERS,
    ANSWERS_BYTES,
    DROP_ANSWERS,
    STATEMENTS
};

/* In the order of read_row. */
#define COLUMNS                                                                                    \
    "one.id, one.number, one.project, one.endpoint, one.token, one.created_at, one.look_at, "      \
    "one.ended, last.turn::bigint, last.request, last.messages, last.tokens, last.stored_at, "     \
    "last.expires_at"

/* "last" of "one". */
#define LAST_TURN                                                                                  \
    "LATERAL (SELECT * FROM session_messages WHERE session = one.number "                          \
    "ORDER BY turn DESC LIMIT 1) AS last ON true"

#define LEASE_FROM_NOW "now() + $3 * interval '1 millisecond'"

/* Some rows of a table, in an order; what others hold is left to them. As an array, for it must be
 * chosen once. */
#define SOME(key, table, which)                                                                    \
    "= ANY (ARRAY(SELECT " key " FROM " table " WHERE " which " FOR UPDATE SKIP LOCKED))"

/* How many answers went, and how many bytes. */
#define COUNTED(deletion)                                                                          \
    "WITH gone AS (" deletion " RETURNING bytes) "                                                 \
    "SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM gone"

static const struct postgres_statement statements[STATEMENTS] = {
    [CLAIM] = {"gateway_claim", "(bytea, text, bigint)",
               "INSERT INTO keeper_leases AS known (what, host, until) "
               "VALUES ($1, $2, " LEASE_FROM_NOW ") ON CONFLICT (what) DO UPDATE "
               "SET host = excluded.host, until = excluded.until "
               "WHERE known.host = excluded.host OR known.until <= now() RETURNING true",
               "can't claim"},
    [RELEASE] = {"gateway_release", "(bytea[], text)",
                 "DELETE FROM keeper_leases WHERE what = ANY ($1) AND host = $2",
                 "can't give a claim back"},
    [RENEW] = {"gateway_renew", "(bytea[], text, bigint)",
               "UPDATE keeper_leases SET until = " LEASE_FROM_NOW
               " WHERE what = ANY ($1) AND host = $2",
               "can't renew claims"},
    /* One statement, so that turns and sums are of the same moment. */
    [LOAD] = {"gateway_load", "(uuid, bigint)",
              "SELECT " COLUMNS ", part.body FROM sessions AS one LEFT JOIN " LAST_TURN
              " LEFT JOIN session_messages AS part ON part.session = one.number "
              "AND part.turn >= $2 WHERE one.id = $1 ORDER BY part.turn",
              "can't load a session"},
    [ADD_SESSION] = {"gateway_add_session",
                     "(uuid, text, text, text, bigint, uuid, bigint, bigint, bigint, bigint, text)",
                     "WITH made AS (INSERT INTO sessions (id, project, endpoint, token, "
                     "created_at, look_at) VALUES ($1, $2, $3, $4, $5, $10) "
                     "ON CONFLICT (id) DO NOTHING RETURNING number) "
                     "INSERT INTO session_messages (session, turn, request, messages, tokens, "
                     "stored_at, expires_at, body) SELECT number, 0, $6, $7, $8, $9, $10, "
                     "'[' || $11 || ']' FROM made RETURNING session",
                     "can't store a session"},
    /* The lock is the one that ending and deleting a session wait for. */
    [ADD_TURN] = {"gateway_add_turn",
                  "(bigint, bigint, uuid, bigint, bigint, bigint, bigint, text)",
                  "INSERT INTO session_messages (session, turn, request, messages, tokens, "
                  "stored_at, expires_at, body) SELECT one.number, $2, $3, $4, $5, $6, $7, "
                  "'[' || $8 || ']' FROM (SELECT number FROM sessions WHERE number = $1 "
                  "AND NOT ended FOR KEY SHARE) AS one "
                  "ON CONFLICT (session, turn) DO NOTHING RETURNING session",
                  "can't store a turn"},
    [DELETE_SESSION] = {"gateway_delete", "(uuid)", "DELETE FROM sessions WHERE id = $1",
                        "can't delete a session"},
    [LOCK_EXPIRED] = {"gateway_lock_expired", "(bigint, bigint)",
                      "SELECT number FROM sessions WHERE NOT ended AND look_at <= $1 "
                      "AND NOT EXISTS (SELECT FROM keeper_leases "
                      "WHERE what = uuid_send(sessions.id) AND until > now()) "
                      "ORDER BY look_at LIMIT $2 FOR UPDATE SKIP LOCKED",
                      "can't sweep sessions"},
    /* A statement of its own: it sees the turns that were stored before the locks were taken. */
    [END_EXPIRED] = {"gateway_end_expired", "(bigint[], bigint)",
                     "WITH due AS (SELECT number, last.expires_at FROM unnest($1) AS one (number) "
                     "LEFT JOIN " LAST_TURN "), gone AS (DELETE FROM session_messages USING due "
                     "WHERE session = due.number AND due.expires_at <= $2) "
                     "UPDATE sessions SET ended = coalesce(due.expires_at <= $2, true), "
                     "look_at = coalesce(due.expires_at, look_at) "
                     "FROM due WHERE sessions.number = due.number",
                     "can't sweep sessions"},
    [FORGET_TOMBSTONES] = {"gateway_forget_tombstones", "(bigint, bigint)",
                           "DELETE FROM sessions WHERE number " SOME(
                               "number", "sessions",
                               "ended AND look_at < $1 ORDER BY look_at "
                               "LIMIT $2"),
                           "can't sweep sessions"},
    [FORGET_LEASES] = {"gateway_forget_leases", "",
                       "DELETE FROM keeper_leases WHERE what " SOME(
                           "what", "keeper_leases", "until < now() - interval '1 hour' LIMIT 1000"),
                       "can't sweep claims"},
    [LIST] = {"gateway_list", "(text, bigint)",
              "SELECT " COLUMNS " FROM sessions AS one JOIN " LAST_TURN
              " WHERE NOT one.ended AND ($1 IS NULL OR one.project = $1) "
              "ORDER BY last.stored_at DESC, one.id LIMIT $2",
              "can't list sessions"},
    [FIND_ANSWER] = {"gateway_find_answer", "(bytea)",
                     "SELECT key, content, request, stored_at, expires_at, answer "
                     "FROM idempotent_answers WHERE key = $1",
                     "can't look for an answer"},
    [ADD_ANSWER] = {"gateway_add_answer", "(bytea, bytea, uuid, bigint, bigint, bytea)",
                    "INSERT INTO idempotent_answers AS known (key, content, request, stored_at, "
                    "expires_at, bytes, answer) VALUES ($1, $2, $3, $4, $5, octet_length($6), $6) "
                    "ON CONFLICT (key) DO UPDATE SET content = excluded.content, "
                    "request = excluded.request, stored_at = excluded.stored_at, "
                    "expires_at = excluded.expires_at, bytes = excluded.bytes, "
                    "answer = excluded.answer WHERE known.expires_at <= excluded.stored_at "
                    "RETURNING true",
                    "can't store an answer"},
    [SWEEP_ANSWERS] = {"gateway_sweep_answers", "(bigint, bigint)",
                       COUNTED("DELETE FROM idempotent_answers WHERE key " SOME(
                           "key", "idempotent_answers",
                           "expires_at <= $2 ORDER BY expires_at LIMIT $1")),
                       "can't sweep answers"},
    [ANSWERS_BYTES] = {"gateway_answers_bytes", "",
                       "SELECT coalesce(sum(bytes), 0)::bigint FROM idempotent_answers",
                       "can't add up answers"},
    [DROP_ANSWERS] = {"gateway_drop_answers", "(bigint)",
                      COUNTED("DELETE FROM idempotent_answers WHERE key " SOME(
                          "key", "idempotent_answers", "true ORDER BY expires_at LIMIT $1")),
                      "can't drop answers"},
};

static const PGresult *ask(struct sessions_store *store, size_t statement,
                           const struct postgres_parameters *parameters, struct error *error)
{
    return postgres_link_ask(store->link, statement, parameters, error);
}

/* ---- arrays */

static void put_word(struct buf *bytes, uint32_t word)
{
    word = htobe32(word);
    buf_append(bytes, &word, sizeof word);
}

static void array_add(struct array *array, uint32_t type, struct str element)
{
    enum { DIMENSIONS = 1, NULLS = 0, FIRST = 1, COUNT_AT = 12 };
    if (array->count++ == 0) {
        const uint32_t head[] = {DIMENSIONS, NULLS, type, 0, FIRST};
        buf_clear(&array->bytes);
        for (size_t i = 0; i < sizeof head / sizeof *head; i++)
            put_word(&array->bytes, head[i]);
    }
    put_word(&array->bytes, (uint32_t)element.len);
    buf_str(&array->bytes, element);
    uint32_t count = htobe32((uint32_t)array->count);
    memcpy(array->bytes.data + COUNT_AT, &count, sizeof count);
}

/* ---- transactions */

/* What is written outside would be kept in part when the rest fails. */
static bool call_under_way(struct sessions_store *store, struct error *error)
{
    return postgres_link_call(store->link, error) &&
           (postgres_link_in_transaction(store->link) ||
            postgres_link_say(store->link, "can't write", "no transaction is under way", error));
}

static bool postgres_begin(struct sessions_store *store, struct error *error)
{
    if (!postgres_link_call(store->link, error))
        return false;
    store->released.count = 0;
    postgres_link_begin(store->link);
    return true;
}

static void give_released(struct sessions_store *store, struct postgres_parameters *parameters)
{
    postgres_give_bytes(parameters, buf_view(&store->released.bytes));
    postgres_give_bytes(parameters, str_of(store->host));
}

static bool postgres_commit(struct sessions_store *store, struct error *error)
{
    struct postgres_parameters parameters = {0};
    if (!call_under_way(store, error))
        return false;
    if (store->released.count > 0) {
        give_released(store, &parameters);
        postgres_link_send(store->link, RELEASE, &parameters);
    }
    store->released.count = 0;
    return postgres_link_commit(store->link, error);
}

static void postgres_undo(struct sessions_store *store)
{
    struct error ignored;
    store->released.count = 0;
    if (postgres_link_in_transaction(store->link) && postgres_link_call(store->link, &ignored))
        postgres_link_undo(store->link);
}

static uint64_t postgres_epoch(struct sessions_store *store)
{
    return postgres_link_epoch(store->link);
}

/* ---- claims */

static bool postgres_claim(struct sessions_store *store, struct str what, bool *got,
                           struct error *error)
{
    struct postgres_parameters parameters = {0};
    if (!postgres_link_call(store->link, error))
        return false;
    if (postgres_link_in_transaction(store->link))
        return postgres_link_say(store->link, "can't claim", "a transaction is under way", error);
    postgres_give_bytes(&parameters, what);
    postgres_give_bytes(&parameters, str_of(store->host));
    postgres_give_number(&parameters, SESSIONS_LEASE_MS);
    const PGresult *result = ask(store, CLAIM, &parameters, error);
    *got = PQntuples(result) > 0;
    return result != NULL;
}

/* With COMMIT: another one may have it when what was done with it can be seen. */
static bool postgres_release(struct sessions_store *store, struct str what, struct error *error)
{
    struct postgres_parameters parameters = {0};
    if (!postgres_link_call(store->link, error))
        return false;
    array_add(&store->released, OID_BYTEA, what);
    if (postgres_link_in_transaction(store->link))
        return true;
    give_released(store, &parameters);
    store->released.count = 0;
    return ask(store, RELEASE, &parameters, error) != NULL;
}

static bool postgres_renew(struct sessions_store *store, const struct str *what, size_t count,
                           struct error *error)
{
    struct postgres_parameters parameters = {0};
    struct array all = {0};
    if (!postgres_link_call(store->link, error))
        return false;
    for (size_t i = 0; i < count; i++)
        array_add(&all, OID_BYTEA, what[i]);
    postgres_give_bytes(&parameters, buf_view(&all.bytes));
    postgres_give_bytes(&parameters, str_of(store->host));
    postgres_give_number(&parameters, SESSIONS_LEASE_MS);
    bool good = ask(store, RENEW, &parameters, error) != NULL;
    buf_free(&all.bytes);
    return good;
}

/* ---- conversations */

/* Texts are the result's. */
static void read_row(const PGresult *result, int at, struct session_row *row)
{
    *row = (struct session_row){.id = postgres_uuid_at(result, at, 0),
                                .number = postgres_number_at(result, at, 1),
                                .project = postgres_bytes_at(result, at, 2),
                                .endpoint = postgres_bytes_at(result, at, 3),
                                .token = postgres_bytes_at(result, at, 4),
                                .ended = postgres_bool_at(result, at, 7)};
    row->expires_ms = postgres_number_at(result, at, 6);
    if (row->ended)
        return;
    row->created_ms = postgres_number_at(result, at, 5);
    row->turns = postgres_number_at(result, at, 8) + 1;
    row->last_request = postgres_uuid_at(result, at, 9);
    row->messages = postgres_number_at(result, at, 10);
    row->tokens = postgres_number_at(result, at, 11);
    row->stored_ms = postgres_number_at(result, at, 12);
    row->expires_ms = postgres_number_at(result, at, 13);
}

/* Turns' arrays become one list. */
static void read_messages(const PGresult *result, struct buf *messages)
{
    enum { BODY = 14 };
    const char *between = "";
    for (int i = 0; i < PQntuples(result); i++) {
        struct str body = postgres_bytes_at(result, i, BODY);
        if (body.len <= 2)
            continue;
        buf_puts(messages, between);
        buf_append(messages, body.at + 1, body.len - 2);
        between = ",";
    }
}

static bool postgres_load(struct sessions_store *store, const struct uuid *id, int64_t from_turn,
                          struct session_row *row, struct buf *messages, bool *found,
                          struct error *error)
{
    struct postgres_parameters parameters = {0};
    if (!postgres_link_call(store->link, error))
        return false;
    postgres_give_uuid(&parameters, id);
    postgres_give_number(&parameters, messages ? from_turn : INT64_MAX);
    const PGresult *result = ask(store, LOAD, &parameters, error);
    if (!result || PQntuples(result) == 0)
        return result != NULL;
    *found = true;
    read_row(result, 0, row);
    if (messages)
        read_messages(result, messages);
    return true;
}

static struct str present(struct str text)
{
    return text.at ? text : STR("");
}

static void give_turn(struct postgres_parameters *parameters, const struct session_row *row,
                      struct str messages)
{
    postgres_give_uuid(parameters, &row->last_request);
    postgres_give_number(parameters, row->messages);
    postgres_give_number(parameters, row->tokens);
    postgres_give_number(parameters, row->stored_ms);
    postgres_give_number(parameters, row->expires_ms);
    postgres_give_bytes(parameters, present(messages));
}

static void give_session(struct postgres_parameters *parameters, const struct session_row *row)
{
    postgres_give_uuid(parameters, &row->id);
    postgres_give_bytes(parameters, present(row->project));
    postgres_give_bytes(parameters, present(row->endpoint));
    postgres_give_bytes(parameters, present(row->token));
    postgres_give_number(parameters, row->created_ms);
}

static bool postgres_add_turn(struct sessions_store *store, struct session_row *row,
                              struct str messages, bool *moved, struct error *error)
{
    struct postgres_parameters parameters = {0};
    bool is_new = row->turns == 1;
    if (!call_under_way(store, error))
        return false;
    if (is_new) {
        give_session(&parameters, row);
    } else {
        postgres_give_number(&parameters, row->number);
        postgres_give_number(&parameters, row->turns - 1);
    }
    give_turn(&parameters, row, messages);
    const PGresult *result = ask(store, is_new ? ADD_SESSION : ADD_TURN, &parameters, error);
    *moved = result && PQntuples(result) == 0;
    if (result && !*moved)
        row->number = postgres_number_at(result, 0, 0);
    return result != NULL;
}

static bool postgres_delete(struct sessions_store *store, const struct uuid *id, bool *found,
                            struct error *error)
{
    struct postgres_parameters parameters = {0};
    if (!call_under_way(store, error))
        return false;
    postgres_give_uuid(&parameters, id);
    const PGresult *result = ask(store, DELETE_SESSION, &parameters, error);
    *found = result && postgres_rows_of(result) > 0;
    return result != NULL;
}

/* ---- the sweep */

/* Those that have expired, of those that may have. */
static bool end_expired(struct sessions_store *store, int64_t now_ms, unsigned most, unsigned *done,
                        struct error *error)
{
    struct postgres_parameters which = {0}, when = {0};
    struct array numbers = {0};
    postgres_give_number(&when, now_ms);
    postgres_give_number(&when, most);
    const PGresult *result = ask(store, LOCK_EXPIRED, &when, error);
    for (int i = 0; i < PQntuples(result); i++)
        array_add(&numbers, OID_BIGINT, postgres_bytes_at(result, i, 0));
    *done += (unsigned)numbers.count;
    postgres_give_bytes(&which, buf_view(&numbers.bytes));
    postgres_give_number(&which, now_ms);
    bool good = result && (numbers.count == 0 || ask(store, END_EXPIRED, &which, error));
    buf_free(&numbers.bytes);
    return good;
}

/* The rows that go are added to `*done`. */
static bool forget(struct sessions_store *store, size_t statement, int64_t before_ms, unsigned most,
                   unsigned *done, struct error *error)
{
    struct postgres_parameters parameters = {0};
    postgres_give_number(&parameters, before_ms);
    postgres_give_number(&parameters, most);
    const PGresult *result = ask(store, statement, &parameters, error);
    *done += result ? (unsigned)postgres_rows_of(result) : 0;
    return result != NULL;
}

static bool postgres_sweep(struct sessions_store *store, int64_t now_ms, unsigned most,
                           unsigned *done, struct error *error)
{
    static const struct postgres_parameters none;
    unsigned swept = 0;
    if (!call_under_way(store, error))
        return false;
    /* Tombstones behind it: what has just become one may be an old one. */
    if (!end_expired(store, now_ms, most, &swept, error) ||
        !forget(store, FORGET_TOMBSTONES, now_ms - tombstone_ms, most, &swept, error) ||
        !ask(store, FORGET_LEASES, &none, error))
        return false;
    *done = swept;
    return true;
}

static bool postgres_list(struct sessions_store *store, const char *project, unsigned most,
                          session_each_fn *each, void *context, struct error *error)
{
    struct postgres_parameters parameters = {0};
    struct session_row row;
    if (!postgres_link_call(store->link, error))
        return false;
    postgres_give_bytes(&parameters, str_of(project));
    postgres_give_number(&parameters, most);
    const PGresult *result = ask(store, LIST, &parameters, error);
    for (int i = 0; i < PQntuples(result); i++) {
        read_row(result, i, &row);
        each(context, &row);
    }
    return result != NULL;
}

/* ---- answers */

static bool postgres_find_answer(struct sessions_store *store, struct str key,
                                 struct kept_answer *answer, bool *found, struct error *error)
{
    struct postgres_parameters parameters = {0};
    if (!postgres_link_call(store->link, error))
        return false;
    postgres_give_bytes(&parameters, key);
    const PGresult *result = ask(store, FIND_ANSWER, &parameters, error);
    if (!result || PQntuples(result) == 0)
        return result != NULL;
    *found = true;
    *answer = (struct kept_answer){.key = postgres_bytes_at(result, 0, 0),
                                   .content = postgres_bytes_at(result, 0, 1),
                                   .request = postgres_uuid_at(result, 0, 2),
                                   .stored_ms = postgres_number_at(result, 0, 3),
                                   .expires_ms = postgres_number_at(result, 0, 4),
                                   .answer = postgres_bytes_at(result, 0, 5)};
    return true;
}

static bool postgres_add_answer(struct sessions_store *store, const struct kept_answer *answer,
                                bool *existed, struct error *error)
{
    struct postgres_parameters parameters = {0};
    if (!call_under_way(store, error))
        return false;
    postgres_give_bytes(&parameters, answer->key);
    postgres_give_bytes(&parameters, answer->content);
    postgres_give_uuid(&parameters, &answer->request);
    postgres_give_number(&parameters, answer->stored_ms);
    postgres_give_number(&parameters, answer->expires_ms);
    postgres_give_bytes(&parameters, present(answer->answer));
    const PGresult *result = ask(store, ADD_ANSWER, &parameters, error);
    *existed = result && PQntuples(result) == 0;
    return result != NULL;
}

static bool delete_answers(struct sessions_store *store, size_t statement,
                           const struct postgres_parameters *parameters, unsigned *done,
                           int64_t *bytes, struct error *error)
{
    const PGresult *result = ask(store, statement, parameters, error);
    if (!result)
        return false;
    *done = (unsigned)postgres_number_at(result, 0, 0);
    *bytes = postgres_number_at(result, 0, 1);
    return true;
}

static bool postgres_sweep_answers(struct sessions_store *store, int64_t now_ms, unsigned most,
                                   unsigned *done, int64_t *bytes, struct error *error)
{
    struct postgres_parameters parameters = {0};
    if (!call_under_way(store, error))
        return false;
    postgres_give_number(&parameters, most);
    postgres_give_number(&parameters, now_ms);
    return delete_answers(store, SWEEP_ANSWERS, &parameters, done, bytes, error);
}

static bool postgres_answers_bytes(struct sessions_store *store, int64_t *bytes,
                                   struct error *error)
{
    static const struct postgres_parameters none;
    if (!postgres_link_call(store->link, error))
        return false;
    const PGresult *result = ask(store, ANSWERS_BYTES, &none, error);
    if (result)
        *bytes = postgres_number_at(result, 0, 0);
    return result != NULL;
}

static bool postgres_drop_answers(struct sessions_store *store, unsigned most, unsigned *done,
                                  int64_t *bytes, struct error *error)
{
    struct postgres_parameters parameters = {0};
    if (!call_under_way(store, error))
        return false;
    postgres_give_number(&parameters, most);
    return delete_answers(store, DROP_ANSWERS, &parameters, done, bytes, error);
}

/* ---- all */

static void postgres_close(struct sessions_store *store)
{
    postgres_link_free(&store->link);
    buf_free(&store->released.bytes);
    free(store->host);
    free(store);
}

static bool postgres_open(const struct config *config, const char *host,
                          struct sessions_store **out, struct error *error)
{
    const struct postgres_link_setup setup = {
        .dsn = config->store.dsn,
        .wait_ms = host ? SESSIONS_WAIT_MS : COMMAND_LINE_MS,
        .patient = !host,
        .schema = SCHEMA,
        .statements = statements,
        .statements_count = STATEMENTS,
    };
    struct postgres_link *link = postgres_link_new(&setup, error);
    if (!link || (!host && !postgres_link_call(link, error))) {
        postgres_link_free(&link);
        return false;
    }
    struct sessions_store *store = xcalloc(1, sizeof *store);
    store->driver = &sessions_postgres;
    store->link = link;
    store->host = xstrdup(host ? host : "");
    *out = store;
    return true;
}

const struct sessions_driver sessions_postgres = {
    .name = "postgres",
    .shared = true,
    .open = postgres_open,
    .close = postgres_close,
    .begin = postgres_begin,
    .commit = postgres_commit,
    .undo = postgres_undo,
    .epoch = postgres_epoch,
    .claim = postgres_claim,
    .release = postgres_release,
    .renew = postgres_renew,
    .load = postgres_load,
    .add_turn = postgres_add_turn,
    .delete = postgres_delete,
    .sweep = postgres_sweep,
    .list = postgres_list,
    .find_answer = postgres_find_answer,
    .add_answer = postgres_add_answer,
    .sweep_answers = postgres_sweep_answers,
    .answers_bytes = postgres_answers_bytes,
    .drop_answers = postgres_drop_answers,
};
