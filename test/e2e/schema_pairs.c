/* Validates pairs from standard input, a schema and an instance on a line each: prints a line each,
 * 1 for valid, 0 for not, - where the schema is none. Where an instance isn't valid, some reason
 * must be told. */
#include "shared/base/buf.h"
#include "shared/base/json.h"
#include "shared/schema/schema.h"

#include <stdio.h>
#include <stdlib.h>

static struct json_object *read_line(char **line, size_t *size)
{
    struct json_object *value;
    struct error error;
    ssize_t got = getline(line, size, stdin);
    if (got <= 0)
        exit(0);
    if (!json_read((struct str){*line, (size_t)got - 1}, &value, &error)) {
        fprintf(stderr, "%s: %s\n", *line, error.message);
        exit(1);
    }
    return value;
}

int main(void)
{
    static const struct schema_options options = {.draft = SCHEMA_2020_12};
    char *line = NULL;
    size_t size = 0;
    for (;;) {
        struct schema_fault fault;
        struct schema_errors errors = {0};
        struct json_object *document = read_line(&line, &size), *value = read_line(&line, &size);
        struct schema *schema = schema_compile(document, STR(""), &options, &fault);
        bool valid =
            schema && schema_validate(schema, schema_instance(value, &errors.arena), &errors);
        if (schema && valid == (errors.count > 0)) {
            fprintf(stderr, "%s: valid is %d, and there are %zu errors\n", line, valid,
                    errors.count);
            return 1;
        }
        puts(!schema ? "-" : valid ? "1" : "0");
        schema_errors_free(&errors);
        schema_free(&schema);
        json_object_put(document);
        json_object_put(value);
    }
}
