/* schema check: is it a schema, and does an instance fit it. */
#include "master/cli/commands.h"
#include "master/cli/options.h"
#include "master/cli/table.h"
#include "master/config/config_file.h"
#include "shared/base/json.h"
#include "shared/schema/schema.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { FITS = 0, DOES_NOT_FIT = 1, WRONG_USAGE = 2, CANNOT_TELL = 3 };

static int usage(void)
{
    fputs("usage: promptgate schema check [--json] [--formats annotate|assert] SCHEMA "
          "[INSTANCE|-]\n",
          stderr);
    return WRONG_USAGE;
}

/* --- files --- */

enum { FILE_MAX_BYTES = 64 << 20 };

static bool read_input(struct arena *arena, struct str *text)
{
    struct buf input = {0};
    bool good = cli_read_input(&input);
    *text = arena_copy(arena, buf_view(&input));
    buf_free(&input);
    return good;
}

/* NULL is JSON's null, or what could not be read: `*read` tells. */
static struct json_object *read_value(const char *path, struct arena *arena, bool *read,
                                      struct error *error)
{
    struct str text;
    struct json_object *value = NULL;
    *read = strcmp(path, "-") == 0 ? read_input(arena, &text)
                                   : config_file_bytes(path, FILE_MAX_BYTES, arena, &text, error);
    *read = *read && json_read(text, &value, error);
    return value;
}

/* Where schemas may refer to: the files beside this one. */
struct folder {
    struct arena arena;
    char uri[PATH_MAX + 16]; /* "file:///etc/schemas/" */
    size_t len;
};

static bool find_folder(struct folder *folder, const char *path, char uri[PATH_MAX + 16])
{
    char whole[PATH_MAX];
    if (!realpath(path, whole))
        return false;
    snprintf(uri, PATH_MAX + 16, "file://%s", whole);
    snprintf(folder->uri, sizeof folder->uri, "%s", uri);
    folder->len = (size_t)(strrchr(folder->uri, '/') - folder->uri) + 1;
    folder->uri[folder->len] = '\0';
    return true;
}

static struct json_object *load(void *context, struct str uri)
{
    struct folder *folder = context;
    struct error error;
    bool read;
    if (!str_starts(uri, (struct str){folder->uri, folder->len}) ||
        memmem(uri.at, uri.len, "/../", 4))
        return NULL;
    const char *path = arena_copy(&folder->arena, uri).at + strlen("file://");
    return read_value(path, &folder->arena, &read, &error);
}

/* --- what is found --- */

static void print_line(const char *path, const char *pointer, const char *message)
{
    struct buf line = {0};
    buf_printf(&line, "%s: %s: %s", path, *pointer ? pointer : "(root)", message);
    cli_clean_line(&line);
    printf("%.*s\n", STR_ARG(buf_view(&line)));
    buf_free(&line);
}

static void member(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, "%s\"%s\":", out->data[out->len - 1] == '{' ? "" : ",", name);
    json_write_string(out, str_of(text));
}

static void print_json(struct buf *out)
{
    buf_puts(out, "}\n");
    fwrite(out->data, 1, out->len, stdout);
    buf_free(out);
}

static int tell_fault(const char *path, const char *pointer, const char *message, bool json)
{
    struct buf out = {0};
    if (!json) {
        print_line(path, pointer, message);
        return CANNOT_TELL;
    }
    buf_puts(&out, "{\"schema_valid\":false");
    member(&out, "pointer", pointer);
    member(&out, "message", message);
    print_json(&out);
    return CANNOT_TELL;
}

static void write_errors(struct buf *out, const struct schema_errors *errors)
{
    for (size_t i = 0; i < errors->count; i++) {
        buf_puts(out, i ? ",{" : "{");
        member(out, "path", errors->at[i].instance_path);
        member(out, "schema_path", errors->at[i].schema_path);
        member(out, "keyword", errors->at[i].keyword);
        member(out, "message", errors->at[i].message);
        buf_putc(out, '}');
    }
}

static void tell_verdict(const char *path, bool valid, const struct schema_errors *errors,
                         bool json)
{
    struct buf out = {0};
    if (json) {
        buf_printf(&out, "{\"schema_valid\":true,\"valid\":%s,\"errors\":[",
                   valid ? "true" : "false");
        write_errors(&out, errors);
        buf_printf(&out, "],\"more\":%s", errors->more ? "true" : "false");
        print_json(&out);
        return;
    }
    if (valid)
        printf("%s: fits\n", path);
    for (size_t i = 0; i < errors->count; i++)
        print_line(path, errors->at[i].instance_path, errors->at[i].message);
    if (errors->more)
        printf("%s: and more\n", path);
}

/* --- checking --- */

static int check_instance(const struct schema *schema, const char *path, bool json)
{
    struct schema_errors errors = {0};
    struct error error = {.message = "cannot be read"};
    bool read;
    struct json_object *value = read_value(path, &errors.arena, &read, &error);
    if (!read) {
        fprintf(stderr, "promptgate schema: %s: %s\n", path, error.message);
        schema_errors_free(&errors);
        return CANNOT_TELL;
    }
    bool valid = schema_validate(schema, schema_instance(value, &errors.arena), &errors);
    tell_verdict(path, valid, &errors, json);
    schema_errors_free(&errors);
    json_object_put(value);
    return valid ? FITS : DOES_NOT_FIT;
}

static int check(const char *path, const char *instance, bool asserts, bool json)
{
    struct folder folder = {0};
    struct error error = {.message = "cannot be read"};
    struct schema_fault fault;
    char uri[PATH_MAX + 16];
    bool read;
    const struct schema_options options = {
        .draft = SCHEMA_2020_12, .assert_formats = asserts, .load = load, .context = &folder};
    struct json_object *document = read_value(path, &folder.arena, &read, &error);
    if (!read || !find_folder(&folder, path, uri)) {
        fprintf(stderr, "promptgate schema: %s: %s\n", path, error.message);
        arena_free(&folder.arena);
        return CANNOT_TELL;
    }
    struct schema *schema = schema_compile(document, str_of(uri), &options, &fault);
    int status = FITS;
    if (!schema)
        status = tell_fault(path, fault.pointer, fault.message, json);
    else if (instance)
        status = check_instance(schema, instance, json);
    else
        puts(json ? "{\"schema_valid\":true}" : "a schema");
    schema_free(&schema);
    json_object_put(document);
    arena_free(&folder.arena);
    return status;
}

int cmd_schema(int argc, char **argv)
{
    struct cli_options options;
    const char *formats = "annotate";
    if (!cli_take_options(&argc, argv, &options) ||
        !cli_take_value(&argc, argv, "--formats", &formats) || argc < 3 || argc > 4 ||
        strcmp(argv[1], "check") != 0)
        return usage();
    bool asserts = strcmp(formats, "assert") == 0;
    if (!asserts && strcmp(formats, "annotate") != 0)
        return usage();
    return check(argv[2], argc == 4 ? argv[3] : NULL, asserts, options.json);
}
