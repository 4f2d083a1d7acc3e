/* Validations per second of one schema: `bench-schema FILE SECONDS`, FILE is { schema, instances };
 * prints nanoseconds for each validation, and for making each instance of its json-c value. All
 * instances must be valid. */
#include "shared/schema/schema.h"
#include "shared/base/buf.h"
#include "shared/base/clock.h"
#include "shared/base/json.h"

#include <stdio.h>
#include <stdlib.h>

static struct json_object *read_file(const char *path)
{
    struct buf text = {0};
    struct json_object *value = NULL;
    struct error error;
    FILE *file = fopen(path, "r");
    size_t got;
    while (file && (got = fread(buf_reserve(&text, 65536), 1, 65536, file)) > 0)
        text.len += got;
    if (!file || !json_read(buf_view(&text), &value, &error)) {
        fprintf(stderr, "%s: %s\n", path, file ? error.message : "cannot be read");
        exit(1);
    }
    fclose(file);
    buf_free(&text);
    return value;
}

static double making_ns(struct json_object *instances, double seconds)
{
    struct arena arena = {0};
    size_t count = json_object_array_length(instances), made = 0;
    int64_t began = clock_now_us(), until = began + (int64_t)(seconds * 1e6), now = began;
    for (; now < until; now = clock_now_us())
        for (size_t i = 0; i < 1000; i++, made++) {
            (void)schema_instance(json_object_array_get_idx(instances, i % count), &arena);
            arena_reset(&arena);
        }
    arena_free(&arena);
    return (double)(now - began) * 1000 / (double)made;
}

int main(int argc, char **argv)
{
    const struct schema_options options = {.draft = SCHEMA_2020_12};
    struct schema_fault fault;
    if (argc != 3)
        return 2;
    struct json_object *file = read_file(argv[1]);
    struct json_object *instances = json_member(file, "instances", NULL);
    struct schema *schema =
        schema_compile(json_member(file, "schema", NULL), STR(""), &options, &fault);
    size_t count = json_object_array_length(instances), rounds = 0, valid = 0;
    if (!schema) {
        fprintf(stderr, "%s: %s %s\n", argv[1], fault.pointer, fault.message);
        return 1;
    }
    struct arena arena = {0};
    const struct cell **cells = arena_alloc(&arena, count * sizeof *cells);
    for (size_t i = 0; i < count; i++)
        cells[i] = schema_instance(json_object_array_get_idx(instances, i), &arena);
    int64_t began = clock_now_us(), until = began + (int64_t)(atof(argv[2]) * 1e6), now = began;
    for (; now < until; now = clock_now_us())
        for (size_t i = 0; i < 1000; i++, rounds++)
            for (size_t j = 0; j < count; j++)
                valid += schema_validate(schema, cells[j], NULL);
    if (valid != rounds * count) {
        fprintf(stderr, "%s: not all are valid\n", argv[1]);
        return 1;
    }
    printf("%.1f %.1f\n", (double)(now - began) * 1000 / (double)valid,
           making_ns(instances, atof(argv[2]) / 5));
    arena_free(&arena);
    schema_free(&schema);
    json_object_put(file);
    return 0;
}
