#include "master/upgrade.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/step.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PREPARE_MS = 15000, CLEAR_MS = 10000, TAKE_MS = 10000, SWITCH_MS = 5000, WORD_BYTES = 600 };

_Static_assert(UPGRADE_LONGEST_MS == CLEAR_MS + TAKE_MS + SWITCH_MS, "what is awaited");

static char binary[PATH_MAX];

void upgrade_note_binary(const char *argv0)
{
    ssize_t len = 0;
    if (argv0[0] == '/') {
        snprintf(binary, sizeof binary, "%s", argv0);
    } else if (strchr(argv0, '/') && getcwd(binary, sizeof binary)) {
        size_t at = strlen(binary);
        snprintf(binary + at, sizeof binary - at, "/%s", argv0);
    } else if ((len = readlink("/proc/self/exe", binary, sizeof binary - 1)) >= 0) {
        binary[len] = '\0';
    }
}

void upgrade_init(struct upgrade *upgrade)
{
    *upgrade = (struct upgrade){.channel = -1};
}

static void close_channel(struct upgrade *upgrade)
{
    if (upgrade->channel >= 0)
        close(upgrade->channel);
    upgrade->channel = -1;
}

void upgrade_deinit(struct upgrade *upgrade)
{
    close_channel(upgrade);
    buf_free(&upgrade->text);
}

uint64_t upgrade_ask(struct upgrade *upgrade)
{
    return ++upgrade->asked;
}

bool upgrade_has_ended(const struct upgrade *upgrade, uint64_t request)
{
    return request <= upgrade->answered && upgrade->state != UPGRADE_UNDOING;
}

static void answer(struct upgrade *upgrade, bool good, const char *text)
{
    upgrade->answered = upgrade->asked;
    upgrade->good = good;
    buf_clear(&upgrade->text);
    buf_puts(&upgrade->text, text);
}

/* --- failing --- */

void upgrade_cancel(struct upgrade *upgrade, const char *reason)
{
    log_error("the upgrade failed, and nothing has changed: %s", reason);
    answer(upgrade, false, reason);
    close_channel(upgrade);
    upgrade->state = UPGRADE_UNDOING;
}

/* Its orphans were made this process's children, so that they can be waited for. */
static void tend_undoing(struct upgrade *upgrade)
{
    bool forked = upgrade->pid > 0;
    if (forked)
        kill(-upgrade->pid, SIGKILL);
    if (forked && (!upgrade->ended || kill(-upgrade->pid, 0) == 0))
        return;
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    upgrade->pid = 0;
    upgrade->state = UPGRADE_IDLE;
}

/* Why it ended may stand behind a word that was not read yet. */
static void hear_last_words(struct upgrade *upgrade)
{
    enum upgrade_state before;
    do
        before = upgrade->state;
    while (before != UPGRADE_UNDOING && upgrade_tend(upgrade) != before);
}

