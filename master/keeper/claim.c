#include "master/keeper/claim.h"

#include "master/keeper/trouble.h"

static bool release_all(struct sessions_store *store, const struct str *what, size_t count,
                        struct error *error)
{
    bool good = true;
    for (size_t i = 0; good && i < count; i++)
        good = sessions_release(store, what[i], error);
    return good;
}

void claim_give_up(struct sessions_store *store, const struct str *what, size_t count)
{
    struct error error;
    if (count == 0 || !store || !sessions_shared(store))
        return;
    if (sessions_begin(store, &error) && release_all(store, what, count, &error) &&
        sessions_commit(store, &error))
        return;
    trouble_say(&error);
    sessions_undo(store);
}
