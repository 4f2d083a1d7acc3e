/* The command line's side of the control socket. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/error.h"

enum control_result {
    CONTROL_OK,
    CONTROL_REFUSED,   /* the master answered "failed" */
    CONTROL_NO_MASTER, /* none listens at runtime_dir */
    CONTROL_BROKEN,    /* it could not be asked, or went away without an answer */
    CONTROL_AGAIN,     /* another master listens now: control_ask asks it, and never returns this */
};

/* Asks and waits for the answer, however long it takes; its text without the first line goes into
 * `answer`. With `until_gone` it also waits until the master has ended. `error` tells of the last
 * two results. */
enum control_result control_ask(const char *runtime_dir, const char *request, bool until_gone,
                                struct buf *answer, struct error *error)
    __attribute__((warn_unused_result));
