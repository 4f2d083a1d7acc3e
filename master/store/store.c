#include "master/store/store.h"

#include "master/store/postgres.h"
#include "master/store/sqlite.h"

#include <limits.h>
#include <poll.h>

struct store {
    const struct store_driver *driver;
};

static const struct store_driver *const drivers[] = {&store_sqlite, &store_postgres};

const struct store_driver *store_driver(const char *name)
{
    for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++)
        if (strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
    return NULL;
}

static bool find_driver(const struct config_store *config, const struct store_driver **driver,
                        struct error *error)
{
    *driver = store_driver(config->driver);
    return *driver || error_set(error, "there is no store driver \"%s\"", config->driver);
}

void store_place(const struct config_store *config, struct buf *place)
{
    const struct store_driver *driver = store_driver(config->driver);
    if (driver)
        driver->place(config, place);
}

bool store_open(const struct config_store *config, const char *host, struct store **store,
                struct error *error)
{
    const struct store_driver *driver;
    return find_driver(config, &driver, error) && driver->open(config, host, store, error);
}

enum store_result store_start(struct store *store, store_offset_fn *each, void *context,
                              struct error *error)
{
    return store->driver->start(store, each, context, error);
}

enum store_result store_commit(struct store *store, struct store_batch *batch, struct error *error)
{
    batch->new_rows = 0;
    return store->driver->commit(store, batch, error);
}

enum store_result store_expire(struct store *store, struct store_expiry *expiry,
                               struct error *error)
{
    expiry->rows = 0;
    expiry->more = false;
    return store->driver->expire(store, expiry, error);
}

enum store_result store_step(struct store *store, struct error *error)
{
    return store->driver->step(store, error);
}

struct store_wait store_wait(const struct store *store)
{
    return store->driver->wait(store);
}

enum store_result store_complete(struct store *store, enum store_result result, struct error *error)
{
    while (result == STORE_WORKING) {
        struct store_wait wait = store_wait(store);
        struct pollfd descriptor = {.fd = wait.descriptor, .events = wait.events};
        poll(&descriptor, 1, wait.timeout_ms > INT_MAX ? INT_MAX : (int)wait.timeout_ms);
        result = store_step(store, error);
    }
    return result;
}

bool store_waits(const struct store *store)
{
    return store->driver->waits;
}

enum store_reason store_reason(const struct store *store)
{
    return store->driver->reason(store);
}

static const struct {
    const char *name, *text;
} reasons[] = {
#define REASON(name, text) {#name, text},
#include "master/store/reasons.def"
#undef REASON
};

static size_t known_reason(int reason)
{
    return reason >= 0 && reason < STORE_REASON_COUNT ? (size_t)reason : STORE_REASON_other;
}

const char *store_reason_name(int reason)
{
    return reasons[known_reason(reason)].name;
}

const char *store_reason_text(int reason)
{
    return reasons[known_reason(reason)].text;
}

bool store_open_reader(const struct config_store *config, struct store **store, struct error *error)
{
    const struct store_driver *driver;
    return find_driver(config, &driver, error) && driver->open_reader(config, store, error);
}

bool store_query(struct store *store, struct store_query *query, store_row_fn *each, void *context,
                 struct error *error)
{
    return store->driver->query(store, query, each, context, error);
}

bool store_spend(struct store *store, const char *month, enum store_spend_by by,
                 store_spend_fn *each, void *context, struct error *error)
{
    return store->driver->spend(store, month, by, each, context, error);
}

bool store_inspect(const struct config_store *config, const char *host, struct store_found *found,
                   store_offset_fn *each, void *context, struct error *error)
{
    const struct store_driver *driver;
    *found = (struct store_found){0};
    return find_driver(config, &driver, error) &&
           driver->inspect(config, host, found, each, context, error);
}

void store_close(struct store **store)
{
    if (!*store)
        return;
    (*store)->driver->close(*store);
    *store = NULL;
}
