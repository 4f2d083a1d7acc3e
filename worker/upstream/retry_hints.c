#include "worker/upstream/retry_hints.h"

#include <curl/curl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const int64_t LONGEST_MS = INT64_C(31) * 24 * 3600 * 1000;

enum { VALUE_BYTES = 64 }; /* longer ones say nothing */

static int64_t bounded(double ms)
{
    if (isnan(ms) || ms <= 0)
        return 0;
    if (ms >= (double)LONGEST_MS)
        return LONGEST_MS;
    int64_t whole = (int64_t)ms;
    return (double)whole < ms ? whole + 1 : whole;
}

/* "12", "0.5", with nothing behind. */
static bool is_number(const char *text, double *number)
{
    char *end;
    *number = strtod(text, &end);
    return end != text && *end == '\0';
}

static int64_t until(time_t then, int64_t now_wall_ms)
{
    return then == (time_t)-1 ? 0 : bounded((double)then * 1000 - (double)now_wall_ms);
}

/* Seconds, or an HTTP date. */
static int64_t read_after(const char *text, int64_t now_wall_ms)
{
    double seconds;
    if (is_number(text, &seconds))
        return bounded(seconds * 1000);
    return until(curl_getdate(text, NULL), now_wall_ms);
}

/* "1s", "6m0s", "2m59.56s", "1h2m", "120ms". */
static int64_t read_duration(const char *text)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    double sum = 0;
    while (*text) {
        char *end;
        double count = strtod(text, &end);
        size_t len = strspn(end, "msdh");
        size_t i = 0, known = sizeof units / sizeof *units;
        while (i < known && !(strlen(units[i].unit) == len && memcmp(end, units[i].unit, len) == 0))
            i++;
        if (end == text || i == known)
            return 0;
        sum += count * units[i].ms;
        text = end + len;
    }
    return bounded(sum);
}

/* RFC 3339, in UTC; a fraction of a second doesn't matter. */
static int64_t read_time(const char *text, int64_t now_wall_ms)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    return rest && strchr(rest, 'Z') ? until(timegm(&tm), now_wall_ms) : 0;
}

/* A duration, a time, seconds from now, or seconds since 1970. */
static int64_t read_reset(const char *text, int64_t now_wall_ms)
{
    enum { FIRST_EPOCH_S = 1000000000 };
    double seconds;
    if (is_number(text, &seconds) && seconds >= FIRST_EPOCH_S)
        return bounded(seconds * 1000 - (double)now_wall_ms);
    if (is_number(text, &seconds))
        return bounded(seconds * 1000);
    int64_t at = read_time(text, now_wall_ms);
    return at ? at : read_duration(text);
}

static void note_should_retry(struct retry_hints *hints, struct str value)
{
    if (str_eq_nocase(value, STR("true")))
        hints->should_retry = SHOULD_RETRY_YES;
    else if (str_eq_nocase(value, STR("false")))
        hints->should_retry = SHOULD_RETRY_NO;
}

/* OpenAI, Groq, Together; Anthropic; Cohere has one limit alone. */
static struct retry_limit *limit_named(struct retry_hints *hints, struct str name, bool *is_reset)
{
    static const struct {
        const char *remaining, *reset;
        bool of_tokens;
    } names[] = {
        {"x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", false},
        {"x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", true},
        {"anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset", false},
        {"anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset", true},
        {"x-ratelimit-remaining", "x-ratelimit-reset", false},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *is_reset = str_eq_nocase(name, str_of(names[i].reset));
        if (*is_reset || str_eq_nocase(name, str_of(names[i].remaining)))
            return names[i].of_tokens ? &hints->tokens : &hints->requests;
    }
    return NULL;
}

void retry_hints_note(struct retry_hints *hints, struct str name, struct str value,
                      int64_t now_wall_ms)
{
    char text[VALUE_BYTES];
    bool is_reset;
    double ms;
    struct retry_limit *limit = limit_named(hints, name, &is_reset);
    if (value.len == 0 || value.len >= sizeof text)
        return;
    snprintf(text, sizeof text, "%.*s", STR_ARG(value));
    if (str_eq_nocase(name, STR("x-should-retry")))
        note_should_retry(hints, value);
    else if (str_eq_nocase(name, STR("retry-after")))
        hints->after_ms = read_after(text, now_wall_ms);
    else if (str_eq_nocase(name, STR("retry-after-ms")) && is_number(text, &ms))
        hints->after_ms_ms = bounded(ms);
    else if (limit && is_reset)
        limit->reset_ms = read_reset(text, now_wall_ms);
    else if (limit)
        limit->used_up = strcmp(text, "0") == 0;
}

int64_t retry_hints_wait_ms(const struct retry_hints *hints)
{
    int64_t requests = hints->requests.used_up ? hints->requests.reset_ms : 0;
    int64_t tokens = hints->tokens.used_up ? hints->tokens.reset_ms : 0;
    if (hints->after_ms_ms)
        return hints->after_ms_ms;
    if (hints->after_ms)
        return hints->after_ms;
    return requests > tokens ? requests : tokens;
}
