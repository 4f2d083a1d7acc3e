#include "master/store/postgres_private.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Each waits for a name that no server answers for, at most as long as the system's resolver does.
 */
enum { LEFT_MAX = 4 };

static atomic_int threads_left;

/* ---- what leads to the server */

static const char *option_of(const PQconninfoOption *options, const char *keyword)
{
    for (; options && options->keyword; options++)
        if (strcmp(options->keyword, keyword) == 0)
            return options->val && options->val[0] ? options->val : NULL;
    return NULL;
}

bool postgres_dsn_check(const char *dsn, struct error *error)
{
    if (!dsn || !dsn[0])
        return error_set(error, "store.dsn is not set");
    char *secret = NULL; /* what libpq complains of may be the password */
    PQconninfoOption *options = PQconninfoParse(dsn, &secret);
    if (secret)
        sodium_memzero(secret, strlen(secret));
    PQfreemem(secret);
    const char *host = option_of(options, "host");
    bool good = options != NULL, split = host && strchr(host, '@');
    PQconninfoFree(options);
    if (!good)
        return error_set(error, "store.dsn is not what libpq understands: KEY=VALUE words, or "
                                "postgresql://USER:PASSWORD@HOST:PORT/DATABASE with special "
                                "characters as %%40");
    return !split || error_set(error, "store.dsn: an @ in a name or password of a URL must be "
                                      "written %%40");
}

void postgres_dsn_place(const char *dsn, struct buf *place)
{
    PQconninfoOption *options = PQconninfoParse(dsn, NULL), *defaults = PQconndefaults();
    static const char *const keywords[] = {"host", "port", "dbname"};
    static const char *const before[] = {"", ":", "/"};
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
        const char *value = option_of(options, keywords[i]);
        if (!value && i == 0)
            value = option_of(options, "hostaddr");
        if (!value)
            value = option_of(defaults, keywords[i]);
        if (!value && i == 2)
            value = option_of(options, "user");
        buf_printf(place, "%s%s", value ? before[i] : "", value ? value : i ? "" : "local");
    }
    PQconninfoFree(options);
    PQconninfoFree(defaults);
}

/* ---- connecting */

static void drop_notice(void *context, const char *message)
{
    (void)context;
    (void)message; /* ends with a line break, and may be anything */
}

static PGconn *begin(const char *dsn)
{
    /* The later of two counts; the last two are the gateway's own. */
    const char *const keywords[] = {"fallback_application_name", "dbname", "client_encoding", NULL};
    const char *const values[] = {"promptgate", dsn, "UTF8", NULL};
    PGconn *conn = PQconnectStartParams(keywords, values, 1);
    if (!conn)
        return NULL;
    PQsetNoticeProcessor(conn, drop_notice, NULL);
    PQsetErrorVerbosity(conn, PQERRORS_VERBOSE); /* for the SQLSTATE of a refusal */
    return conn;
}

PGconn *postgres_connect(const char *dsn)
{
    int64_t deadline_ms = clock_now_ms() + POSTGRES_CONNECT_MS;
    PGconn *conn = begin(dsn);
    PostgresPollingStatusType want = PGRES_POLLING_WRITING;
    while (conn && PQstatus(conn) != CONNECTION_BAD && want != PGRES_POLLING_OK &&
           want != PGRES_POLLING_FAILED) {
        int64_t left_ms = deadline_ms - clock_now_ms();
        struct pollfd wait = {.fd = PQsocket(conn),
                              .events = want == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        if (left_ms <= 0 || poll(&wait, 1, (int)left_ms) == 0)
            break;
        want = PQconnectPoll(conn);
    }
    return conn;
}

/* ---- in a thread */

struct postgres_attempt {
    int done; /* eventfd */
    char *dsn;
    PGconn *conn;
    atomic_int holders; /* the thread and the caller */
    atomic_bool over;
};

static void give_up_hold(struct postgres_attempt *attempt)
{
    if (atomic_fetch_sub(&attempt->holders, 1) > 1)
        return;
    PQfinish(attempt->conn);
    close(attempt->done);
    free(attempt);
}

static void *run(void *context)
{
    struct postgres_attempt *attempt = context;
    attempt->conn = postgres_connect(attempt->dsn);
    sodium_memzero(attempt->dsn, strlen(attempt->dsn));
    free(attempt->dsn);
    atomic_store(&attempt->over, true);
    if (eventfd_write(attempt->done, 1) != 0)
        abort();
    give_up_hold(attempt);
    atomic_fetch_sub(&threads_left, 1);
    return NULL;
}

static bool begin_thread(struct postgres_attempt *attempt, struct error *error)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(&thread, &attributes, run, attempt);
    pthread_attr_destroy(&attributes);
    return !failed || error_errno(error, failed, "no thread to connect in");
}

struct postgres_attempt *postgres_attempt_begin(const char *dsn, struct error *error)
{
    if (atomic_fetch_add(&threads_left, 1) >= LEFT_MAX) {
        atomic_fetch_sub(&threads_left, 1);
        error_set(error, "earlier attempts still wait for the server's name to be looked up");
        return NULL;
    }
    struct postgres_attempt *attempt = xcalloc(1, sizeof *attempt);
    attempt->dsn = xstrdup(dsn);
    atomic_init(&attempt->holders, 2);
    attempt->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (attempt->done < 0)
        error_errno(error, errno, "no descriptor to connect with");
    else if (begin_thread(attempt, error))
        return attempt;
    atomic_fetch_sub(&threads_left, 1);
    sodium_memzero(attempt->dsn, strlen(attempt->dsn));
    free(attempt->dsn);
    if (attempt->done >= 0)
        close(attempt->done);
    free(attempt);
    return NULL;
}

int postgres_attempt_descriptor(const struct postgres_attempt *attempt)
{
    return attempt->done;
}

bool postgres_attempt_end(struct postgres_attempt **attempt, PGconn **conn)
{
    if (!atomic_load(&(*attempt)->over))
        return false;
    *conn = (*attempt)->conn;
    (*attempt)->conn = NULL;
    postgres_attempt_leave(attempt);
    return true;
}

void postgres_attempt_leave(struct postgres_attempt **attempt)
{
    if (*attempt)
        give_up_hold(*attempt);
    *attempt = NULL;
}
