#include "master/config/yaml_tree.h"

#include "shared/base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

struct anchor {
    struct anchor *older;
    const char *name;
    struct yaml_node *node;
    bool complete;
};

struct builder {
    yaml_parser_t parser;
    struct str text;
    struct arena *arena;
    yaml_tree_complain *complain;
    void *context;
    struct anchor *anchors;
    size_t anchors_count;
    size_t nodes;
    unsigned depth;
    size_t known_index, known_offset; /* a character's number and its byte, to count on from */
};

static void complain(struct builder *b, struct yaml_mark mark, const char *message)
{
    b->complain(b->context, mark, message);
}

static struct yaml_mark mark_of(yaml_mark_t mark)
{
    return (struct yaml_mark){(unsigned)mark.line + 1, (unsigned)mark.column + 1};
}

static bool is_continuation(char byte)
{
    return ((unsigned char)byte & 0xC0) == 0x80;
}

/* libyaml counts characters; edits need bytes. Marks come nearly in order, so walk from the last.
 */
static size_t offset_of(struct builder *b, size_t index)
{
    size_t offset = b->known_offset;
    for (; b->known_index < index && offset < b->text.len; b->known_index++)
        do
            offset++;
        while (offset < b->text.len && is_continuation(b->text.at[offset]));
    for (; b->known_index > index && offset > 0; b->known_index--)
        do
            offset--;
        while (offset > 0 && is_continuation(b->text.at[offset]));
    b->known_offset = offset;
    return offset;
}

static void complain_of_syntax(struct builder *b)
{
    const yaml_parser_t *parser = &b->parser;
    char message[400];
    yaml_mark_t mark = parser->problem_mark;
    size_t offset = offset_of(b, mark.index);
    if (offset < b->text.len && b->text.at[offset] == '\t')
        snprintf(message, sizeof message, "not valid YAML: indent with spaces, not with tabs");
    else if (parser->context)
        snprintf(message, sizeof message, "not valid YAML: %s, %s from line %zu on",
                 parser->problem, parser->context, parser->context_mark.line + 1);
    else
        snprintf(message, sizeof message, "not valid YAML: %s",
                 parser->problem ? parser->problem : "it cannot be read");
    complain(b, mark_of(mark), message);
}

static bool next_event(struct builder *b, yaml_event_t *event)
{
    if (yaml_parser_parse(&b->parser, event))
        return true;
    complain_of_syntax(b);
    return false;
}

static bool count_nodes(struct builder *b, struct yaml_mark mark, size_t more)
{
    if (more <= YAML_TREE_MAX_NODES - b->nodes) {
        b->nodes += more;
        return true;
    }
    char message[120];
    snprintf(message, sizeof message,
             "too much: a file may hold %d values, those of aliases counted each time",
             YAML_TREE_MAX_NODES);
    complain(b, mark, message);
    return false;
}

static struct yaml_node *node_new(struct builder *b, enum yaml_kind kind, const yaml_event_t *event)
{
    struct yaml_mark mark = mark_of(event->start_mark);
    if (!count_nodes(b, mark, 1))
        return NULL;
    struct yaml_node *node = arena_alloc(b->arena, sizeof *node);
    node->kind = kind;
    node->mark = mark;
    node->begin = offset_of(b, event->start_mark.index);
    node->end = offset_of(b, event->end_mark.index);
    node->expanded = 1;
    return node;
}

static bool anchor_add(struct builder *b, const yaml_char_t *name, struct yaml_node *node)
{
    if (!name)
        return true;
    if (++b->anchors_count > YAML_TREE_MAX_ANCHORS) {
        complain(b, node->mark, "too many anchors: a file may hold 1000");
        return false;
    }
    struct anchor *anchor = arena_alloc(b->arena, sizeof *anchor);
    anchor->name = arena_strdup(b->arena, (const char *)name);
    anchor->node = node;
    anchor->older = b->anchors;
    b->anchors = anchor;
    return true;
}

static void anchor_complete(struct builder *b, const yaml_char_t *name,
                            const struct yaml_node *node)
{
    if (!name)
        return;
    for (struct anchor *anchor = b->anchors; anchor; anchor = anchor->older)
        if (anchor->node == node)
            anchor->complete = true;
}

static void refuse_tag(struct builder *b, const yaml_char_t *tag, const yaml_event_t *event)
{
    if (!tag)
        return;
    char message[160];
    snprintf(message, sizeof message, "the tag %.80s is not allowed: write the value without it",
             (const char *)tag);
    complain(b, mark_of(event->start_mark), message);
}

