/* Money: prices in pico-USD for a token, which six decimals of USD for a million tokens are
 * exactly; amounts in nano-USD. A cost is summed up in 128 bits and rounded up once, at the end. */
#pragma once

#include "shared/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* Of a kind of tokens, pico-USD each. */
struct price {
    int64_t input, output, cached_input, cache_write;
};

/* A model's. */
struct prices {
    bool known;
    struct price usual;
    struct price above;   /* for a prompt of more than `above_tokens`, the cached ones included */
    int64_t above_tokens; /* 0 = there is no such tier */
};

/* Tokens as OpenAI counts them: cached ones and those written into a cache are prompt tokens,
 * reasoning ones are completion tokens. Negative counts are taken as 0, and a part that is larger
 * than the whole as the whole. */
struct token_counts {
    int64_t prompt, completion, cached, cache_write;
};

/* nano-USD, rounded up; at most INT64_MAX. */
int64_t money_cost(const struct prices *prices, const struct token_counts *tokens);
/* Nano-USD as USD, exact, without needless zeros: "0.0000579". Not negative. */
void usd_write(struct buf *out, int64_t nano_usd);
/* The most that so many tokens can cost: each prompt token at the dearest of its prices, in the
 * dearest tier that a prompt of at most so many can be in. */
int64_t money_worst_cost(const struct prices *prices, int64_t prompt, int64_t completion);
