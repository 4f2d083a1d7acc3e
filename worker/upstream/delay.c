#include "worker/upstream/delay.h"

#include "shared/base/xalloc.h"

#include <stdlib.h>

struct delay {
    uv_timer_t timer;
    void (*over)(void *context);
    void *context;
};

static void free_delay(uv_handle_t *timer)
{
    free(timer->data);
}

static void on_timer(uv_timer_t *timer)
{
    struct delay *delay = timer->data;
    uv_close((uv_handle_t *)timer, free_delay);
    delay->over(delay->context);
}

struct delay *delay_start(uv_loop_t *loop, int64_t wait_ms, void (*over)(void *context),
                          void *context)
{
    struct delay *delay = xmalloc(sizeof *delay);
    delay->over = over;
    delay->context = context;
    uv_timer_init(loop, &delay->timer);
    delay->timer.data = delay;
    uv_timer_start(&delay->timer, on_timer, (uint64_t)wait_ms, 0);
    return delay;
}

void delay_cancel(struct delay **place)
{
    struct delay *delay = *place;
    *place = NULL;
    if (delay)
        uv_close((uv_handle_t *)&delay->timer, free_delay);
}