static enum yaml_style style_of(yaml_scalar_style_t style)
{
    if (style == YAML_PLAIN_SCALAR_STYLE)
        return STYLE_PLAIN;
    return style == YAML_LITERAL_SCALAR_STYLE || style == YAML_FOLDED_SCALAR_STYLE ? STYLE_BLOCK
                                                                                   : STYLE_QUOTED;
}

static struct yaml_node *read_scalar(struct builder *b, const yaml_event_t *event)
{
    struct yaml_node *node = node_new(b, NODE_SCALAR, event);
    if (!node || !anchor_add(b, event->data.scalar.anchor, node))
        return NULL;
    refuse_tag(b, event->data.scalar.tag, event);
    struct str text = {(const char *)event->data.scalar.value, event->data.scalar.length};
    if (memchr(text.at, '\0', text.len))
        complain(b, node->mark, "a NUL character cannot be part of a text");
    node->style = style_of(event->data.scalar.style);
    node->text = str_of(arena_strdup(b->arena, text.at));
    anchor_complete(b, event->data.scalar.anchor, node);
    return node;
}

static struct yaml_node *read_alias(struct builder *b, const yaml_event_t *event)
{
    struct yaml_mark mark = mark_of(event->start_mark);
    const char *name = (const char *)event->data.alias.anchor;
    const struct anchor *anchor = b->anchors;
    while (anchor && strcmp(anchor->name, name) != 0)
        anchor = anchor->older;
    char message[160];
    if (anchor && anchor->complete)
        return count_nodes(b, mark, anchor->node->expanded) ? anchor->node : NULL;
    if (anchor)
        snprintf(message, sizeof message, "the alias *%.60s stands inside what it names", name);
    else
        snprintf(message, sizeof message, "the alias *%.60s has no anchor &%.60s before it", name,
                 name);
    complain(b, mark, message);
    return NULL;
}

static struct yaml_node *read_node(struct builder *b, const yaml_event_t *event);

struct entries {
    struct yaml_entry *at;
    size_t count, capacity;
};

static void entries_add(struct entries *entries, struct arena *arena, struct yaml_entry entry)
{
    if (entries->count == entries->capacity) {
        size_t capacity = entries->capacity ? entries->capacity * 2 : 8;
        struct yaml_entry *at = arena_alloc(arena, capacity * sizeof *at);
        if (entries->count)
            memcpy(at, entries->at, entries->count * sizeof *at);
        entries->at = at;
        entries->capacity = capacity;
    }
    entries->at[entries->count++] = entry;
}

static int compare_keys(const void *left, const void *right)
{
    const struct yaml_node *a = ((const struct yaml_entry *)left)->key;
    const struct yaml_node *b = ((const struct yaml_entry *)right)->key;
    int order = strcmp(a->text.at, b->text.at);
    return order != 0 ? order : (a->begin > b->begin) - (a->begin < b->begin);
}

static int compare_places(const void *left, const void *right)
{
    const struct yaml_node *a = ((const struct yaml_entry *)left)->key;
    const struct yaml_node *b = ((const struct yaml_entry *)right)->key;
    return (a->begin > b->begin) - (a->begin < b->begin);
}

/* Reports each key that was there before, and drops it. */
static void drop_duplicates(struct builder *b, struct yaml_node *map)
{
    if (map->count < 2)
        return;
    qsort(map->entries, map->count, sizeof *map->entries, compare_keys);
    size_t kept = 1;
    for (size_t i = 1; i < map->count; i++) {
        const struct yaml_node *first = map->entries[kept - 1].key, *key = map->entries[i].key;
        if (!str_eq(first->text, key->text)) {
            map->entries[kept++] = map->entries[i];
            continue;
        }
        complain(b, key->mark,
                 arena_printf(b->arena, "the key %s is there twice: first on line %u, column %u",
                              yaml_shown(key->text, b->arena), first->mark.line,
                              first->mark.column));
    }
    map->count = kept;
    qsort(map->entries, map->count, sizeof *map->entries, compare_places);
}

/* NULL with `*fatal` unset: the key was refused, its value is to be skipped. */
static const struct yaml_node *read_key(struct builder *b, const yaml_event_t *event, bool *fatal)
{
    const struct yaml_node *key = read_node(b, event);
    *fatal = !key;
    if (key && key->kind == NODE_SCALAR && event->type == YAML_SCALAR_EVENT)
        return key;
    if (key)
        complain(b, mark_of(event->start_mark), "a key must be a plain text");
    return NULL;
}

