#include "shared/token_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct config_project project = {.name = "demo", .id = {{1, 2, 3}}};
static struct config_endpoint summarize = {.slug = "summarize"}, translate = {.slug = "translate"};

static struct config_token token_numbered(unsigned number, const char *name)
{
    struct config_token token = {.name = name,
                                 .account = number,
                                 .project = &project,
                                 .scopes = SCOPE_CHAT | SCOPE_USAGE,
                                 .all_endpoints = true,
                                 .active = true,
                                 .expires_wall_ms = INT64_MAX};
    sha256((struct str){(const char *)&number, sizeof number}, token.hash);
    return token;
}

static struct token_table *table_of(const struct config_token *tokens, size_t count)
{
    struct error error;
    struct token_table *table = token_table_new(tokens, count, &error);
    assert_non_null(table);
    return table;
}

static void a_token_is_found_by_its_hash(void **state)
{
    const struct config_endpoint *list[] = {&translate};
    struct config_token tokens[3] = {token_numbered(1, "web"), token_numbered(2, "batch:pg_live_x"),
                                     token_numbered(3, "gone")};
    (void)state;
    tokens[1].all_endpoints = false;
    tokens[1].endpoints = list;
    tokens[1].endpoints_count = 1;
    tokens[1].project = NULL;
    tokens[1].expires_wall_ms = 77;
    tokens[2].active = false;
    struct token_table *table = table_of(tokens, 3);
    const struct token_entry *web = token_find(table, tokens[0].hash);
    assert_string_equal(web->texts, "web");
    assert_int_equal(web->account, 1);
    assert_int_equal(web->scopes, SCOPE_CHAT | SCOPE_USAGE);
    assert_true(web->has_project && uuid_compare(&web->project, &project.id) == 0);
    assert_true(token_allows(web, &summarize) && token_allows(web, &translate));
    assert_true(web->expires_wall_ms == INT64_MAX);
    const struct token_entry *batch = token_find(table, tokens[1].hash);
    assert_true(str_eq(token_name(batch), STR("batch:pg_live_x")));
    assert_false(batch->has_project || token_allows(batch, &summarize));
    assert_true(token_allows(batch, &translate));
    assert_int_equal(batch->expires_wall_ms, 77);
    assert_null(token_find(table, tokens[2].hash));
    tokens[0].hash[31] ^= 1; /* the first bytes lead to the place, all of them count */
    assert_null(token_find(table, tokens[0].hash));
    token_table_free(&table);
    assert_null(table);
}

/* A request may hold an entry for long: it stays as it was, whatever becomes of the token. */
static void tokens_come_change_and_go(void **state)
{
    struct config_token web = token_numbered(1, "web"), late = token_numbered(9, "late");
    (void)state;
    struct token_table *table = table_of(&web, 1);
    const struct token_entry *held = token_find(table, web.hash);
    assert_null(token_find(table, late.hash));
    assert_true(token_table_put(table, &late));
    assert_string_equal(token_find(table, late.hash)->texts, "late");
    web.scopes = SCOPE_MODELS;
    assert_true(token_table_put(table, &web));
    assert_int_equal(token_find(table, web.hash)->scopes, SCOPE_MODELS);
    assert_int_equal(held->scopes, SCOPE_CHAT | SCOPE_USAGE);
    token_table_drop(table, web.hash);
    token_table_drop(table, web.hash);
    assert_null(token_find(table, web.hash));
    assert_string_equal(held->texts, "web");
    late.active = false;
    assert_true(token_table_put(table, &late));
    assert_null(token_find(table, late.hash));
    late.active = true;
    assert_true(token_table_put(table, &late));
    assert_non_null(token_find(table, late.hash));
    token_table_free(&table);
}

static void count_entry(void *context, const struct token_entry *entry)
{
    (void)entry;
    ++*(size_t *)context;
}

static size_t count_known(const struct token_table *table)
{
    size_t count = 0;
    token_table_each(table, count_entry, &count);
    return count;
}

/* What is put again unchanged takes no room, what goes needs none, and a table that is full says
 * so and keeps what it has. */
static void a_full_table_still_forgets(void **state)
{
    struct config_token first = token_numbered(1, "first");
    unsigned number = 1;
    (void)state;
    struct token_table *table = table_of(&first, 1);
    for (int i = 0; i < 1000000; i++)
        assert_true(token_table_put(table, &first));
    struct config_token next = token_numbered(2, "next");
    while (token_table_put(table, &next))
        next = token_numbered(++number + 1, "next");
    assert_true(number > 4000);
    assert_int_equal(count_known(table), number);
    assert_null(token_find(table, next.hash));
    assert_non_null(token_find(table, first.hash));
    token_table_drop(table, first.hash);
    assert_null(token_find(table, first.hash));
    assert_int_equal(count_known(table), number - 1);
    token_table_free(&table);
}

static void many_are_found(void **state)
{
    enum { MANY = 100000 };
    struct config_token *tokens = calloc(MANY, sizeof *tokens);
    (void)state;
    for (unsigned i = 0; i < MANY; i++)
        tokens[i] = token_numbered(i, "many");
    struct token_table *table = table_of(tokens, MANY);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(token_find(table, tokens[i].hash)->account, i);
    assert_null(token_find(table, token_numbered(MANY, "").hash));
    token_table_free(&table);
    free(tokens);
}

/* What the child sees is what the parent does later; and no child can change it. */
static void children_read_and_never_write(void **state)
{
    struct config_token web = token_numbered(1, "web"), late = token_numbered(2, "late");
    int looked[2], told[2];
    char byte;
    (void)state;
    struct token_table *table = table_of(&web, 1);
    const struct token_entry *entry = token_find(table, web.hash);
    assert_int_equal(pipe(told) + pipe(looked), 0);
    pid_t child = fork();
    if (child == 0) {
        bool before = !token_find(table, late.hash) && token_find(table, web.hash);
        close(told[1]);
        before = write(looked[1], "", 1) == 1 && before;
        bool told_well = read(told[0], &byte, 1) == 0;
        bool after = token_find(table, late.hash) && !token_find(table, web.hash);
        void *page = (void *)((uintptr_t)entry & ~(uintptr_t)4095);
        bool sealed = mprotect(page, 4096, PROT_READ | PROT_WRITE) != 0;
        _exit(before && told_well && after && sealed ? 0 : 1);
    }
    int status;
    assert_int_equal(read(looked[0], &byte, 1), 1);
    assert_true(token_table_put(table, &late));
    token_table_drop(table, web.hash);
    close(told[0]);
    close(told[1]);
    close(looked[0]);
    close(looked[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    token_table_free(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_is_found_by_its_hash),
        cmocka_unit_test(tokens_come_change_and_go),
        cmocka_unit_test(a_full_table_still_forgets),
        cmocka_unit_test(many_are_found),
        cmocka_unit_test(children_read_and_never_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
