/* Notices that a peer has left while nothing is read from its connection: by a copy of the
 * descriptor, since libuv lets one handle watch each. What the peer sent before may lie unread in
 * the kernel; but behind a receive buffer that is full no end can arrive. */
#pragma once

#include <uv.h>

struct hangup;

/* Calls `gone` once, from the loop, when the peer has ended its side, or the connection broke. NULL
 * when there is no descriptor left. */
struct hangup *hangup_watch(uv_loop_t *loop, int descriptor, void (*gone)(void *context),
                            void *context);
/* `gone` will not be called any more. The caller's pointer is cleared; NULL is fine. */
void hangup_forget(struct hangup **hangup);
