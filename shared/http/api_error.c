#include "shared/http/api_error.h"

static const struct api_error_info table[API_ERROR_COUNT] = {
    [API_OK] = {"ok", "", "", 200},
#define ERROR(code, status, type, sentence) [API_##code] = {#code, type, sentence, status},
#include "shared/http/errors.def"
#undef ERROR
};

const struct api_error_info *api_error_info(enum api_error code)
{
    return &table[code];
}