/* Reads one entry that begins with `event`; false ends everything. */
static bool read_entry(struct builder *b, struct yaml_node *parent, struct entries *entries,
                       const yaml_event_t *event)
{
    struct yaml_entry entry = {0};
    yaml_event_t value_event = *event;
    if (parent->kind == NODE_MAP) {
        bool fatal;
        entry.key = read_key(b, event, &fatal);
        if (fatal || !next_event(b, &value_event))
            return false;
    }
    entry.value = read_node(b, &value_event);
    entry.alias = value_event.type == YAML_ALIAS_EVENT;
    if (parent->kind == NODE_MAP)
        yaml_event_delete(&value_event);
    if (!entry.value)
        return false;
    parent->expanded += entry.value->expanded + (parent->kind == NODE_MAP);
    if (entry.key || parent->kind == NODE_LIST)
        entries_add(entries, b->arena, entry);
    return true;
}

static bool read_entries(struct builder *b, struct yaml_node *node)
{
    yaml_event_type_t last =
        node->kind == NODE_MAP ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;
    struct entries entries = {0};
    for (;;) {
        yaml_event_t event;
        if (!next_event(b, &event))
            return false;
        bool ended = event.type == last;
        if (ended)
            node->end = offset_of(b, event.end_mark.index);
        bool good = ended || read_entry(b, node, &entries, &event);
        yaml_event_delete(&event);
        if (!good)
            return false;
        if (ended)
            break;
    }
    node->entries = entries.at;
    node->count = entries.count;
    return true;
}

static struct yaml_node *read_collection(struct builder *b, const yaml_event_t *event)
{
    bool map = event->type == YAML_MAPPING_START_EVENT;
    struct yaml_node *node = node_new(b, map ? NODE_MAP : NODE_LIST, event);
    const yaml_char_t *anchor =
        map ? event->data.mapping_start.anchor : event->data.sequence_start.anchor;
    if (!node || !anchor_add(b, anchor, node))
        return NULL;
    refuse_tag(b, map ? event->data.mapping_start.tag : event->data.sequence_start.tag, event);
    if (b->depth == YAML_TREE_MAX_DEPTH) {
        complain(b, node->mark, "nested too deeply: 64 levels at most");
        return NULL;
    }
    b->depth++;
    bool good = read_entries(b, node);
    b->depth--;
    if (!good)
        return NULL;
    if (map)
        drop_duplicates(b, node);
    anchor_complete(b, anchor, node);
    return node;
}

static struct yaml_node *read_node(struct builder *b, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return read_scalar(b, event);
    case YAML_ALIAS_EVENT:
        return read_alias(b, event);
    default:
        return read_collection(b, event);
    }
}

/* Reads on to the document's first node; `*event` is then that node's, or the stream's end. */
static bool find_document(struct builder *b, yaml_event_t *event)
{
    for (;;) {
        if (!next_event(b, event))
            return false;
        if (event->type != YAML_STREAM_START_EVENT && event->type != YAML_DOCUMENT_START_EVENT)
            return true;
        yaml_event_delete(event);
    }
}

static bool refuse_more(struct builder *b)
{
    yaml_event_t event;
    if (!next_event(b, &event)) /* the document's end */
        return false;
    yaml_event_delete(&event);
    if (!next_event(b, &event))
        return false;
    if (event.type == YAML_DOCUMENT_START_EVENT)
        complain(b, mark_of(event.start_mark),
                 "a second document begins here: a file holds one, so leave out the line ---");
    yaml_event_delete(&event);
    return true;
}

static struct yaml_node *read_stream(struct builder *b)
{
    yaml_event_t event;
    if (!find_document(b, &event))
        return NULL;
    struct yaml_node *root;
    if (event.type == YAML_STREAM_END_EVENT) {
        root = arena_alloc(b->arena, sizeof *root);
        root->mark = (struct yaml_mark){1, 1};
        root->text = STR("");
        root->expanded = 1;
    } else {
        root = read_node(b, &event);
        if (root && !refuse_more(b))
            root = NULL;
    }
    yaml_event_delete(&event);
    return root;
}

/* What YAML 1.1 (section 5.1) keeps out of a file. */
static bool is_printable(const char *at, size_t length)
{
    unsigned char first = (unsigned char)at[0];
    if (length == 1)
        return (first >= 0x20 && first != 0x7F) || first == '\n' || first == '\r' || first == '\t';
    if (length == 2 && first == 0xC2)
        return (unsigned char)at[1] >= 0xA0 || (unsigned char)at[1] == 0x85;
    return length != 3 ||
           (memcmp(at, "\xEF\xBF\xBE", 3) != 0 && memcmp(at, "\xEF\xBF\xBF", 3) != 0);
}

