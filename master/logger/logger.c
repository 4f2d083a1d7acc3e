#include "master/logger/logger.h"

#include "master/logger/run.h"
#include "master/store/background.h"
#include "master/store/migrations.h"
#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* The end of the pipes ends the logger: signals meant for the whole group must not do so before
 * the workers have written their last. */
static void ignore_signals(void)
{
    /* SIGXFSZ: a limit on file sizes is one more kind of full disk. */
    const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGXFSZ};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
}

/* Another gateway, whose runtime_dir is another one, would write over the same segments. Nothing
 * closes the descriptor: the lock is there for as long as this process. */
static bool lock_state_dir(const char *path, struct error *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(error, errno, "can't open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno == EWOULDBLOCK) {
        close(fd);
        return error_set(error, "state_dir: another gateway uses %s", path);
    }
    log_warning("can't lock %s: %s", path, strerror(errno));
    close(fd);
    return true;
}

static bool open_spool(const struct config *config, struct spool **spool, unsigned slots,
                       struct error *error)
{
    if (mkdir(config->state_dir, 0750) != 0 && errno != EEXIST)
        return error_errno(error, errno, "can't make %s", config->state_dir);
    if (!lock_state_dir(config->state_dir, error))
        return false;
    char path[PATH_MAX];
    int len = snprintf(path, sizeof path, "%s/spool", config->state_dir);
    if (len < 0 || (size_t)len >= sizeof path)
        return error_set(error, "state_dir: the path is too long");
    return spool_open(path, slots, spool, error);
}

/* So that a test gets many of them. */
static void set_segment_bytes(struct spool *spool)
{
#ifdef PROMPTGATE_STEPS
    const char *text = getenv("PROMPTGATE_SEGMENT_BYTES");
    unsigned long long bytes;
    if (text && str_to_u64(str_of(text), &bytes))
        spool_set_segment_bytes(spool, bytes);
#else
    (void)spool;
#endif
}

void logger_main(const struct logger_setup *setup)
{
    ignore_signals();
    struct spool *spool = NULL;
    struct store *store = NULL;
    struct error error;
    char host[HOST_NAME_MAX + 1] = "";
    gethostname(host, sizeof host - 1);
    if (!open_spool(setup->config, &spool, setup->pipes_count, &error) ||
        !store_open(&setup->config->store, host, &store, &error)) {
        log_error("%s", error.message);
        _exit(1);
    }
    set_segment_bytes(spool);
    migrations_hold_while(counters_parent_is_second, setup->counters);
    store_in_background(&store);
    int status = logger_run(setup, spool, store);
    store_close(&store);
    spool_close(&spool);
    _exit(status);
}
