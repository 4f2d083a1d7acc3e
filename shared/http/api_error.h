/* The table of errors a client can see (errors.def), by code. */
#pragma once

#include "shared/base/buf.h"

enum api_error {
    API_OK,
#define ERROR(code, status, type, sentence) API_##code,
#include "shared/http/errors.def"
#undef ERROR
    API_ERROR_COUNT
};

struct api_error_info {
    const char *code, *type, *sentence;
    int status;
};

/* Never NULL for a code of the table. */
const struct api_error_info *api_error_info(enum api_error code);
