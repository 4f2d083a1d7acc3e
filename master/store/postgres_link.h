/* A connection to PostgreSQL for a process that may not wait long: prepared statements, each
 * answered within the time that the call has, or the connection is given up. It is made in a
 * thread, and made again when it is lost. */
#pragma once

#include "shared/base/error.h"
#include "shared/base/str.h"
#include "shared/base/uuid.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct postgres_link;

struct postgres_statement {
    const char *name, *types, *sql; /* as PREPARE has them */
    const char *doing;              /* "can't …", for messages */
};

struct postgres_link_setup {
    const char *dsn; /* stays the caller's */
    int64_t wait_ms; /* of a call */
    bool patient;    /* a connection is waited for, however long that takes */
    int schema;      /* the step that the statements need */
    const struct postgres_statement *statements;
    size_t statements_count;
};

/* What a statement is given, in PostgreSQL's binary format. Not to be copied; bytes stay the
 * caller's. */
enum { POSTGRES_PARAMETERS_MAX = 16 };
struct postgres_parameters {
    int count;
    const char *values[POSTGRES_PARAMETERS_MAX];
    int lengths[POSTGRES_PARAMETERS_MAX];
    uint64_t numbers[POSTGRES_PARAMETERS_MAX]; /* that values point to */
};

/* Text, bytea or an array; absent = NULL. */
void postgres_give_bytes(struct postgres_parameters *to, struct str bytes);
void postgres_give_number(struct postgres_parameters *to, int64_t number);
void postgres_give_uuid(struct postgres_parameters *to, const struct uuid *id);

/* What a result has; a NULL is 0, nil or absent. Texts are the result's. */
struct str postgres_bytes_at(const PGresult *result, int row, int column);
int64_t postgres_number_at(const PGresult *result, int row, int column);
bool postgres_bool_at(const PGresult *result, int row, int column);
struct uuid postgres_uuid_at(const PGresult *result, int row, int column);

/* Nothing is reached yet, but a first attempt may be under way. NULL, with a sentence, for what
 * libpq does not understand. */
struct postgres_link *postgres_link_new(const struct postgres_link_setup *setup,
                                        struct error *error);
/* The caller's pointer becomes NULL. */
void postgres_link_free(struct postgres_link **link);
/* How many connections there were. */
uint64_t postgres_link_epoch(const struct postgres_link *link);

/* A call begins: its time runs from here, and earlier results are gone. False = there is no
 * connection. */
bool postgres_link_call(struct postgres_link *link, struct error *error)
    __attribute__((warn_unused_result));

/* Sent with the next statement whose answer is waited for. */
void postgres_link_send(struct postgres_link *link, size_t statement,
                        const struct postgres_parameters *parameters);
/* The result is the link's until the next call or question. NULL: it failed, and with it the
 * transaction under way. */
const PGresult *postgres_link_ask(struct postgres_link *link, size_t statement,
                                  const struct postgres_parameters *parameters, struct error *error)
    __attribute__((warn_unused_result));
/* How many rows a statement has written. */
int64_t postgres_rows_of(const PGresult *result);

/* Begins with the first statement that follows. */
void postgres_link_begin(struct postgres_link *link);
bool postgres_link_commit(struct postgres_link *link, struct error *error)
    __attribute__((warn_unused_result));
void postgres_link_undo(struct postgres_link *link);
bool postgres_link_in_transaction(const struct postgres_link *link);
/* Sets the error, with the server's place, and returns false. */
bool postgres_link_say(const struct postgres_link *link, const char *doing, const char *what,
                       struct error *error);
