/* The official test suite (Debian: libtest-json-schema-acceptance-perl), every draft. Required
 * tests all pass; optional ones that don't are those of schema_optional.txt. SUITE names another
 * folder; LIST=1 prints the optional ones that fail. */
#include "shared/base/buf.h"
#include "shared/base/json.h"
#include "shared/schema/schema.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define FOLDER "/usr/share/perl5/auto/share/dist/Test-JSON-Schema-Acceptance"

static const struct {
    const char *folder;
    enum schema_draft draft;
} drafts[] = {{"draft4", SCHEMA_4},
              {"draft6", SCHEMA_6},
              {"draft7", SCHEMA_7},
              {"draft2019-09", SCHEMA_2019_09},
              {"draft2020-12", SCHEMA_2020_12}};

/* --- whether anything is allocated --- */

static size_t allocations;

#ifndef __SANITIZE_ADDRESS__
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    allocations++;
    return __libc_realloc(memory, size);
}
#endif

static const char *suite(void)
{
    const char *named = getenv("SUITE");
    return named ? named : FOLDER;
}

static struct json_object *read_json(const char *path)
{
    struct buf text = {0};
    struct json_object *value = NULL;
    struct error error;
    FILE *file = fopen(path, "r");
    size_t got;
    if (!file)
        return NULL;
    while ((got = fread(buf_reserve(&text, 65536), 1, 65536, file)) > 0)
        text.len += got;
    fclose(file);
    if (!json_read(buf_view(&text), &value, &error))
        fail_msg("%s: %s", path, error.message);
    buf_free(&text);
    return value;
}

/* What the suite has under http://localhost:1234/. */
static struct json_object *load_remote(void *context, struct str uri)
{
    char path[512];
    struct str host = STR("http://localhost:1234/");
    (void)context;
    if (!str_starts(uri, host))
        return NULL;
    snprintf(path, sizeof path, "%s/remotes/%.*s", suite(), (int)(uri.len - host.len),
             uri.at + host.len);
    return read_json(path);
}

struct counts {
    unsigned run, failed, quiet; /* quiet: nothing was allocated for a valid instance */
    unsigned valid;
    struct buf *names; /* of those that failed, a line each; NULL = they are printed */
};

static const char *description(struct json_object *object)
{
    return json_object_get_string(json_member(object, "description", NULL));
}

static void note(struct counts *counts, const char *file, struct json_object *group,
                 struct json_object *test, const char *why)
{
    counts->failed++;
    if (counts->names)
        buf_printf(counts->names, "%s: %s: %s\n", file, description(group), description(test));
    else
        print_message("%s: %s: %s %s\n", file, description(group), description(test), why);
}

static void run_group(const char *file, struct json_object *group, enum schema_draft draft,
                      bool formats, struct counts *counts)
{
    struct json_object *tests = json_member(group, "tests", NULL);
    struct schema_fault fault;
    const struct schema_options options = {
        .draft = draft, .assert_formats = formats, .load = load_remote};
    struct schema *schema =
        schema_compile(json_member(group, "schema", NULL), STR(""), &options, &fault);
    for (size_t i = 0; i < json_object_array_length(tests); i++) {
        struct json_object *test = json_object_array_get_idx(tests, i);
        bool wanted = json_object_get_boolean(json_member(test, "valid", NULL));
        struct schema_errors errors = {0};
        struct json_object *data = json_member(test, "data", NULL);
        const struct cell *instance = schema_instance(data, &errors.arena);
        bool valid = schema && schema_validate(schema, instance, &errors);
        size_t before = allocations;
        if (valid && schema_validate(schema, instance, &errors)) {
            counts->valid++;
            counts->quiet += allocations == before;
        }
        counts->run++;
        if (!schema || valid != wanted || (valid ? errors.count > 0 : errors.count == 0)) {
            note(counts, file, group, test, schema ? "" : fault.message);
        }
        schema_errors_free(&errors);
    }
    schema_free(&schema);
}

static void run_folder(const char *folder, enum schema_draft draft, bool formats,
                       struct counts *counts)
{
    char path[1024];
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        size_t len = strlen(entries[i]->d_name);
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (len > 5 && strcmp(entries[i]->d_name + len - 5, ".json") == 0) {
            struct json_object *groups = read_json(path);
            for (size_t j = 0; j < json_object_array_length(groups); j++)
                run_group(path + strlen(suite()) + strlen("/tests/"),
                          json_object_array_get_idx(groups, j), draft, formats, counts);
            json_object_put(groups);
        }
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

static void required(void **state)
{
    (void)state;
    unsigned failed = 0;
    for (size_t i = 0; i < sizeof drafts / sizeof *drafts; i++) {
        char folder[512];
        struct counts counts = {0};
        snprintf(folder, sizeof folder, "%s/tests/%s", suite(), drafts[i].folder);
        run_folder(folder, drafts[i].draft, false, &counts);
        print_message("%s: %u of %u required tests\n", drafts[i].folder, counts.run - counts.failed,
                      counts.run);
        assert_true(counts.run > 500);
        assert_int_equal(counts.quiet, counts.valid);
        failed += counts.failed;
    }
    assert_int_equal(failed, 0);
}

/* Those that fail are known: one more is a mistake, one less wants the file to say so. */
static void optional(void **state)
{
    (void)state;
    struct buf failed = {0}, known = {0};
    FILE *file = fopen("test/unit/schema_optional.txt", "r");
    int c;
    assert_non_null(file);
    while ((c = fgetc(file)) != EOF)
        buf_putc(&known, (char)c);
    fclose(file);
    for (size_t i = 0; i < sizeof drafts / sizeof *drafts; i++) {
        char folder[512];
        struct counts counts = {.names = &failed}, formats = {.names = &failed};
        snprintf(folder, sizeof folder, "%s/tests/%s/optional", suite(), drafts[i].folder);
        run_folder(folder, drafts[i].draft, false, &counts);
        snprintf(folder, sizeof folder, "%s/tests/%s/optional/format", suite(), drafts[i].folder);
        run_folder(folder, drafts[i].draft, true, &formats);
        print_message("%s: %u of %u optional tests, %u of %u of formats\n", drafts[i].folder,
                      counts.run - counts.failed, counts.run, formats.run - formats.failed,
                      formats.run);
    }
    if (getenv("LIST"))
        printf("%s", buf_cstr(&failed));
    assert_string_equal(buf_cstr(&failed), buf_cstr(&known));
    buf_free(&failed);
    buf_free(&known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(required), cmocka_unit_test(optional)};
    return cmocka_run_group_tests_name("suite", tests, NULL, NULL);
}
