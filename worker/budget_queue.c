#include "worker/budget_queue.h"

#include "shared/base/clock.h"
#include "shared/base/xalloc.h"
#include "worker/pipeline.h"

#include <stdlib.h>

/* Settlements of other workers are not heard of: it is looked for them. */
enum { LOOK_EVERY_MS = 5, BLOCKED_MAX = 96 };

struct budget_queue {
    uv_timer_t timer;
    struct exchange *first, *last;
    budget_try_fn *try_again;
};

static void on_timer(uv_timer_t *timer);

struct budget_queue *budget_queue_new(uv_loop_t *loop, budget_try_fn *try_again)
{
    struct budget_queue *queue = xcalloc(1, sizeof *queue);
    queue->try_again = try_again;
    uv_timer_init(loop, &queue->timer);
    queue->timer.data = queue;
    return queue;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void budget_queue_free(struct budget_queue **queue)
{
    uv_close((uv_handle_t *)&(*queue)->timer, on_closed);
    *queue = NULL;
}

static bool counts_in(const struct shm_request *request, uint32_t account)
{
    return account != ACCOUNT_NONE && (request->endpoint == account || request->token == account ||
                                       request->project == account);
}

uint32_t budget_queue_shared(const struct budget_queue *queue, const struct exchange *ex)
{
    for (const struct exchange *one = queue->first; one; one = one->budget_place.next)
        if (counts_in(ex->entry, one->waits_for))
            return one->waits_for;
    return ACCOUNT_NONE;
}

bool budget_queue_is_late(const struct exchange *ex)
{
    return ex->budget_place.until_us != 0 && clock_now_us() >= ex->budget_place.until_us;
}

void budget_queue_join(struct budget_queue *queue, struct exchange *ex, int64_t wait_ms)
{
    if (ex->budget_place.until_us != 0)
        return;
    ex->budget_place =
        (struct budget_place){.previous = queue->last, .until_us = clock_now_us() + wait_ms * 1000};
    if (queue->last)
        queue->last->budget_place.next = ex;
    else
        queue->first = ex;
    queue->last = ex;
    if (!uv_is_active((uv_handle_t *)&queue->timer))
        uv_timer_start(&queue->timer, on_timer, LOOK_EVERY_MS, LOOK_EVERY_MS);
}

void budget_queue_leave(struct budget_queue *queue, struct exchange *ex)
{
    struct budget_place *place = &ex->budget_place;
    if (place->until_us == 0)
        return;
    if (place->previous)
        place->previous->budget_place.next = place->next;
    else
        queue->first = place->next;
    if (place->next)
        place->next->budget_place.previous = place->previous;
    else
        queue->last = place->previous;
    *place = (struct budget_place){0};
    if (!queue->first)
        uv_timer_stop(&queue->timer);
}

void budget_queue_wake(struct budget_queue *queue)
{
    if (queue->first)
        uv_timer_start(&queue->timer, on_timer, 0, LOOK_EVERY_MS);
}

/* Accounts that somebody further ahead waits for. */
struct blocked {
    uint32_t accounts[BLOCKED_MAX];
    size_t count;
};

static bool is_blocked(const struct blocked *blocked, const struct exchange *ex)
{
    if (blocked->count == BLOCKED_MAX)
        return true;
    for (size_t i = 0; i < blocked->count; i++)
        if (counts_in(ex->entry, blocked->accounts[i]))
            return true;
    return false;
}

/* One after the other is tried; resuming one may do anything to the queue, so it begins anew. */
static bool resume_one(struct budget_queue *queue)
{
    struct blocked blocked = {.count = 0};
    for (struct exchange *ex = queue->first; ex; ex = ex->budget_place.next) {
        bool late = budget_queue_is_late(ex);
        if (!late && is_blocked(&blocked, ex))
            continue;
        if (!ex->counting && queue->try_again(ex, late) != BUDGET_WAITS) {
            budget_queue_leave(queue, ex);
            exchange_resume(ex);
            return true;
        }
        if (blocked.count < BLOCKED_MAX)
            blocked.accounts[blocked.count++] = ex->waits_for;
    }
    return false;
}

static void on_timer(uv_timer_t *timer)
{
    struct budget_queue *queue = timer->data;
    while (queue->first && resume_one(queue))
        ;
}
