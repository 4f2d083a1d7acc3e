/* A wait that can be called off. */
#pragma once

#include <stdint.h>
#include <uv.h>

struct delay;

/* Calls `over` once, from the loop, after `wait_ms`; the delay is gone then. */
struct delay *delay_start(uv_loop_t *loop, int64_t wait_ms, void (*over)(void *context),
                          void *context);
/* `over` will not be called. The caller's pointer is cleared; NULL is fine. */
void delay_cancel(struct delay **delay);
