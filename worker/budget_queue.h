/* Requests whose worst case would fit into a budget if others' reservations settled. They wait in
 * the order they came: nobody passes one that waits for the same account. */
#pragma once

#include "worker/exchange.h"

#include <uv.h>

struct budget_queue;

enum budget_answer { BUDGET_HELD, BUDGET_WAITS, BUDGET_REFUSED };

/* Tries to reserve for an exchange; BUDGET_REFUSED has failed it. `last` forbids BUDGET_WAITS. */
typedef enum budget_answer budget_try_fn(struct exchange *ex, bool last);

struct budget_queue *budget_queue_new(uv_loop_t *loop, budget_try_fn *try_again);
/* Lets go of it; nobody waits any more. */
void budget_queue_free(struct budget_queue **queue);
/* The account that somebody waits for and that the exchange counts in, too; ACCOUNT_NONE = none. */
uint32_t budget_queue_shared(const struct budget_queue *queue, const struct exchange *ex);
/* `waits_for` says which account it needs room in. The exchange is resumed once it is held or
 * refused. */
void budget_queue_join(struct budget_queue *queue, struct exchange *ex, int64_t wait_ms);
/* It has waited as long as it may. */
bool budget_queue_is_late(const struct exchange *ex);
/* It is broken off. Nothing happens when it doesn't wait. */
void budget_queue_leave(struct budget_queue *queue, struct exchange *ex);
/* Something was settled: others may fit now. They are tried from the loop. */
void budget_queue_wake(struct budget_queue *queue);
