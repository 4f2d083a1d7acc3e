/* STATE_DIR/rejected: rows that the store refuses for their content, and records that can't be
 * read. Each is durable there before the spool moves on behind it, and stays until somebody has
 * looked at it. What is set aside twice (after a kill in between) is there once. */
#pragma once

#include "shared/base/error.h"
#include "shared/record/record.h"

#include <stdint.h>

struct rejected {
    char *path;
    uint64_t count; /* files there */
};

/* Nothing is made before it is needed. */
void rejected_init(struct rejected *rejected, const char *state_dir);
void rejected_free(struct rejected *rejected);
/* How many files are there; for readers. */
uint64_t rejected_count(const char *state_dir);

/* Writes REQUESTID.json: { "rejected_at", "reason", "row": { every column } }. False with a reason
 * when it isn't durable. */
bool rejected_row(struct rejected *rejected, const struct record *row, const char *reason,
                  struct error *error) __attribute__((warn_unused_result));
/* Writes a record that no row could be made of, as it is, to the first half of its SHA-256 in
 * hexadecimal, with .bin behind it. */
bool rejected_bytes(struct rejected *rejected, struct str bytes, const char *reason,
                    struct error *error) __attribute__((warn_unused_result));
