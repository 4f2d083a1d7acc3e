#include "master/store/postgres_private.h"

#include <string.h>

/* Codes and classes of the manual's appendix "PostgreSQL Error Codes"; the first that fits. */
static const struct {
    const char *begin;
    enum store_reason reason;
    bool final; /* when a store is opened: it wants a person */
} codes[] = {
    {"08", STORE_REASON_unreachable, false},
    {"57P", STORE_REASON_unreachable, false}, /* shutting down, crashed, starting up */
    {"28", STORE_REASON_unreachable, true},   /* who are you? */
    {"3D", STORE_REASON_unreachable, true},   /* no such database */
    {"55P03", STORE_REASON_locked, false},    /* lock_timeout */
    {"40", STORE_REASON_locked, false},       /* a deadlock */
    {"55006", STORE_REASON_locked, false},    /* object in use */
    {"25006", STORE_REASON_read_only, false}, /* a standby, or default_transaction_read_only */
    {"42501", STORE_REASON_read_only, true},  /* no privilege */
    {"53100", STORE_REASON_full, false},
    {"53", STORE_REASON_resources, false},
    {"54", STORE_REASON_content, false}, /* too long for an index */
    {"58", STORE_REASON_io, false},
    {"XX001", STORE_REASON_damaged, false},
    {"XX002", STORE_REASON_damaged, false},
    {"22", STORE_REASON_content, false},
    {"23", STORE_REASON_content, false},
    {"P0001", STORE_REASON_content, false}, /* a trigger's own */
    {"42", STORE_REASON_other, true},       /* tables that are not the gateway's */
};

static size_t find(const char *sqlstate)
{
    size_t i = 0;
    while (i < sizeof codes / sizeof *codes &&
           strncmp(sqlstate, codes[i].begin, strlen(codes[i].begin)) != 0)
        i++;
    return i;
}

enum store_reason postgres_reason(const char *sqlstate)
{
    if (!sqlstate || !sqlstate[0])
        return STORE_REASON_unreachable;
    size_t i = find(sqlstate);
    return i < sizeof codes / sizeof *codes ? codes[i].reason : STORE_REASON_other;
}

bool postgres_is_final(const char *sqlstate)
{
    if (!sqlstate || !sqlstate[0])
        return false;
    size_t i = find(sqlstate);
    return i < sizeof codes / sizeof *codes && codes[i].final;
}

/* "FATAL:  28P01: password authentication failed …": behind two spaces, before a colon. */
void postgres_find_sqlstate(struct str text, char sqlstate[POSTGRES_SQLSTATE_SIZE])
{
    const size_t len = POSTGRES_SQLSTATE_SIZE - 1;
    sqlstate[0] = '\0';
    for (size_t at = 2; at + len < text.len; at++) {
        size_t digits = strspn(text.at + at, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (digits != len || memcmp(text.at + at - 2, "  ", 2) != 0 || text.at[at + len] != ':')
            continue;
        memcpy(sqlstate, text.at + at, len);
        sqlstate[len] = '\0';
    }
}

/* The detail may be what a user wrote; the primary message alone goes into logs. */
void postgres_say(PGconn *conn, const PGresult *result, struct buf *text)
{
    const char *said = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    if (!said)
        said = conn ? PQerrorMessage(conn) : "out of memory";
    struct str rest = str_trim(str_of(said));
    bool first = true;
    while (rest.at) {
        struct str line = str_trim(str_split(&rest, '\n'));
        if (line.len == 0)
            continue;
        buf_printf(text, "%s%.*s", first ? "" : "; ", STR_ARG(line));
        first = false;
    }
    if (first)
        buf_puts(text, "the connection was closed");
}