void upgrade_child_ended(struct upgrade *upgrade, pid_t pid, int wait_status)
{
    char reason[128];
    if (pid != upgrade->pid || pid == 0)
        return;
    upgrade->ended = true;
    if (upgrade->state == UPGRADE_DONE) {
        log_error("process %d, which took over, has ended", (int)pid);
        return;
    }
    if (WIFSIGNALED(wait_status))
        snprintf(reason, sizeof reason, "the new binary was killed by signal %d (%s)",
                 WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
    else
        snprintf(reason, sizeof reason, "the new binary ended with status %d",
                 WEXITSTATUS(wait_status));
    hear_last_words(upgrade);
    if (upgrade->state != UPGRADE_UNDOING)
        upgrade_cancel(upgrade, reason);
}

/* --- beginning --- */

static int make_memory(const struct handover *handover)
{
    struct buf text = {0};
    handover_write(handover, &text);
    int fd = memfd_create("handover", MFD_CLOEXEC);
    bool done = fd >= 0 && write(fd, text.data, text.len) == (ssize_t)text.len;
    buf_free(&text);
    if (done || fd < 0)
        return fd;
    close(fd);
    return -1;
}

static void say(int channel, const char *word)
{
    if (send(channel, word, strlen(word), MSG_NOSIGNAL) < 0)
        log_debug("the new binary does not hear: %s", strerror(errno));
}

static void reset_signals(void)
{
    static const int handled[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD, SIGPIPE};
    sigset_t none;
    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++)
        signal(handled[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn static void become_new(const char *directory, const struct handover *handover, int memory,
                                 int channel, pid_t master)
{
    char text[64];
    struct error error;
    char *const argv[] = {binary, (char[]){"serve"}, (char[]){"--config"}, strdup(directory), NULL};
    setpgid(0, 0);
    reset_signals();
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* until it can see for itself that this one is dead */
    if (getppid() != master)
        _exit(1);
    int kept[] = {dup(memory), dup(channel)};
    snprintf(text, sizeof text, "%d:%d", kept[0], kept[1]);
    if (kept[0] < 0 || kept[1] < 0 || !handover_mark(handover, false) ||
        setenv(HANDOVER_VARIABLE, text, 1) != 0) {
        say(channel, "failed cannot hand over descriptors");
        _exit(1);
    }
    STEP(upgrade_forked);
    execv(binary, argv);
    error_errno(&error, errno, "failed cannot run %s", binary);
    say(channel, error.message);
    _exit(127);
}

void upgrade_begin(struct upgrade *upgrade, const char *directory, const struct handover *handover,
                   void (*prepare)(void *context), void *context)
{
    int channel[2] = {-1, -1};
    int memory = make_memory(handover);
    pid_t master = getpid();
    if (memory < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) != 0 ||
        prctl(PR_SET_CHILD_SUBREAPER, 1) != 0 || (upgrade->pid = fork()) < 0) {
        upgrade->pid = 0;
        upgrade_cancel(upgrade, strerror(errno));
        prctl(PR_SET_CHILD_SUBREAPER, 0);
    } else if (upgrade->pid == 0) {
        prepare(context);
        become_new(directory, handover, memory, channel[1], master);
    } else {
        setpgid(upgrade->pid, upgrade->pid);
        log_info("upgrade: %s is process %d", binary, (int)upgrade->pid);
        upgrade->ended = false;
        upgrade->channel = channel[0];
        channel[0] = -1;
        upgrade->state = UPGRADE_PREPARING;
        upgrade->deadline_ms = clock_now_ms() + PREPARE_MS;
    }
    for (int i = 0; i < 2; i++)
        if (channel[i] >= 0)
            close(channel[i]);
    if (memory >= 0)
        close(memory);
}

/* --- the conversation --- */

static void enter(struct upgrade *upgrade, enum upgrade_state state, int64_t within_ms)
{
    upgrade->state = state;
    upgrade->deadline_ms = clock_now_ms() + within_ms;
}

void upgrade_go(struct upgrade *upgrade)
{
    STEP(upgrade_cleared);
    enter(upgrade, UPGRADE_TAKING, TAKE_MS);
    say(upgrade->channel, "go");
}

void upgrade_say_over(struct upgrade *upgrade)
{
    say(upgrade->channel, "over");
}

static void succeed(struct upgrade *upgrade)
{
    char text[128];
    snprintf(text, sizeof text, "process %d, version %s, has taken over", (int)upgrade->pid,
             upgrade->version);
    log_info("%s", text);
    answer(upgrade, true, text);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    close_channel(upgrade);
    upgrade->state = UPGRADE_DONE;
}

static void take_word(struct upgrade *upgrade, struct str said)
{
    struct str rest = said, word = str_split(&rest, ' ');
    enum upgrade_state state = upgrade->state;
    char reason[WORD_BYTES];
    if (str_eq(word, STR("failed"))) {
        snprintf(reason, sizeof reason, "%.*s", STR_ARG(rest));
        upgrade_cancel(upgrade, reason);
    } else if (state == UPGRADE_PREPARING && str_eq(word, STR("prepared"))) {
        snprintf(upgrade->version, sizeof upgrade->version, "%.*s", STR_ARG(rest));
        enter(upgrade, UPGRADE_CLEARING, CLEAR_MS);
    } else if (state == UPGRADE_TAKING && str_eq(word, STR("ready"))) {
        enter(upgrade, UPGRADE_SWITCHING, SWITCH_MS);
    } else if (state == UPGRADE_SWITCHING && str_eq(word, STR("serving"))) {
        succeed(upgrade);
    } else {
        upgrade_cancel(upgrade, "the new binary says what this one does not understand");
    }
}

static void hear(struct upgrade *upgrade)
{
    char said[WORD_BYTES];
    ssize_t len = recv(upgrade->channel, said, sizeof said, MSG_DONTWAIT);
    if (len == 0)
        close_channel(upgrade); /* it has ended, and will be reaped */
    if (len > 0)
        take_word(upgrade, (struct str){said, (size_t)len});
    else if (clock_now_ms() >= upgrade->deadline_ms)
        upgrade_cancel(upgrade, upgrade->state == UPGRADE_CLEARING
                                    ? "logger and keeper did not end in time"
                                    : "the new binary was not ready in time");
}

enum upgrade_state upgrade_tend(struct upgrade *upgrade)
{
    if (upgrade->state == UPGRADE_UNDOING)
        tend_undoing(upgrade);
    else if (upgrade->state != UPGRADE_IDLE && upgrade->state != UPGRADE_DONE)
        hear(upgrade);
    return upgrade->state;
}
