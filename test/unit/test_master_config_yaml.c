#include "master/config/yaml_tree.h"

#include "shared/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct arena arena;
static char complaints[8192];

static void complain(void *context, struct yaml_mark mark, const char *message)
{
    (void)context;
    size_t len = strlen(complaints);
    snprintf(complaints + len, sizeof complaints - len, "%u:%u %s\n", mark.line, mark.column,
             message);
}

static const struct yaml_node *read_bytes(struct str text)
{
    arena_free(&arena);
    complaints[0] = '\0';
    return yaml_tree_read(text, &arena, complain, NULL);
}

static const struct yaml_node *read_good(const char *text)
{
    const struct yaml_node *root = read_bytes(str_of(text));
    assert_string_equal(complaints, "");
    assert_non_null(root);
    return root;
}

/* No tree, and one complaint. */
static void refused(const char *text, const char *complaint)
{
    assert_null(read_bytes(str_of(text)));
    assert_string_equal(complaints, complaint);
}

/* A tree, and complaints nevertheless. */
static const struct yaml_node *complained(const char *text, const char *complaint)
{
    const struct yaml_node *root = read_bytes(str_of(text));
    assert_non_null(root);
    assert_string_equal(complaints, complaint);
    return root;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

static void assert_place(const struct yaml_node *node, unsigned line, unsigned column)
{
    assert_non_null(node);
    assert_int_equal(node->mark.line, line);
    assert_int_equal(node->mark.column, column);
}

static void nodes_know_where_they_stand(void **state)
{
    (void)state;
    const struct yaml_node *root = read_good("# c\na: 1\nb:\n  - x\n  - { k: \"q\" }\n");
    assert_place(root, 2, 1);
    assert_place(yaml_node_get(root, "a"), 2, 4);
    const struct yaml_node *list = yaml_node_get(root, "b");
    assert_int_equal(list->kind, NODE_LIST);
    assert_int_equal(list->count, 2);
    assert_place(list->entries[0].value, 4, 5);
    assert_place(yaml_node_get(list->entries[1].value, "k"), 5, 10);
    assert_null(yaml_node_get(root, "c"));
    assert_null(yaml_node_get(list, "a"));
}

/* Edits cut the text at these bytes. */
static void offsets_are_bytes(void **state)
{
    (void)state;
    const char *text = "\xEF\xBB\xBF"
                       "\xC3\xA9\xE2\x82\xAC: 'o\xC3\xA9'\r\nkey: \"a\\n\"  # x\nb:  plain \n";
    const struct yaml_node *root = read_good(text);
    const struct yaml_node *quoted = yaml_node_get(root, "\xC3\xA9\xE2\x82\xAC");
    assert_place(quoted, 1, 5);
    assert_memory_equal(text + quoted->begin, "'o\xC3\xA9'", quoted->end - quoted->begin);
    assert_int_equal(quoted->end - quoted->begin, 5);
    const struct yaml_node *escaped = yaml_node_get(root, "key"), *plain = yaml_node_get(root, "b");
    assert_int_equal(escaped->style, STYLE_QUOTED);
    assert_int_equal(escaped->text.len, 2);
    assert_int_equal(escaped->end - escaped->begin, 5);
    assert_memory_equal(text + escaped->begin, "\"a\\n\"", 5);
    assert_int_equal(plain->end - plain->begin, 5);
    assert_memory_equal(text + plain->begin, "plain", 5);
}

static void plain_scalars_are_what_they_look_like(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum yaml_class class;
    } cases[] = {{"true", CLASS_BOOL},    {"false", CLASS_BOOL},    {"True", CLASS_STRING},
                 {"no", CLASS_STRING},    {"yes", CLASS_STRING},    {"on", CLASS_STRING},
                 {"null", CLASS_NULL},    {"~", CLASS_NULL},        {"", CLASS_NULL},
                 {"NULL", CLASS_STRING},  {"0", CLASS_NUMBER},      {"-12", CLASS_NUMBER},
                 {"0.5", CLASS_NUMBER},   {"1.", CLASS_STRING},     {".5", CLASS_STRING},
                 {"22:00", CLASS_STRING}, {"0x10", CLASS_STRING},   {"1e3", CLASS_STRING},
                 {"010", CLASS_STRING},   {"+1", CLASS_STRING},     {"1_000", CLASS_STRING},
                 {"\"1\"", CLASS_STRING}, {"'true'", CLASS_STRING}, {"'null'", CLASS_STRING},
                 {"'~'", CLASS_STRING},   {"1.2.3", CLASS_STRING},  {".inf", CLASS_STRING},
                 {"10MiB", CLASS_STRING}, {"''", CLASS_STRING}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        snprintf(text, sizeof text, "a: %s\n", cases[i].text);
        const struct yaml_node *node = yaml_node_get(read_good(text), "a");
        if (yaml_node_class(node) != cases[i].class)
            fail_msg("%s is read as class %d", cases[i].text, yaml_node_class(node));
    }
}

