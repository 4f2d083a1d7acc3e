/* What json_read accepts it writes back as JSON that reads the same; json-c must agree that it is
 * JSON at all. */
#include "shared/base/json.h"
#include "shared/base/json_check.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_against_json_c(struct str text)
{
    struct json_tokener *tokener = json_tokener_new_ex(JSON_MAX_DEPTH + 1);
    struct json_object *value = json_tokener_parse_ex(tokener, text.at, (int)text.len);
    enum json_tokener_error error = json_tokener_get_error(tokener);
    /* A number at the very end might go on. */
    require(error == json_tokener_success || error == json_tokener_continue);
    json_object_put(value);
    json_tokener_free(tokener);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    struct json_object *value, *again;
    struct error error;
    if (!json_read(text, &value, &error)) {
        require(!json_check(text, NULL, NULL, &error));
        return 0;
    }
    struct buf first = {0}, second = {0};
    json_write(&first, value);
    require(json_read(buf_view(&first), &again, &error));
    json_write(&second, again);
    require(str_eq(buf_view(&first), buf_view(&second)));
    check_against_json_c(buf_view(&first));
    json_object_put(value);
    json_object_put(again);
    buf_free(&first);
    buf_free(&second);
    return 0;
}
