#include "shared/http/hangup.h"

#include "shared/base/xalloc.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct hangup {
    uv_poll_t poll;
    int copy;
    void (*gone)(void *context);
    void *context;
};

static void on_closed(uv_handle_t *handle)
{
    struct hangup *hangup = handle->data;
    close(hangup->copy);
    free(hangup);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct hangup *hangup = poll->data;
    (void)status, (void)events;
    uv_poll_stop(poll); /* it would be told again and again */
    hangup->gone(hangup->context);
}

struct hangup *hangup_watch(uv_loop_t *loop, int descriptor, void (*gone)(void *context),
                            void *context)
{
    int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return NULL;
    struct hangup *hangup = xcalloc(1, sizeof *hangup);
    hangup->copy = copy;
    hangup->gone = gone;
    hangup->context = context;
    if (uv_poll_init(loop, &hangup->poll, copy) != 0) {
        close(copy);
        free(hangup);
        return NULL;
    }
    hangup->poll.data = hangup;
    uv_poll_start(&hangup->poll, UV_DISCONNECT, on_poll);
    return hangup;
}

void hangup_forget(struct hangup **place)
{
    struct hangup *hangup = *place;
    *place = NULL;
    if (!hangup)
        return;
    uv_poll_stop(&hangup->poll);
    uv_close((uv_handle_t *)&hangup->poll, on_closed);
}