static void an_empty_file_is_null(void **state)
{
    (void)state;
    assert_true(yaml_node_is_null(read_good("")));
    assert_true(yaml_node_is_null(read_good("# only a comment\n\n")));
    assert_true(yaml_node_is_null(read_good("---\n")));
}

static void duplicate_keys_are_reported_with_both_places(void **state)
{
    (void)state;
    const struct yaml_node *root =
        complained("a: 1\nb: 2\n'a': 3\nc: { x: 1, x: 2, \"x\": 3 }\n",
                   "4:12 the key \"x\" is there twice: first on line 4, column 6\n"
                   "4:18 the key \"x\" is there twice: first on line 4, column 6\n"
                   "3:1 the key \"a\" is there twice: first on line 1, column 1\n");
    assert_int_equal(root->count, 3);
    assert_string_equal(yaml_node_get(root, "a")->text.at, "1");
    assert_string_equal(root->entries[2].key->text.at, "c");
}

static void tags_and_odd_keys_are_refused(void **state)
{
    (void)state;
    complained("a: !!str 1\n",
               "1:4 the tag tag:yaml.org,2002:str is not allowed: write the value without it\n");
    complained("! {a: 1}\n", "1:1 the tag ! is not allowed: write the value without it\n");
    const struct yaml_node *root =
        complained("? [a]\n: 1\nb: 2\n", "1:3 a key must be a plain text\n");
    assert_int_equal(root->count, 1);
    complained("a: \"x\\0y\"\n", "1:4 a NUL character cannot be part of a text\n");
    complained("a: 1\n---\nb: 1\n",
               "2:1 a second document begins here: a file holds one, so leave out the line ---\n");
}

static void aliases_share_the_anchors_node(void **state)
{
    (void)state;
    const struct yaml_node *root = read_good("a: &x { k: v }\nb: *x\nc: &x 2\nd: *x\n");
    assert_ptr_equal(yaml_node_get(root, "a"), yaml_node_get(root, "b"));
    assert_ptr_equal(yaml_node_get(root, "c"), yaml_node_get(root, "d"));
    assert_true(yaml_node_entry(root, "b")->alias);
    assert_false(yaml_node_entry(root, "a")->alias);
    refused("a: &x [ *x ]\n", "1:9 the alias *x stands inside what it names\n");
    refused("a: *y\n", "1:4 the alias *y has no anchor &y before it\n");
}

static void aliases_are_bounded(void **state)
{
    (void)state;
    struct buf text = {0};
    buf_puts(&text, "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n");
    for (int i = 1; i < 30; i++) {
        buf_printf(&text, "a%d: &a%d [", i, i);
        for (int j = 0; j < 10; j++)
            buf_printf(&text, "%s*a%d", j ? "," : "", i - 1);
        buf_puts(&text, "]\n");
    }
    refused(buf_cstr(&text),
            "5:38 too much: a file may hold 100000 values, those of aliases counted each time\n");
    buf_clear(&text);
    for (int i = 0; i <= YAML_TREE_MAX_ANCHORS; i++)
        buf_printf(&text, "- &a%d x\n", i);
    refused(buf_cstr(&text), "1001:3 too many anchors: a file may hold 1000\n");
    buf_free(&text);
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char text[4 * YAML_TREE_MAX_DEPTH] = {0};
    memset(text, '[', YAML_TREE_MAX_DEPTH);
    memset(text + YAML_TREE_MAX_DEPTH, ']', YAML_TREE_MAX_DEPTH);
    read_good(text);
    memset(text, '[', YAML_TREE_MAX_DEPTH + 1);
    memset(text + YAML_TREE_MAX_DEPTH + 1, ']', YAML_TREE_MAX_DEPTH + 1);
    refused(text, "1:65 nested too deeply: 64 levels at most\n");
}

