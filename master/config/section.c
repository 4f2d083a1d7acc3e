#include "master/config/section.h"

#include "shared/base/buf.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

const char *section_key_path(struct reading *reading, const struct section *section,
                             const char *key)
{
    if (!*section->path)
        return key;
    return arena_printf(reading->scratch, "%s.%s", section->path, key);
}

void section_error(struct reading *reading, struct section *section, enum key_id key,
                   const char *format, ...)
{
    char *what = NULL;
    va_list args;
    va_start(args, format);
    int len = vasprintf(&what, format, args);
    va_end(args);
    const struct yaml_node *node = section->at[key];
    problem_error(reading->problems, section->file, node ? node->mark : section->mark,
                  section_key_path(reading, section, config_keys[key].path), "%s",
                  len < 0 ? "is wrong" : what);
    if (len >= 0)
        free(what);
    section->bad[key] = true;
}

void section_warning(struct reading *reading, const struct section *section, enum key_id key,
                     const char *what)
{
    const struct yaml_node *node = section->at[key];
    problem_warning(reading->problems, section->file, node ? node->mark : section->mark,
                    section_key_path(reading, section, config_keys[key].path), "%s", what);
}

const char *nearest_name(const char *const *names, size_t count, struct str given)
{
    size_t best = given.len <= 3 ? 2 : given.len <= 6 ? 3 : 4; /* first distance that is too far */
    const char *nearest = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t distance = str_distance(str_of(names[i]), given, best);
        if (distance < best) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

/* Where the section's draft keeps the key's value. */
static void *field_of(struct section *section, const struct config_key *key)
{
    return (char *)section + key->offset;
}

static void store(void *field, enum value_type type, const union value *value)
{
    switch (type) {
    case VALUE_BOOL:
        *(bool *)field = value->truth;
        break;
    case VALUE_NUMBER:
        *(double *)field = value->decimal;
        break;
    case VALUE_ENUM:
        *(int *)field = value->choice;
        break;
    case VALUE_UUID:
        *(struct uuid *)field = value->uuid;
        break;
    case VALUE_HASH:
        *(struct value_hash *)field = value->hash;
        break;
    case VALUE_INT:
    case VALUE_PRICE:
    case VALUE_MONEY:
    case VALUE_COUNT:
    case VALUE_SIZE:
    case VALUE_DURATION:
    case VALUE_TIME:
        *(int64_t *)field = value->number;
        break;
    default:
        *(const char **)field = value->text;
    }
}

static bool is_node_type(enum value_type type)
{
    return type == VALUE_LIST || type == VALUE_MAP || type == VALUE_ADDRESSES;
}

static void never_complain(void *context, struct yaml_mark mark, const char *message)
{
    (void)context, (void)mark, (void)message;
    abort(); /* a default of the table that is not YAML */
}

static void store_nothing(void *field, enum value_type type)
{
    union value nothing = {0};
    if (type == VALUE_NUMBER)
        nothing.decimal = NAN;
    if (type == VALUE_TIME || type == VALUE_MONEY)
        nothing.number = INT64_MAX;
    if (type == VALUE_PRICE)
        nothing.number = -1;
    if (is_node_type(type))
        *(const struct yaml_node **)field = NULL;
    else if (type == VALUE_UUID)
        *(struct uuid *)field = (struct uuid){0};
    else if (type == VALUE_HASH)
        *(struct value_hash *)field = (struct value_hash){0};
    else
        store(field, type, &nothing);
}

static void store_default(struct reading *reading, struct section *section,
                          const struct config_key *key)
{
    void *field = field_of(section, key);
    union value value;
    if (!key->standard || key->standard[0] == '=') {
        store_nothing(field, key->type);
    } else if (is_node_type(key->type)) {
        *(const struct yaml_node **)field =
            yaml_tree_read(str_of(key->standard), reading->scratch, never_complain, NULL);
    } else {
        if (!value_parse(key->type, key->limits, str_of(key->standard), &value))
            abort(); /* a broken table: the unit test of the table finds it first */
        store(field, key->type, &value);
    }
}

/* Which classes of scalars a type can be read from. */
static bool class_fits(enum value_type type, enum yaml_class class)
{
    switch (type) {
    case VALUE_BOOL:
        return class == CLASS_BOOL;
    case VALUE_INT:
    case VALUE_PRICE:
    case VALUE_MONEY:
    case VALUE_NUMBER:
        return class == CLASS_NUMBER;
    case VALUE_COUNT:
    case VALUE_SIZE:
    case VALUE_DURATION:
        return class == CLASS_NUMBER || class == CLASS_STRING;
    case VALUE_SCALAR:
        return class != CLASS_NULL;
    default:
        return class == CLASS_STRING;
    }
}

static bool is_text_type(enum value_type type)
{
    return type == VALUE_TEXT || type == VALUE_NAME || type == VALUE_SECRET;
}

/* "auto, text, json" of "auto|text|json". */
static const char *listed(struct arena *arena, const char *choices)
{
    const char *list = "", *separator = "";
    struct str rest = str_of(choices);
    while (rest.at) {
        struct str name = str_split(&rest, '|');
        list = arena_printf(arena, "%s%s%.*s", list, separator, STR_ARG(name));
        separator = ", ";
    }
    return list;
}

/* "a size in bytes, or with KiB, MiB or GiB, from 1KiB to 1MiB" */
static const char *wanted(struct arena *arena, const struct config_key *key)
{
    const char *limits = key_limits_shown(key), *what = value_type_wanted(key->type);
    const char *dots = strstr(limits, "..");
    if (key->type == VALUE_ENUM && !strchr(limits, '|'))
        return limits;
    if (key->type == VALUE_ENUM)
        return arena_printf(arena, "%s %s", what, listed(arena, limits));
    if (!dots)
        return what;
    const char *unit = key->type == VALUE_TEXT ? " bytes long" : "";
    return arena_printf(arena, "%s, %s%.*s to %s%s", what, *unit ? "" : "from ",
                        (int)(dots - limits), limits, dots + 2, unit);
}

static const char *enum_hint(struct reading *reading, const struct config_key *key, struct str text)
{
    enum { MOST = 32 };
    const char *names[MOST];
    size_t count = 0;
    for (struct str name; count < MOST && (name = value_choice(key->limits, (int)count)).at;)
        names[count++] = arena_copy(reading->scratch, name).at;
    const char *near = nearest_name(names, count, text);
    return near ? arena_printf(reading->scratch, "; did you mean %s?", near) : "";
}

static void report_type(struct reading *reading, struct section *section,
                        const struct config_key *key, const struct yaml_node *node)
{
    struct arena *arena = reading->scratch;
    enum key_id id = (enum key_id)(key - config_keys);
    bool hide = key->type == VALUE_SECRET || key->type == VALUE_HASH;
    const char *shown = yaml_node_shown(node, arena, hide);
    const char *hint = "";
    bool plain_other = node->kind == NODE_SCALAR && yaml_node_class(node) != CLASS_STRING &&
                       !yaml_node_is_null(node);
    if (is_text_type(key->type) && plain_other)
        hint = "; put it in quotes";
    else if (yaml_node_is_null(node) && !key->required && key->standard)
        hint =
            arena_printf(arena, "; leave the key out for the default, %s", key_standard_shown(key));
    else if (key->type == VALUE_ENUM && node->kind == NODE_SCALAR)
        hint = enum_hint(reading, key, node->text);
    section_error(reading, section, id, "must be %s, not %s%s", wanted(arena, key), shown, hint);
}

/* Null means absent, but not where that would quietly give something else than nothing. */
static bool null_is_absent(const struct config_key *key)
{
    if (key->required || key->type == VALUE_LIST)
        return false;
    return !key->standard || key->standard[0] == '=' || key->standard[0] == '\0';
}

static bool read_node_value(const struct config_key *key, const struct yaml_node *node, void *field)
{
    bool list = node->kind == NODE_LIST,
         text = yaml_node_class(node) == CLASS_STRING && node->kind == NODE_SCALAR;
    bool fits = key->type == VALUE_MAP    ? node->kind == NODE_MAP
                : key->type == VALUE_LIST ? list
                                          : list || text || node->kind == NODE_MAP;
    if (fits)
        *(const struct yaml_node **)field = node;
    return fits;
}

static void read_value(struct reading *reading, struct section *section, enum key_id id,
                       const struct yaml_node *node)
{
    const struct config_key *key = &config_keys[id];
    void *field = field_of(section, key);
    section->at[id] = node;
    if (yaml_node_is_null(node) && null_is_absent(key)) {
        section->at[id] = NULL;
        return;
    }
    if (is_node_type(key->type)) {
        if (!read_node_value(key, node, field))
            report_type(reading, section, key, node);
        return;
    }
    union value value;
    bool fits = node->kind == NODE_SCALAR && class_fits(key->type, yaml_node_class(node));
    struct str text = fits ? arena_copy(reading->lasting, node->text) : STR_ABSENT;
    if (fits && value_parse(key->type, key->limits, text, &value))
        store(field, key->type, &value);
    else
        report_type(reading, section, key, node);
}

/* The part of a key's path behind `group` ("http."), when the key is in it. */
static const char *path_within(const struct config_key *key, const struct section *section,
                               const char *group)
{
    size_t len = strlen(group);
    if (key->section != section->id || strncmp(key->path, group, len) != 0)
        return NULL;
    return key->path + len;
}

enum match { MATCH_NONE, MATCH_KEY, MATCH_GROUP };

static enum match find(const struct section *section, const char *group, struct str name,
                       enum key_id *id)
{
    for (unsigned i = 0; i < KEYS_COUNT; i++) {
        const char *path = path_within(&config_keys[i], section, group);
        if (!path || !str_starts(str_of(path), name))
            continue;
        *id = i;
        if (path[name.len] == '\0')
            return MATCH_KEY;
        if (path[name.len] == '.' && name.len > 0)
            return MATCH_GROUP;
    }
    return MATCH_NONE;
}

/* The names that may stand in `group`, each once. */
static size_t known_names(struct reading *reading, const struct section *section, const char *group,
                          const char *names[KEYS_COUNT])
{
    size_t count = 0;
    for (size_t i = 0; i < KEYS_COUNT; i++) {
        const char *path = path_within(&config_keys[i], section, group);
        if (!path)
            continue;
        const char *name = arena_copy(reading->scratch, (struct str){path, strcspn(path, ".")}).at;
        if (count == 0 || strcmp(names[count - 1], name) != 0)
            names[count++] = name;
    }
    return count;
}

/* `max_body` at the top is known as http.max_body. */
static const char *elsewhere(const struct section *section, struct str name)
{
    for (size_t i = 0; i < KEYS_COUNT; i++) {
        if (config_keys[i].section != section->id)
            continue;
        const char *dot = strrchr(config_keys[i].path, '.');
        if (str_eq(str_of(dot ? dot + 1 : config_keys[i].path), name))
            return config_keys[i].path;
    }
    return NULL;
}

static void report_unknown(struct reading *reading, const struct section *section,
                           const char *group, const struct yaml_node *key)
{
    const char *names[KEYS_COUNT];
    size_t count = known_names(reading, section, group, names);
    const char *near = nearest_name(names, count, key->text);
    if (!near)
        near = elsewhere(section, key->text);
    struct buf hint = {0};
    if (near)
        buf_printf(&hint, "did you mean %s?", near);
    else
        buf_puts(&hint, "known here are ");
    for (size_t i = 0; !near && i < count; i++)
        buf_printf(&hint, "%s%s", i ? ", " : "", names[i]);
    bool plain = config_name_valid(key->text);
    const char *name = plain ? key->text.at : yaml_shown(key->text, reading->scratch);
    problem_error(
        reading->problems, section->file, key->mark,
        section_key_path(reading, section, arena_printf(reading->scratch, "%s%s", group, name)),
        "unknown key; %s", buf_cstr(&hint));
    buf_free(&hint);
}

static void read_group(struct reading *reading, struct section *section, const char *group,
                       const struct yaml_node *map);

static void read_entry(struct reading *reading, struct section *section, const char *group,
                       const struct yaml_entry *entry)
{
    enum key_id id;
    enum match match = find(section, group, entry->key->text, &id);
    if (match == MATCH_NONE) {
        report_unknown(reading, section, group, entry->key);
    } else if (match == MATCH_KEY) {
        read_value(reading, section, id, entry->value);
    } else if (entry->value->kind == NODE_MAP) {
        const char *inner = arena_printf(reading->scratch, "%s%s.", group, entry->key->text.at);
        read_group(reading, section, inner, entry->value);
    } else if (!yaml_node_is_null(entry->value)) {
        const char *name = arena_printf(reading->scratch, "%s%s", group, entry->key->text.at);
        problem_error(reading->problems, section->file, entry->value->mark,
                      section_key_path(reading, section, name), "must be a mapping of keys, not %s",
                      yaml_node_shown(entry->value, reading->scratch, false));
    }
}

static void read_group(struct reading *reading, struct section *section, const char *group,
                       const struct yaml_node *map)
{
    for (size_t i = 0; i < map->count; i++)
        read_entry(reading, section, group, &map->entries[i]);
}

void section_missing(struct reading *reading, struct section *section, enum key_id key)
{
    section_error(reading, section, key, "missing: it must be %s",
                  wanted(reading->scratch, &config_keys[key]));
}

static void report_missing(struct reading *reading, struct section *section)
{
    for (unsigned i = 0; i < KEYS_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        if (key->section != section->id || !key->required || section->at[i])
            continue;
        section_missing(reading, section, i);
    }
}

bool section_read(struct reading *reading, struct section *section)
{
    for (size_t i = 0; i < KEYS_COUNT; i++)
        if (config_keys[i].section == section->id)
            store_default(reading, section, &config_keys[i]);
    const struct yaml_node *node = section->node;
    if (node && node->kind != NODE_MAP && !yaml_node_is_null(node)) {
        problem_error(reading->problems, section->file, node->mark, section->path,
                      "must be a mapping of keys, not %s",
                      yaml_node_shown(node, reading->scratch, false));
        node = NULL;
    }
    if (!node) {
        memset(section->bad, true, sizeof section->bad);
        return false;
    }
    if (node->kind == NODE_MAP)
        read_group(reading, section, "", node);
    report_missing(reading, section);
    return true;
}
