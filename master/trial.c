#include "master/trial.h"

#include "master/privileges.h"
#include "master/title.h"
#include "shared/base/clock.h"
#include "shared/base/secret_memory.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPORT_MAX_BYTES = 256 * 1024, TRIAL_MAX_MS = 30000 };

_Noreturn static void try_and_leave(const struct trial *trial, pid_t master, trial_fn *run,
                                    void *context)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != master)
        _exit(1); /* it was killed before that call: nobody would end a parser that hangs */
    privileges_drop_in_child();
    secrets_in_child();
    title_set("reading the configuration");
    signal(SIGTERM, SIG_DFL);
    FILE *out = fdopen(trial->report - 1, "w");
    if (!out)
        _exit(1);
    bool good = run(context, out);
    fflush(out);
    _exit(good ? 0 : 1);
}

bool trial_begin(struct trial *trial, trial_fn *run, void *context)
{
    *trial = (struct trial){.began_ms = clock_now_ms()};
    trial->report = memfd_create("report", MFD_CLOEXEC) + 1;
    if (trial->report == 0)
        return false;
    secrets_before_fork(SECRETS_READER, NULL);
    pid_t master = getpid();
    trial->child = fork();
    if (trial->child == 0)
        try_and_leave(trial, master, run, context);
    secrets_after_fork();
    if (trial->child > 0)
        return true;
    trial->child = 0;
    trial_end(trial);
    return false;
}

void trial_child_ended(struct trial *trial, pid_t pid, int wait_status)
{
    if (pid != trial->child || pid == 0)
        return;
    trial->child = 0;
    trial->failed = wait_status != 0;
    if (WIFSIGNALED(wait_status))
        dprintf(trial->report - 1,
                "the configuration could not be read: the parser was killed by %s\n",
                strsignal(WTERMSIG(wait_status)));
}

bool trial_running(struct trial *trial)
{
    if (trial->child != 0 && clock_now_ms() - trial->began_ms >= TRIAL_MAX_MS)
        kill(trial->child, SIGKILL);
    return trial->child != 0;
}

void trial_report(const struct trial *trial, struct buf *text)
{
    if (trial->report == 0)
        return;
    char *to = buf_reserve(text, REPORT_MAX_BYTES);
    ssize_t got = pread(trial->report - 1, to, REPORT_MAX_BYTES, 0);
    text->len += got > 0 ? (size_t)got : 0;
}

void trial_end(struct trial *trial)
{
    if (trial->child > 0)
        kill(trial->child, SIGKILL);
    if (trial->report > 0)
        close(trial->report - 1);
    *trial = (struct trial){0};
}