/* libyaml would say where by a byte's number only. */
static bool check_bytes(struct builder *b)
{
    struct yaml_mark mark = {1, 1};
    for (size_t at = 0; at < b->text.len;) {
        size_t length = utf8_sequence(b->text.at + at, b->text.len - at);
        const char *problem = NULL;
        if (length == 0)
            problem = "the text is not UTF-8: save the file as UTF-8";
        else if (!is_printable(b->text.at + at, length))
            problem = "a control character cannot be part of the file";
        if (problem) {
            complain(b, mark, problem);
            return false;
        }
        mark.column++;
        if (b->text.at[at] == '\n')
            mark = (struct yaml_mark){mark.line + 1, 1};
        at += length;
    }
    return true;
}

const struct yaml_node *yaml_tree_read(struct str text, struct arena *arena,
                                       yaml_tree_complain *complain_of, void *context)
{
    struct builder b = {.text = text, .arena = arena, .complain = complain_of, .context = context};
    if (!check_bytes(&b))
        return NULL;
    size_t skip = str_starts(text, STR("\xEF\xBB\xBF")) ? 3 : 0;
    b.known_offset = skip;
    if (!yaml_parser_initialize(&b.parser)) {
        complain(&b, (struct yaml_mark){0, 0}, "out of memory");
        return NULL;
    }
    yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&b.parser, (const unsigned char *)text.at + skip, text.len - skip);
    struct yaml_node *root = read_stream(&b);
    yaml_parser_delete(&b.parser);
    return root;
}

static size_t digits(struct str s, size_t from)
{
    size_t at = from;
    while (at < s.len && s.at[at] >= '0' && s.at[at] <= '9')
        at++;
    return at - from;
}

/* -?(0|[1-9][0-9]*)(\.[0-9]+)? */
static bool is_number(struct str s)
{
    size_t at = s.len > 0 && s.at[0] == '-';
    size_t whole = digits(s, at);
    if (whole == 0 || (whole > 1 && s.at[at] == '0'))
        return false;
    at += whole;
    if (at == s.len)
        return true;
    size_t fraction = s.at[at] == '.' ? digits(s, at + 1) : 0;
    return fraction > 0 && at + 1 + fraction == s.len;
}

enum yaml_class yaml_node_class(const struct yaml_node *node)
{
    struct str text = node->text;
    if (node->kind != NODE_SCALAR || node->style != STYLE_PLAIN)
        return CLASS_STRING;
    if (text.len == 0 || str_eq(text, STR("null")) || str_eq(text, STR("~")))
        return CLASS_NULL;
    if (str_eq(text, STR("true")) || str_eq(text, STR("false")))
        return CLASS_BOOL;
    return is_number(text) ? CLASS_NUMBER : CLASS_STRING;
}

bool yaml_node_is_null(const struct yaml_node *node)
{
    return yaml_node_class(node) == CLASS_NULL;
}

const struct yaml_entry *yaml_node_entry(const struct yaml_node *map, const char *key)
{
    if (!map || map->kind != NODE_MAP)
        return NULL;
    for (size_t i = 0; i < map->count; i++)
        if (str_eq(map->entries[i].key->text, str_of(key)))
            return &map->entries[i];
    return NULL;
}

const struct yaml_node *yaml_node_get(const struct yaml_node *map, const char *key)
{
    const struct yaml_entry *entry = yaml_node_entry(map, key);
    return entry ? entry->value : NULL;
}

const char *yaml_shown(struct str text, struct arena *arena)
{
    enum { SHOWN_BYTES = 60 };
    struct buf shown = {0};
    buf_putc(&shown, '"');
    size_t at = 0;
    while (at < text.len && at < SHOWN_BYTES) {
        size_t length = utf8_sequence(text.at + at, text.len - at);
        if (length == 0 || (unsigned char)text.at[at] < 0x20 || text.at[at] == 0x7F)
            buf_putc(&shown, '?');
        else
            buf_append(&shown, text.at + at, length);
        at += length ? length : 1;
    }
    buf_puts(&shown, at < text.len ? "…\"" : "\"");
    const char *copy = arena_copy(arena, buf_view(&shown)).at;
    buf_free(&shown);
    return copy;
}

const char *yaml_node_shown(const struct yaml_node *node, struct arena *arena, bool hide)
{
    if (node->kind != NODE_SCALAR)
        return node->kind == NODE_MAP ? "a mapping" : "a list";
    if (yaml_node_is_null(node))
        return "null";
    if (hide)
        return "what stands here";
    if (node->style == STYLE_PLAIN && yaml_node_class(node) != CLASS_STRING)
        return arena_strdup(arena, node->text.at);
    return yaml_shown(node->text, arena);
}
