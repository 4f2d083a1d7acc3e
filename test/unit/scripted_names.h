/* For tests of names: a name server that answers when the test says so, and a clock that stands
 * until the test moves it. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/clock.h"
#include "worker/upstream/resolve.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SCRIPTED_MAX = 256 };

struct scripted_names {
    struct resolve_source source;
    struct scripted_question {
        const char *name;
        struct resolve_host *host;
    } open[SCRIPTED_MAX]; /* in the order they were asked */
    unsigned open_count;
    unsigned asked; /* ever */
};

static inline void scripted_look_up(void *context, const char *name, struct resolve_host *host)
{
    struct scripted_names *names = context;
    assert_true(names->open_count < SCRIPTED_MAX);
    names->open[names->open_count++] = (struct scripted_question){name, host};
    names->asked++;
}

static inline void scripted_init(struct scripted_names *names)
{
    *names = (struct scripted_names){.source = {scripted_look_up, names}};
}

static inline unsigned scripted_open(const struct scripted_names *names, const char *name)
{
    unsigned count = 0;
    for (unsigned i = 0; i < names->open_count; i++)
        count += strcmp(names->open[i].name, name) == 0;
    return count;
}

static inline struct resolve_host *scripted_take(struct scripted_names *names, const char *name)
{
    unsigned i = 0;
    while (i < names->open_count && strcmp(names->open[i].name, name) != 0)
        i++;
    if (i == names->open_count)
        fail_msg("nobody asked for %s", name);
    struct resolve_host *host = names->open[i].host;
    memmove(&names->open[i], &names->open[i + 1],
            (names->open_count - i - 1) * sizeof names->open[0]);
    names->open_count--;
    return host;
}

/* "fe80::1%2": with the number of a link. */
static inline void scripted_address(struct str text, struct addrinfo *info,
                                    struct sockaddr_storage *storage)
{
    char address[64] = "";
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct str link = text, plain = str_split(&link, '%');
    memcpy(address, plain.at, plain.len);
    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1) {
        memcpy(storage, &v4, sizeof v4);
    } else {
        assert_int_equal(inet_pton(AF_INET6, address, &v6.sin6_addr), 1);
        v6.sin6_scope_id = link.at ? (uint32_t)atoi(link.at) : 0;
        memcpy(storage, &v6, sizeof v6);
    }
    *info =
        (struct addrinfo){.ai_family = storage->ss_family, .ai_addr = (struct sockaddr *)storage};
}

/* The oldest open question of this name is answered: with a status, or with "ADDRESS,ADDRESS". */
static inline void scripted_answer(struct scripted_names *names, const char *name, int status,
                                   const char *addresses)
{
    struct addrinfo list[32] = {0};
    struct sockaddr_storage storage[32];
    unsigned count = 0;
    for (struct str rest = str_of(addresses); rest.at && count < 32; count++) {
        scripted_address(str_split(&rest, ','), &list[count], &storage[count]);
        if (count > 0)
            list[count - 1].ai_next = &list[count];
    }
    resolve_answer(scripted_take(names, name), status, count ? list : NULL);
}

static int64_t scripted_now_ms = 1000000;

static inline int64_t scripted_clock_us(void)
{
    return scripted_now_ms * 1000;
}

static inline void scripted_clock(void)
{
    static const struct clock_source source = {scripted_clock_us, scripted_clock_us};
    clock_set_source(&source);
}
