#include "shared/base/log.h"

#include "shared/base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LINE_BYTES = 2048 };

static enum log_level threshold = LOG_INFO;
static enum log_format style = LOG_TEXT;
static bool journald;
static char role_name[32] = "promptgate";

/* sd-daemon(3): "<3>" error, "<4>" warning, "<6>" info, "<7>" debug. */
static const struct {
    const char *name, *journal_prefix;
} levels[] = {{"error", "<3>"}, {"warning", "<4>"}, {"info", "<6>"}, {"debug", "<7>"}};

void log_setup(enum log_level level, enum log_format format)
{
    threshold = level;
    journald = format == LOG_AUTO && getenv("JOURNAL_STREAM") != NULL;
    style = format;
}

void log_set_role(const char *role)
{
    snprintf(role_name, sizeof role_name, "%s", role);
}

bool log_enabled(enum log_level level)
{
    return level <= threshold;
}

/* Escapes what JSON needs, drops what would break a line, and puts '?' for bytes that are not
 * UTF-8. */
static size_t append_escaped(char *line, size_t at, const char *text)
{
    while (*text && at < LINE_BYTES - 8) {
        unsigned char c = (unsigned char)*text;
        size_t len = utf8_sequence(text, strnlen(text, 4));
        if (c == '"' || c == '\\')
            line[at++] = '\\';
        if (len > 1)
            memcpy(line + at, text, len);
        else
            line[at] = c < 0x20 || c == 0x7F ? ' ' : len ? (char)c : '?';
        at += len ? len : 1;
        text += len ? len : 1;
    }
    return at;
}

static size_t format_json(char *line, enum log_level level, const char *message)
{
    char stamp[CLOCK_RFC3339_SIZE];
    int head = snprintf(
        line, LINE_BYTES,
        "{\"time\":\"%s\",\"level\":\"%s\",\"role\":\"%s\",\"pid\":%d,\"message\":\"",
        clock_rfc3339(clock_wall_ms(), stamp), levels[level].name, role_name, (int)getpid());
    size_t at = append_escaped(line, (size_t)head, message);
    line[at++] = '"';
    line[at++] = '}';
    return at;
}

static size_t format_text(char *line, enum log_level level, const char *message)
{
    char stamp[CLOCK_RFC3339_SIZE];
    int len;
    if (journald)
        len = snprintf(line, LINE_BYTES, "%s%s: %s", levels[level].journal_prefix, role_name,
                       message);
    else
        len = snprintf(line, LINE_BYTES, "%s %s: %s: %s", clock_rfc3339(clock_wall_ms(), stamp),
                       levels[level].name, role_name, message);
    size_t at = len < LINE_BYTES - 1 ? (size_t)len : LINE_BYTES - 2;
    for (size_t i = 0; i < at; i++)
        if (line[i] == '\n' || line[i] == '\r')
            line[i] = ' ';
    return at;
}

void log_write(enum log_level level, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    char message[LINE_BYTES - 256], line[LINE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    size_t len =
        style == LOG_JSON ? format_json(line, level, message) : format_text(line, level, message);
    line[len++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, len);
    (void)ignored;
}
