#include "shared/base/money.h"

__extension__ typedef __int128 wide;

enum { PICO_PER_NANO = 1000 };

static wide at_least_zero(int64_t value)
{
    return value > 0 ? (wide)value : 0;
}

static int64_t to_nano(wide pico)
{
    wide nano = (pico + PICO_PER_NANO - 1) / PICO_PER_NANO;
    return nano > INT64_MAX ? INT64_MAX : (int64_t)nano;
}

static const struct price *tier_of(const struct prices *prices, int64_t prompt)
{
    bool above = prices->above_tokens > 0 && prompt > prices->above_tokens;
    return above ? &prices->above : &prices->usual;
}

int64_t money_cost(const struct prices *prices, const struct token_counts *tokens)
{
    const struct price *price = tier_of(prices, tokens->prompt);
    wide prompt = at_least_zero(tokens->prompt), cached = at_least_zero(tokens->cached);
    wide written = at_least_zero(tokens->cache_write);
    cached = cached < prompt ? cached : prompt;
    written = written < prompt - cached ? written : prompt - cached;
    return to_nano((prompt - cached - written) * (wide)price->input +
                   cached * (wide)price->cached_input + written * (wide)price->cache_write +
                   at_least_zero(tokens->completion) * (wide)price->output);
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t worst_of(const struct price *price, int64_t prompt, int64_t completion)
{
    int64_t dearest = larger(price->input, larger(price->cached_input, price->cache_write));
    return to_nano(at_least_zero(prompt) * (wide)dearest +
                   at_least_zero(completion) * (wide)price->output);
}

int64_t money_worst_cost(const struct prices *prices, int64_t prompt, int64_t completion)
{
    int64_t usual = worst_of(&prices->usual, prompt, completion);
    if (tier_of(prices, prompt) == &prices->usual)
        return usual;
    return larger(usual, worst_of(&prices->above, prompt, completion));
}

void usd_write(struct buf *out, int64_t nano_usd)
{
    enum { NANO = 1000000000, DIGITS = 9 };
    buf_printf(out, "%lld", (long long)(nano_usd / NANO));
    int64_t fraction = nano_usd % NANO;
    int digits = DIGITS;
    if (fraction == 0)
        return;
    for (; fraction % 10 == 0; fraction /= 10)
        digits--;
    buf_printf(out, ".%0*lld", digits, (long long)fraction);
}
