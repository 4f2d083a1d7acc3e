/* A schema in every provider's form: what comes out is JSON, and not much larger than what went in.
 */
#include "shared/base/json.h"
#include "worker/provider/schema_form.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str schema = {(const char *)data, size};
    for (int form = 0; form < FORM_COUNT; form++) {
        struct json_object *value = NULL;
        struct error error;
        char *text = schema_form_write((enum schema_form)form, schema);
        if (!text)
            continue;
        if (!json_read(str_of(text), &value, &error) || strlen(text) > 100 * size + 1000)
            abort();
        json_object_put(value);
        free(text);
    }
    return 0;
}
