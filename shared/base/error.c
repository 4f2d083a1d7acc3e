#include "shared/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool error_set(struct error *e, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(e->message, sizeof e->message, format, args);
    va_end(args);
    return false;
}

bool error_errno(struct error *e, int errno_value, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(e->message, sizeof e->message, format, args);
    va_end(args);
    size_t len = strlen(e->message);
    snprintf(e->message + len, sizeof e->message - len, ": %s", strerror(errno_value));
    return false;
}
