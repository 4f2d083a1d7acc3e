/* The body of `GET usage`: how budgets and rate limits stand, from the shared counters. */
#pragma once

#include "worker/exchange.h"

void answer_usage(const struct exchange *ex, struct buf *out);
