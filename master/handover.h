/* What a master hands to the binary that is to take its place: a JSON text in a memfd that says
 * which inherited descriptor is what, and from which state the other one starts.
 * `PROMPTGATE_HANDOVER` in the environment of that binary names the memfd and the channel
 * (upgrade.h).
 *
 * HANDOVER_VERSION grows when a reader of the version before would misunderstand it; members that a
 * reader does not know are passed over, so something that may be left unread needs no new one. */
#pragma once

#include "master/listener.h"
#include "master/slots.h"

enum { HANDOVER_VERSION = 1 };
#define HANDOVER_VARIABLE "PROMPTGATE_HANDOVER"

struct handover {
    int64_t generation; /* the newest one's number */
    uint32_t layout;    /* of the counters file */
    int lock, counters;
    struct socket_file control, keeper;
    struct listeners listeners;
    int (*log_pipes)[2]; /* of all slots */
    bool *lent;          /* of each slot: the new master may use it at once */
    unsigned slots;
    char *fixed; /* config_fixed_write's text */
};

/* Appends the text. */
void handover_write(const struct handover *handover, struct buf *text);
/* Fills `handover`, whose texts and lists are the caller's (handover_free). False with a reason for
 * a version or a layout of the counters file that this binary does not know, and for what is no
 * such text. Whether the descriptors are open is not looked at. */
bool handover_read(struct str text, struct handover *handover, struct error *error)
    __attribute__((warn_unused_result));
/* Frees texts and lists, and closes nothing. Those that somebody took over are NULL before. */
void handover_free(struct handover *handover);
/* Lets all its descriptors go through exec(2), or, with `closes`, no longer; false when one of them
 * is not open. */
bool handover_mark(const struct handover *handover, bool closes);
