#include "master/takeover.h"

#include "shared/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HANDOVER_MAX_BYTES = 1 << 20 };

void takeover_say(const struct takeover *takeover, const char *word)
{
    if (takeover->channel >= 0 && send(takeover->channel, word, strlen(word), MSG_NOSIGNAL) < 0)
        log_debug("the earlier master does not hear: %s", strerror(errno));
}

void takeover_fail(const struct takeover *takeover, const char *reason)
{
    struct buf text = {0};
    log_error("%s", reason);
    buf_printf(&text, "failed %.500s", reason);
    takeover_say(takeover, buf_cstr(&text));
    buf_free(&text);
}

static bool read_memory(int fd, struct buf *text, struct error *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0 || status.st_size > HANDOVER_MAX_BYTES)
        return error_set(error, "what was handed over cannot be read");
    size_t size = (size_t)status.st_size;
    ssize_t got = pread(fd, buf_reserve(text, size), size, 0);
    text->len = got > 0 ? (size_t)got : 0;
    return text->len == size || error_errno(error, errno, "what was handed over cannot be read");
}

static bool take_handover(struct takeover *takeover, int memory, struct error *error)
{
    struct buf text = {0};
    bool done = read_memory(memory, &text, error) &&
                handover_read(buf_view(&text), &takeover->handover, error);
    if (done && !handover_mark(&takeover->handover, true))
        done = error_set(error, "a descriptor that was handed over is not open");
    buf_free(&text);
    return done;
}

bool takeover_find(struct takeover *takeover)
{
    const char *said = getenv(HANDOVER_VARIABLE);
    struct error error;
    int memory;
    *takeover = (struct takeover){.channel = -1};
    if (!said)
        return true;
    bool names = sscanf(said, "%d:%d", &memory, &takeover->channel) == 2 &&
                 fcntl(takeover->channel, F_SETFD, FD_CLOEXEC) == 0;
    unsetenv(HANDOVER_VARIABLE);
    if (!names) {
        takeover->channel = -1;
        log_error(HANDOVER_VARIABLE " is for a gateway that is being upgraded, and says nothing of "
                                    "use here");
        return false;
    }
    takeover->old = getppid();
    takeover->state = TAKEOVER_TAKING;
    bool done = take_handover(takeover, memory, &error);
    close(memory);
    if (!done)
        takeover_fail(takeover, error.message);
    return done;
}

bool takeover_wait(struct takeover *takeover)
{
    char word[16];
    prctl(PR_SET_PDEATHSIG, 0);
    takeover_say(takeover, "prepared " PROMPTGATE_VERSION);
    ssize_t len = recv(takeover->channel, word, sizeof word, 0);
    return len == 2 && memcmp(word, "go", 2) == 0;
}

bool takeover_is_over(const struct takeover *takeover, bool *gone)
{
    char word[16];
    ssize_t len = recv(takeover->channel, word, sizeof word, MSG_DONTWAIT);
    *gone = len == 0 || (len < 0 && errno != EAGAIN && errno != EINTR);
    return len == 4 && memcmp(word, "over", 4) == 0;
}

bool takeover_old_lives(const struct takeover *takeover)
{
    return takeover->old != 0 && getppid() == takeover->old;
}

void takeover_hang_up(struct takeover *takeover)
{
    if (takeover->channel >= 0)
        close(takeover->channel);
    takeover->channel = -1;
}

void takeover_deinit(struct takeover *takeover)
{
    takeover_hang_up(takeover);
    handover_free(&takeover->handover);
}
