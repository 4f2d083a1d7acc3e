/* A schema and an instance, parted by a zero byte: the short way and the long one must agree. */
#include "shared/base/json.h"
#include "shared/schema/schema.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *middle = size ? memchr(data, '\0', size) : NULL;
    size_t len = middle ? (size_t)(middle - data) : size;
    struct str schema_text = {(const char *)data, len};
    struct str instance_text = {(const char *)data + len + 1, middle ? size - len - 1 : 0};
    const struct schema_options options = {.draft = (enum schema_draft)(size % 5),
                                           .assert_formats = size % 2};
    struct json_object *document = NULL, *value = NULL;
    struct schema_fault fault;
    struct schema_errors errors = {0};
    struct error error;
    if (!middle || !json_read(schema_text, &document, &error))
        return 0;
    struct schema *schema = schema_compile(document, STR("x"), &options, &fault);
    if (schema && json_read(instance_text, &value, &error)) {
        const struct cell *instance = schema_instance(value, &errors.arena);
        bool valid = schema_validate(schema, instance, &errors);
        if (valid == (errors.count > 0))
            abort();
        if (schema_validate(schema, instance, NULL) != valid)
            abort();
    }
    schema_errors_free(&errors);
    schema_free(&schema);
    json_object_put(document);
    json_object_put(value);
    return 0;
}