static void syntax_errors_say_where(void **state)
{
    (void)state;
    refused("a: 1\n\tb: 2\n", "2:1 not valid YAML: indent with spaces, not with tabs\n");
    refused("a: [1\nb: 2\n", "2:2 not valid YAML: did not find expected ',' or ']', while parsing "
                             "a flow sequence from line 1 on\n");
    assert_null(read_bytes(str_of("a: 'x\n")));
    assert_memory_equal(complaints, "2:1 not valid YAML: ", 20);
}

static void foreign_bytes_say_where(void **state)
{
    (void)state;
    assert_null(read_bytes((struct str){"a: 1\nb: \0x\n", 11}));
    assert_string_equal(complaints, "2:4 a control character cannot be part of the file\n");
    refused("a: \xC3\xA9\xFF\n", "1:5 the text is not UTF-8: save the file as UTF-8\n");
    refused("a: \xC2\x9F\n", "1:4 a control character cannot be part of the file\n");
    refused("a\n\xEF\xBF\xBE\n", "2:1 a control character cannot be part of the file\n");
}

static void what_is_shown_is_one_short_line(void **state)
{
    (void)state;
    assert_string_equal(yaml_shown(STR("a\nb\x1B[1m"), &arena), "\"a?b?[1m\"");
    char text[200];
    memset(text, 'x', sizeof text);
    assert_int_equal(strlen(yaml_shown((struct str){text, sizeof text}, &arena)), 60 + 2 + 3);
}

/* Whatever is done to a file, reading it ends with a tree or a complaint. */
static void damaged_text_is_read_or_refused(void **state)
{
    (void)state;
    static const char sample[] = "a: &x {k: [1, \"\\u00e9\", 'q'], ? r : *x }\n"
                                 "b: |2-\n   text {{input}}\n  more\n? >+\n  f\n: *x\n- \n...\n"
                                 "c: !t &y\n  - ~\n  - - deep\n    - \xC3\xA9\n# end\n";
    static const char bytes[] = "{}[]:,-&*!|>'\"%@`#?\n \t\\x\xC3\x00~";
    unsigned seed = 1;
    for (int round = 0; round < 4000; round++) {
        char text[sizeof sample];
        size_t len = sizeof sample - 1;
        memcpy(text, sample, len);
        for (int i = 0; i < 1 + round % 6; i++) {
            seed = seed * 1103515245 + 12345;
            text[(seed >> 8) % len] = bytes[(seed >> 24) % (sizeof bytes - 1)];
        }
        if (round % 3 == 0)
            len = (seed >> 4) % len;
        const struct yaml_node *root = read_bytes((struct str){text, len});
        assert_true(root || complaints[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_know_where_they_stand),
        cmocka_unit_test(offsets_are_bytes),
        cmocka_unit_test(plain_scalars_are_what_they_look_like),
        cmocka_unit_test(an_empty_file_is_null),
        cmocka_unit_test(duplicate_keys_are_reported_with_both_places),
        cmocka_unit_test(tags_and_odd_keys_are_refused),
        cmocka_unit_test(aliases_share_the_anchors_node),
        cmocka_unit_test(aliases_are_bounded),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(syntax_errors_say_where),
        cmocka_unit_test(foreign_bytes_say_where),
        cmocka_unit_test(what_is_shown_is_one_short_line),
        cmocka_unit_test(damaged_text_is_read_or_refused),
    };
    return cmocka_run_group_tests_name("yaml_tree", tests, NULL, teardown);
}
