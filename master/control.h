/* The control socket, RUNTIME_DIR/control: how a command line speaks to the running master.
 *
 * SOCK_SEQPACKET; one request per connection, one packet: "reload", "stop", "upgrade", "status",
 * or "tokens NAME", which has tokens.d/NAME.yaml read again. The answer is a first line, "ok" or
 * "failed", then text for people, or JSON for `status`; it may take several packets and ends with
 * the connection. "again" alone: another master listens here now and is to be asked. Only root and
 * the master's own user are heard.
 *
 * The master's loop drives it: control_descriptors before poll(2), control_handle after it. Nothing
 * blocks; a client that asks nothing or doesn't take its answer is dropped after a while. */
#pragma once

#include "master/socket_file.h"
#include "shared/base/buf.h"

#include <poll.h>
#include <stdint.h>

enum control_verb {
    CONTROL_RELOAD,
    CONTROL_STOP,
    CONTROL_UPGRADE,
    CONTROL_STATUS,
    CONTROL_TOKENS,
};

enum { CONTROL_ARGUMENT_MAX = 64 };
enum { CONTROL_CLIENTS_MAX = 16, CONTROL_DESCRIPTORS_MAX = CONTROL_CLIENTS_MAX + 1 };

/* `argument` is "" for a verb that has none. */
typedef void control_ask_fn(void *context, uint64_t request, enum control_verb verb,
                            const char *argument);

struct control_client {
    int fd; /* -1 = the place is free */
    uint64_t request;
    bool welcome; /* by its credentials */
    bool asked, answered;
    struct buf rest; /* of the answer, not sent yet */
    int64_t deadline_ms;
};

struct control {
    struct socket_file socket; /* all zero before control_open: see control_init */
    bool listening;            /* whoever connects is heard */
    struct control_client clients[CONTROL_CLIENTS_MAX];
    uint64_t last_request;
    control_ask_fn *ask;
    void *context;
};

/* Closed and ready for control_open or control_close. */
void control_init(struct control *control);
/* Listens. A request is named by a number that is never 0 and never used twice. `ask` is called
 * from control_handle for each request; control_answer may be called from within it, later, or
 * never (closing answers nobody). */
bool control_open(struct control *control, const char *runtime_dir, control_ask_fn *ask,
                  void *context, struct error *error) __attribute__((warn_unused_result));
/* The same with a socket that another master has bound; who connects is heard after control_begin.
 */
void control_adopt(struct control *control, const struct socket_file *file, control_ask_fn *ask,
                   void *context);
bool control_begin(struct control *control, struct error *error)
    __attribute__((warn_unused_result));
/* The socket is another master's now: who is connected stays, and nobody comes any more. */
void control_leave(struct control *control);
/* Removes the socket file and drops every client; answers that are not sent yet get one try. */
void control_close(struct control *control);
/* In a child: closes the descriptors, leaves the file. */
void control_close_inherited(struct control *control);

/* Fills what poll(2) shall watch; returns how many, at most CONTROL_DESCRIPTORS_MAX. */
size_t control_descriptors(const struct control *control, struct pollfd *descriptors);
/* Takes what poll(2) found in them. Call it at each turn, also when nothing was found: it looks at
 * the clock, too. */
void control_handle(struct control *control, const struct pollfd *descriptors, size_t count);
/* Has the client ask again: this master leaves the answer to the next one. */
void control_refer(struct control *control, uint64_t request);
/* Answers a request once; nothing happens when its client is gone. The text is copied. */
void control_answer(struct control *control, uint64_t request, bool good, struct str text);
