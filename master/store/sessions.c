#include "master/store/sessions.h"

#include "master/store/sessions_drivers.h"

#include <string.h>

struct sessions_store {
    const struct sessions_driver *driver;
};

static const struct sessions_driver *const drivers[] = {
    &sessions_sqlite,
    &sessions_postgres,
};

bool sessions_open(const struct config *config, const char *host, struct sessions_store **store,
                   struct error *error)
{
    *store = NULL;
    for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++)
        if (strcmp(drivers[i]->name, config->store.driver) == 0)
            return drivers[i]->open(config, host, store, error);
    return error_set(error, "there is no store of sessions \"%s\"", config->store.driver);
}

void sessions_close(struct sessions_store **store)
{
    if (!*store)
        return;
    (*store)->driver->close(*store);
    *store = NULL;
}

bool sessions_begin(struct sessions_store *store, struct error *error)
{
    return store->driver->begin(store, error);
}

bool sessions_commit(struct sessions_store *store, struct error *error)
{
    return store->driver->commit(store, error);
}

void sessions_undo(struct sessions_store *store)
{
    store->driver->undo(store);
}

uint64_t sessions_epoch(struct sessions_store *store)
{
    return store->driver->epoch(store);
}

bool sessions_shared(const struct sessions_store *store)
{
    return store->driver->shared;
}

bool sessions_claim(struct sessions_store *store, struct str what, bool *got, struct error *error)
{
    *got = false;
    return store->driver->claim(store, what, got, error);
}

bool sessions_release(struct sessions_store *store, struct str what, struct error *error)
{
    return store->driver->release(store, what, error);
}

bool sessions_renew(struct sessions_store *store, const struct str *what, size_t count,
                    struct error *error)
{
    return count == 0 || store->driver->renew(store, what, count, error);
}

bool sessions_load(struct sessions_store *store, const struct uuid *id, int64_t from_turn,
                   struct session_row *row, struct buf *messages, bool *found, struct error *error)
{
    *found = false;
    return store->driver->load(store, id, from_turn, row, messages, found, error);
}

bool sessions_add_turn(struct sessions_store *store, struct session_row *row, struct str messages,
                       bool *moved, struct error *error)
{
    *moved = false;
    return store->driver->add_turn(store, row, messages, moved, error);
}

bool sessions_delete(struct sessions_store *store, const struct uuid *id, bool *found,
                     struct error *error)
{
    *found = false;
    return store->driver->delete (store, id, found, error);
}

bool sessions_sweep(struct sessions_store *store, int64_t now_ms, unsigned most, unsigned *done,
                    struct error *error)
{
    *done = 0;
    return store->driver->sweep(store, now_ms, most, done, error);
}

bool sessions_list(struct sessions_store *store, const char *project, unsigned most,
                   session_each_fn *each, void *context, struct error *error)
{
    return store->driver->list(store, project, most, each, context, error);
}

bool answers_find(struct sessions_store *store, struct str key, struct kept_answer *answer,
                  bool *found, struct error *error)
{
    *found = false;
    return store->driver->find_answer(store, key, answer, found, error);
}

bool answers_add(struct sessions_store *store, const struct kept_answer *answer, bool *existed,
                 struct error *error)
{
    *existed = false;
    return store->driver->add_answer(store, answer, existed, error);
}

bool answers_sweep(struct sessions_store *store, int64_t now_ms, unsigned most, unsigned *done,
                   int64_t *bytes, struct error *error)
{
    *done = 0;
    *bytes = 0;
    return store->driver->sweep_answers(store, now_ms, most, done, bytes, error);
}

bool answers_bytes(struct sessions_store *store, int64_t *bytes, struct error *error)
{
    *bytes = 0;
    return store->driver->answers_bytes(store, bytes, error);
}

bool answers_drop(struct sessions_store *store, unsigned most, unsigned *done, int64_t *bytes,
                  struct error *error)
{
    *done = 0;
    *bytes = 0;
    return store->driver->drop_answers(store, most, done, bytes, error);
}
