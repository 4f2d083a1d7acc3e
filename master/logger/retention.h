/* When rows that are too old are deleted: a slice at a time, between two batches. A slice that took
 * long makes the next one smaller, and between two of them batches have three times as long. */
#pragma once

#include "master/store/store.h"

enum { RETENTION_FIRST_MS = 1000 }; /* from the logger's start to its first look */

struct retention {
    struct store_expiry expiry; /* the slice under way */
    int64_t began_ms;
    uint64_t rows; /* that this round has deleted */
};

void retention_init(struct retention *retention);
/* A slice begins: of what is older than `keep_ms`. */
void retention_begin(struct retention *retention, int64_t keep_ms);
/* It has ended; `done`: as it should. Returns the milliseconds to the next one. */
int64_t retention_end(struct retention *retention, bool done);
