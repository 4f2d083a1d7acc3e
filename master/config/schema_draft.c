/* An endpoint's schemas: written there, or { file: schemas/NAME.json }. */
#include "master/config/drafts.h"
#include "master/config/yaml_json.h"
#include "shared/base/json.h"

/* Where they stand for each other's references. */
#define SCHEMAS_URI "promptgate:/schemas/"
#define SCHEMAS_FOLDER "schemas/"

static const struct config_file *file_named(const struct reading *reading, struct str name)
{
    const struct config_files *files = reading->schemas;
    for (size_t i = 0; files && i < files->count; i++)
        if (str_eq(str_of(files->at[i].name), name))
            return &files->at[i];
    return NULL;
}

/* "schemas/NAME.json"; the name without its ending, absent for another text. */
static struct str name_in(struct str text)
{
    struct str folder = STR(SCHEMAS_FOLDER), ending = STR(".json");
    if (!str_starts(text, folder) || text.len <= folder.len + ending.len ||
        memcmp(text.at + text.len - ending.len, ending.at, ending.len) != 0)
        return STR_ABSENT;
    return (struct str){text.at + folder.len, text.len - folder.len - ending.len};
}

/* What a schema's references are looked up in, and what was found. */
struct loading {
    const struct reading *reading;
    struct buf found; /* each file's name and text */
};

static struct json_object *load(void *context, struct str uri)
{
    struct loading *loading = context;
    struct str folder = STR(SCHEMAS_URI);
    struct json_object *document = NULL;
    struct error error;
    if (!str_starts(uri, folder))
        return NULL;
    struct str rest = {uri.at + strlen("promptgate:/"), uri.len - strlen("promptgate:/")};
    const struct config_file *file = file_named(loading->reading, name_in(rest));
    if (!file || file->unreadable || !json_read(file->text, &document, &error))
        return NULL;
    buf_printf(&loading->found, "\n\n%.*s:\n", STR_ARG(rest));
    json_write(&loading->found, document);
    return document;
}

/* --- where it is wrong --- */

static void never_mind(void *context, struct yaml_mark mark, const char *message)
{
    (void)context, (void)mark, (void)message;
}

/* JSON is YAML, but for its escapes: what can't be read has no marks. */
static const struct yaml_node *tree_of(struct reading *reading, const struct config_file *file)
{
    return yaml_tree_read(file->text, reading->scratch, never_mind, NULL);
}

static const struct yaml_node *child_of(const struct yaml_node *node, struct str token)
{
    unsigned long long index;
    for (size_t i = 0; node->kind == NODE_MAP && i < node->count; i++)
        if (str_eq(node->entries[i].key->text, token))
            return node->entries[i].value;
    if (node->kind == NODE_LIST && str_to_u64(token, &index) && index < node->count)
        return node->entries[index].value;
    return NULL;
}

/* The place that a pointer leads to, or the last on the way. Names with ~ or / are not looked for.
 */
static struct yaml_mark mark_at(const struct yaml_node *node, const char *pointer)
{
    struct str rest = str_of(pointer);
    (void)str_split(&rest, '/');
    while (node && rest.at) {
        const struct yaml_node *next = child_of(node, str_split(&rest, '/'));
        if (!next)
            break;
        node = next;
    }
    return node ? node->mark : (struct yaml_mark){0, 0};
}

static void report(struct reading *reading, struct section *section, enum key_id key,
                   const struct config_file *file, const struct yaml_node *node,
                   const struct schema_fault *fault)
{
    const char *path =
        file == section->file ? section_key_path(reading, section, config_keys[key].path) : "";
    problem_error(reading->problems, file, mark_at(node, fault->pointer), path,
                  "is no JSON Schema: %s%s%s", fault->pointer, *fault->pointer ? " " : "",
                  fault->message);
    section->bad[key] = true;
}

/* --- reading --- */

static struct config_schema *keep(struct reading *reading, struct schema *schema,
                                  struct json_object *document, const struct loading *loading)
{
    struct buf text = {0};
    struct config_schema *kept = arena_alloc(reading->lasting, sizeof *kept);
    json_write(&text, document);
    buf_str(&text, buf_view(&loading->found));
    *kept = (struct config_schema){.schema = schema,
                                   .text = arena_copy(reading->lasting, buf_view(&text)).at,
                                   .refers_to_files = loading->found.len > 0,
                                   .next = reading->compiled};
    reading->compiled = kept;
    buf_free(&text);
    return kept;
}

static struct config_schema *compile(struct reading *reading, struct section *section,
                                     enum key_id key, const struct config_file *file,
                                     const struct yaml_node *node, struct json_object *document,
                                     struct str uri, bool asserts)
{
    struct schema_fault fault;
    struct loading loading = {.reading = reading};
    const struct schema_options options = {
        .draft = SCHEMA_2020_12, .assert_formats = asserts, .load = load, .context = &loading};
    struct schema *schema = schema_compile(document, uri, &options, &fault);
    struct config_schema *kept = schema ? keep(reading, schema, document, &loading) : NULL;
    if (!schema)
        report(reading, section, key, file, node, &fault);
    json_object_put(document);
    buf_free(&loading.found);
    return kept;
}

static struct config_schema *read_file(struct reading *reading, struct section *section,
                                       enum key_id key, const struct yaml_node *named, bool asserts)
{
    struct json_object *document = NULL;
    struct error error;
    struct str name = named->kind == NODE_SCALAR ? name_in(named->text) : STR_ABSENT;
    const struct config_file *file = name.at ? file_named(reading, name) : NULL;
    if (!name.at)
        section_error(reading, section, key, "file: must be schemas/NAME.json, not %s",
                      yaml_node_shown(named, reading->scratch, false));
    else if (!file)
        section_error(reading, section, key, "there is no %.*s", STR_ARG(named->text));
    else if (file->unreadable)
        section_error(reading, section, key, "%.*s: %s", STR_ARG(named->text), file->unreadable);
    else if (!json_read(file->text, &document, &error))
        section_error(reading, section, key, "%.*s is not JSON: %s", STR_ARG(named->text),
                      error.message);
    if (section->bad[key])
        return NULL;
    const char *uri = arena_printf(reading->scratch, "promptgate:/%.*s", STR_ARG(named->text));
    return compile(reading, section, key, file, tree_of(reading, file), document, str_of(uri),
                   asserts);
}

struct config_schema *schema_read(struct reading *reading, struct section *section, enum key_id key,
                                  const struct yaml_node *node, bool asserts)
{
    struct buf text = {0};
    struct json_object *document = NULL;
    struct error error;
    const struct yaml_node *wrong, *named = yaml_node_get(node, "file");
    if (!node || section->bad[key])
        return NULL;
    if (named && node->count == 1)
        return read_file(reading, section, key, named, asserts);
    bool written = yaml_json_write(node, &text, &wrong);
    if (!written)
        problem_error(reading->problems, section->file, wrong->mark,
                      section_key_path(reading, section, config_keys[key].path),
                      "must be a number as JSON has it, not %s",
                      yaml_node_shown(wrong, reading->scratch, false));
    else if (!json_read(buf_view(&text), &document, &error))
        section_error(reading, section, key, "is no JSON: %s", error.message);
    section->bad[key] = section->bad[key] || !written;
    buf_free(&text);
    if (section->bad[key])
        return NULL;
    return compile(reading, section, key, section->file, node, document, STR(SCHEMAS_URI), asserts);
}
