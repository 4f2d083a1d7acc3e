#include "master/reload.h"

#include "master/config/config_fixed.h"
#include "master/config/config_load.h"
#include "master/privileges.h"
#include "master/title.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPORT_MAX_BYTES = 256 * 1024, READ_MAX_MS = 30000 };

void reload_init(struct reload *reload, const char *directory)
{
    *reload = (struct reload){.directory = directory, .report = -1};
}

static void let_go(struct reload *reload)
{
    config_source_free(&reload->source);
    if (reload->report >= 0)
        close(reload->report);
    reload->report = -1;
    reload->child_failed = false;
}

void reload_deinit(struct reload *reload)
{
    if (reload->child > 0)
        kill(reload->child, SIGKILL);
    let_go(reload);
    buf_free(&reload->text);
}

uint64_t reload_ask(struct reload *reload)
{
    if (reload->under_way)
        log_info("a reload is under way; the next one follows it");
    return ++reload->asked;
}

static void answer(struct reload *reload, bool good)
{
    reload->answered = reload->taken;
    reload->under_way = false;
    reload->good = good;
    let_go(reload);
}

void reload_succeeded(struct reload *reload, int64_t generation)
{
    if (!reload->under_way)
        return;
    buf_clear(&reload->text);
    buf_printf(&reload->text, "generation %lld serves", (long long)generation);
    answer(reload, true);
}

/* Each line of a report is a line of the log. */
static void log_lines(struct str text)
{
    while (text.at) {
        struct str line = str_split(&text, '\n');
        if (line.len > 0)
            log_error("%.*s", STR_ARG(line));
    }
}

void reload_failed(struct reload *reload, const char *reason)
{
    log_lines(str_of(reason));
    log_error("the reload failed: nothing has changed");
    if (!reload->under_way)
        return;
    struct str copy = str_of(reason);
    buf_clear(&reload->text);
    buf_str(&reload->text, copy);
    answer(reload, false);
}

/* --- the throw-away child --- */

_Noreturn static void parse_and_leave(struct reload *reload, pid_t master)
{
    struct config_report report = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != master)
        _exit(1); /* it was killed before that call: nobody would end a parser that hangs */
    privileges_drop_in_child();
    secrets_in_child();
    title_set("reading the configuration");
    signal(SIGTERM, SIG_DFL);
    struct config *config = config_parse(reload->source, &report);
    FILE *out = fdopen(reload->report, "w");
    if (!out)
        _exit(1);
    config_report_print(&report, out);
    fflush(out);
    _exit(config ? 0 : 1);
}

static void begin(struct reload *reload)
{
    reload->under_way = true;
    reload->said_waiting = false;
    reload->taken = reload->asked;
    reload->began_ms = clock_now_ms();
    log_info("reading the configuration again");
    reload->source = config_source_fetch(reload->directory);
    reload->report = memfd_create("report", MFD_CLOEXEC);
    secrets_before_fork(SECRETS_READER, NULL);
    pid_t master = getpid();
    reload->child = reload->report >= 0 ? fork() : -1;
    if (reload->child == 0)
        parse_and_leave(reload, master);
    secrets_after_fork();
    if (reload->child < 0) {
        reload->child = 0;
        reload_failed(reload, "no process could be made to read the configuration");
    }
}

void reload_child_ended(struct reload *reload, pid_t pid, int wait_status)
{
    if (pid != reload->child || pid == 0)
        return;
    reload->child = 0;
    reload->child_failed = wait_status != 0;
    if (WIFSIGNALED(wait_status))
        dprintf(reload->report,
                "the configuration could not be read: the parser was killed by %s\n",
                strsignal(WTERMSIG(wait_status)));
}

static void fail_with_report(struct reload *reload)
{
    struct buf text = {0};
    ssize_t got = pread(reload->report, buf_reserve(&text, REPORT_MAX_BYTES), REPORT_MAX_BYTES, 0);
    text.len = got > 0 ? (size_t)got : 0;
    reload_failed(reload, buf_cstr(&text));
    buf_free(&text);
}

/* --- the master's turn --- */

static struct config *parse(struct reload *reload, const struct config *old)
{
    struct config_report report = {0};
    struct buf reason = {0};
    struct config *config = config_parse(reload->source, &report);
    /* Errors only here: a file with a key has gone since the child read it. */
    for (const struct config_problem *one = report.first; one; one = one->next)
        if (config)
            log_warning("%s", one->text);
        else
            buf_printf(&reason, "%s\n", one->text);
    config_report_free(&report);
    const char *fixed = config ? config_fixed_difference(old, config) : NULL;
    if (fixed) {
        buf_printf(&reason, "%s cannot change by reload: restart needed", fixed);
        config_free(&config);
    }
    if (!config)
        reload_failed(reload, buf_cstr(&reason));
    buf_free(&reason);
    return config;
}

static bool may_begin(struct reload *reload, bool room)
{
    if (reload->asked == reload->answered)
        return false;
    if (!room && !reload->said_waiting) {
        log_info("the reload waits: four generations are alive, one of them has to end first");
        reload->said_waiting = true;
    }
    return room;
}

struct config *reload_tend(struct reload *reload, const struct config *old, bool room)
{
    if (!reload->under_way) {
        if (may_begin(reload, room))
            begin(reload);
        return NULL;
    }
    if (reload->child != 0 && clock_now_ms() - reload->began_ms >= READ_MAX_MS)
        kill(reload->child, SIGKILL);
    if (reload->child != 0 || !reload->source)
        return NULL;
    if (reload->child_failed) {
        fail_with_report(reload);
        return NULL;
    }
    struct config *config = parse(reload, old);
    let_go(reload);
    return config;
}
