#include "master/cli/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

bool cli_has_colours(void)
{
    const char *unwanted = getenv("NO_COLOR"), *kind = getenv("TERM");
    return isatty(STDOUT_FILENO) && !(unwanted && *unwanted) && kind && strcmp(kind, "dumb") != 0;
}

/* The terminal as it was, for whoever breaks off in the middle. */
static struct termios shown;

static void restore_and_go(int number)
{
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    signal(number, SIG_DFL);
    raise(number);
}

static const int deadly[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
enum { DEADLY = sizeof deadly / sizeof *deadly };

/* To the end, or of a terminal to the end of the line; `*len` is `size` when there is no
 * room. */
static bool take(char *text, size_t size, bool line, size_t *len)
{
    *len = 0;
    while (*len < size) {
        ssize_t got = read(STDIN_FILENO, text + *len, size - *len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got == 0;
        *len += (size_t)got;
        if (line && text[*len - 1] == '\n')
            break;
    }
    return true;
}

/* Of a line that is longer the kernel keeps so much, and says nothing. */
enum { TERMINAL_LINE_BYTES = 4096 };

static bool take_unseen(const char *prompt, char *text, size_t size, size_t *len)
{
    struct termios hidden;
    void (*before[DEADLY])(int);
    if (tcgetattr(STDIN_FILENO, &shown) != 0)
        return false;
    for (size_t i = 0; i < DEADLY; i++)
        before[i] = signal(deadly[i], restore_and_go);
    void (*stop)(int) = signal(SIGTSTP, SIG_IGN); /* it would leave the terminal as it is now */
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)ECHO;
    hidden.c_lflag |= ICANON | ECHONL;
    bool good = tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden) == 0;
    fprintf(stderr, "%s", prompt);
    good = good && take(text, size, true, len);
    int reason = errno;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    for (size_t i = 0; i < DEADLY; i++)
        signal(deadly[i], before[i]);
    signal(SIGTSTP, stop);
    errno = reason;
    return good;
}

bool cli_ask_secret(const char *prompt, char *secret, size_t size, struct error *error)
{
    size_t len;
    bool terminal = isatty(STDIN_FILENO);
    bool good =
        terminal ? take_unseen(prompt, secret, size, &len) : take(secret, size, false, &len);
    if (!good)
        return error_errno(error, errno, "standard input cannot be read");
    if (terminal && len >= TERMINAL_LINE_BYTES)
        return error_set(error, "too long for a terminal: give it on standard input");
    if (len == size)
        return error_set(error, "too long: %zu bytes at most", size - 1);
    if (len > 0 && secret[len - 1] == '\n')
        len--;
    if (len > 0 && secret[len - 1] == '\r')
        len--;
    secret[len] = '\0';
    return !memchr(secret, '\0', len) || error_set(error, "holds a NUL");
}
