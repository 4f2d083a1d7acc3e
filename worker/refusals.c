#include "worker/refusals.h"

#include "shared/base/clock.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"
#include "shared/record/refused.h"
#include "worker/log_writer.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

enum { MINUTE_MS = 60 * 1000, V4_BYTES = 3, V6_BYTES = 8 };
enum family { FAMILY_OTHER, FAMILY_UNIX, FAMILY_V4, FAMILY_V6 };

struct network {
    uint8_t family;
    uint8_t prefix[V6_BYTES];
};

struct refusals {
    struct log_writer *log;
    const char *host;
    int64_t minute_wall_ms;
    struct {
        struct network network;
        enum api_error code;
        int64_t count;
    } counts[REFUSALS_NETWORKS];
    size_t used;
    int64_t others[API_ERROR_COUNT]; /* by code, of networks that found no place */
    bool any;                        /* to be sent, */
    int64_t since_ms;                /* since then */
};

struct refusals *refusals_new(struct log_writer *log, const char *host)
{
    struct refusals *refusals = xcalloc(1, sizeof *refusals);
    refusals->log = log;
    refusals->host = host;
    return refusals;
}

void refusals_free(struct refusals **refusals)
{
    free(*refusals);
    *refusals = NULL;
}

/* --- a client's network --- */

static struct network network_of(const char *client_ip)
{
    struct network network = {.family = FAMILY_OTHER};
    uint8_t address[16];
    if (inet_pton(AF_INET, client_ip, address) == 1) {
        network.family = FAMILY_V4;
        memcpy(network.prefix, address, V4_BYTES);
    } else if (inet_pton(AF_INET6, client_ip, address) == 1) {
        network.family = FAMILY_V6;
        memcpy(network.prefix, address, V6_BYTES);
    } else if (strcmp(client_ip, "unix") == 0) {
        network.family = FAMILY_UNIX;
    }
    return network;
}

enum { NETWORK_SIZE = INET6_ADDRSTRLEN + 4 };

static const char *network_text(const struct network *network, char text[NETWORK_SIZE])
{
    char address[INET6_ADDRSTRLEN];
    uint8_t bytes[16] = {0};
    memcpy(bytes, network->prefix, sizeof network->prefix);
    switch (network->family) {
    case FAMILY_V4:
        inet_ntop(AF_INET, bytes, address, sizeof address);
        snprintf(text, NETWORK_SIZE, "%s/24", address);
        return text;
    case FAMILY_V6:
        inet_ntop(AF_INET6, bytes, address, sizeof address);
        snprintf(text, NETWORK_SIZE, "%s/64", address);
        return text;
    default:
        return network->family == FAMILY_UNIX ? "unix" : "other";
    }
}

/* --- counting --- */

static int64_t minute_now(void)
{
    int64_t now = clock_wall_ms();
    return now - now % MINUTE_MS;
}

static int64_t *count_for(struct refusals *refusals, enum api_error code,
                          const struct network *network)
{
    for (size_t i = 0; i < refusals->used; i++)
        if (refusals->counts[i].code == code &&
            memcmp(&refusals->counts[i].network, network, sizeof *network) == 0)
            return &refusals->counts[i].count;
    if (network->family == FAMILY_OTHER || refusals->used == REFUSALS_NETWORKS)
        return &refusals->others[code];
    size_t place = refusals->used++;
    refusals->counts[place].code = code;
    refusals->counts[place].network = *network;
    refusals->counts[place].count = 0;
    return &refusals->counts[place].count;
}

/* A network keeps its place until the minute is over. */
static void begin_minute(struct refusals *refusals)
{
    refusals->minute_wall_ms = minute_now();
    refusals->used = 0;
}

void refusals_count(struct refusals *refusals, enum api_error code, const char *client_ip)
{
    struct network network = network_of(client_ip);
    refusals_tick(refusals);
    if (refusals->minute_wall_ms != minute_now())
        begin_minute(refusals);
    ++*count_for(refusals, code, &network);
    if (!refusals->any)
        refusals->since_ms = clock_now_ms();
    refusals->any = true;
}

/* --- sending --- */

static void send_one(const struct refusals *refusals, enum api_error code, const char *network,
                     int64_t *count)
{
    const struct refused refused = {
        .minute_wall_ms = refusals->minute_wall_ms,
        .code = str_of(api_error_info(code)->code),
        .network = str_of(network),
        .host = str_of(refusals->host),
        .count = *count,
    };
    if (*count == 0)
        return;
    log_writer_push_refused(refusals->log, &refused);
    STEP(refusals_sent);
    *count = 0;
}

void refusals_flush(struct refusals *refusals)
{
    if (!refusals->any)
        return;
    for (size_t i = 0; i < refusals->used; i++) {
        char text[NETWORK_SIZE];
        send_one(refusals, refusals->counts[i].code,
                 network_text(&refusals->counts[i].network, text), &refusals->counts[i].count);
    }
    for (int code = 0; code < API_ERROR_COUNT; code++)
        send_one(refusals, (enum api_error)code, "other", &refusals->others[code]);
    refusals->any = false;
}

void refusals_tick(struct refusals *refusals)
{
    if (refusals->any && (refusals->minute_wall_ms != minute_now() ||
                          clock_now_ms() - refusals->since_ms >= REFUSALS_SEND_MS))
        refusals_flush(refusals);
}
