#include "master/keeper/claim.h"

#include "shared/base/log.h"

void claim_give_up(struct sessions_store *store, struct str what)
{
    struct error error;
    if (!store || !sessions_shared(store))
        return;
    if (sessions_begin(store, &error) && sessions_release(store, what, &error) &&
        sessions_commit(store, &error))
        return;
    log_error("sessions: %s", error.message);
    sessions_undo(store);
}
