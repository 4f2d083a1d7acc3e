#include "shared/base/secret_memory.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char *put(struct secret_memory *memory, const char *text)
{
    char *at = secret_memory_take(memory, strlen(text) + 1);
    assert_non_null(at);
    return strcpy(at, text);
}

static void what_was_taken_stays_where_it_is(void **state)
{
    (void)state;
    struct secret_memory *memory = secret_memory_new(SECRETS_WORKER);
    char *taken[500];
    for (int i = 0; i < 500; i++) {
        taken[i] = secret_memory_take(memory, 1000);
        assert_int_equal(taken[i][999], 0);
        memset(taken[i], i, 1000);
    }
    for (int i = 0; i < 500; i++) {
        assert_int_equal((uint8_t)taken[i][0], i % 256);
        assert_int_equal((uint8_t)taken[i][999], i % 256);
        assert_true(secret_memory_holds(memory, taken[i]));
    }
    assert_false(secret_memory_holds(memory, &memory));
    assert_int_equal((uintptr_t)taken[0] % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
    secret_memory_free(&memory);
    assert_null(memory);
    secret_memory_free(&memory);
}

static void a_region_is_bounded(void **state)
{
    (void)state;
    struct secret_memory *memory = secret_memory_new(SECRETS_WORKER);
    assert_null(secret_memory_take(memory, SECRET_MEMORY_MAX_BYTES + 1));
    assert_non_null(secret_memory_take(memory, 1));
    assert_null(secret_memory_take(memory, SECRET_MEMORY_MAX_BYTES));
    assert_null(secret_memory_take(memory, SIZE_MAX));
    assert_non_null(secret_memory_take(memory, 1));
    secret_memory_free(&memory);
}

static void shrinking_wipes_the_rest(void **state)
{
    (void)state;
    struct secret_memory *memory = secret_memory_new(SECRETS_WORKER);
    char *first = put(memory, "first"), *last = put(memory, "secret");
    secret_memory_shrink(memory, last, 3);
    assert_memory_equal(last, "sec\0\0\0", 7);
    assert_string_equal(first, "first");
    assert_ptr_equal(put(memory, "x"), last + 3);
    secret_memory_free(&memory);
}

/* What one child sees of each region's text, as bits. */
static int seen_by(enum secrets_role role, const struct secret_memory *own, char *const texts[],
                   int count)
{
    secrets_before_fork(role, own);
    pid_t child = fork();
    if (child == 0) {
        int seen = 0, after = 0;
        for (int i = 0; i < count; i++)
            seen |= (strcmp(texts[i], "secret") == 0) << i;
        secrets_in_child();
        for (int i = 0; i < count; i++)
            after |= (strcmp(texts[i], "secret") == 0) << i;
        _exit(seen == after ? seen : 99);
    }
    secrets_after_fork();
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    for (int i = 0; i < count; i++)
        assert_string_equal(texts[i], "secret");
    return WEXITSTATUS(status);
}

static void each_role_sees_its_own(void **state)
{
    (void)state;
    struct secret_memory *older = secret_memory_new(SECRETS_WORKER),
                         *newer = secret_memory_new(SECRETS_WORKER),
                         *variables = secret_memory_new(SECRETS_READER);
    char *const texts[] = {put(older, "secret"), put(newer, "secret"), put(variables, "secret")};
    for (int turn = 0; turn < 2; turn++) {
        assert_int_equal(seen_by(SECRETS_NOBODY, NULL, texts, 3), 0);
        assert_int_equal(seen_by(SECRETS_WORKER, older, texts, 3), 1);
        assert_int_equal(seen_by(SECRETS_WORKER, newer, texts, 3), 2);
        assert_int_equal(seen_by(SECRETS_WORKER, NULL, texts, 3), 0);
        assert_int_equal(seen_by(SECRETS_READER, NULL, texts, 3), 4);
    }
    /* A fork without the calls hides nothing: it is these that do. */
    pid_t child = fork();
    if (child == 0)
        _exit(strcmp(texts[0], "secret") == 0 ? 7 : 0);
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 7);
    secret_memory_free(&newer);
    secret_memory_free(&older);
    secret_memory_free(&variables);
}

/* Pages that are taken later are hidden as well. */
static void a_region_that_grew_is_hidden_whole(void **state)
{
    (void)state;
    struct secret_memory *memory = secret_memory_new(SECRETS_WORKER);
    char *texts[3];
    for (int i = 0; i < 3; i++) {
        texts[i] = put(memory, "secret");
        assert_non_null(secret_memory_take(memory, 50000));
        assert_int_equal(seen_by(SECRETS_NOBODY, NULL, texts, i + 1), 0);
        assert_int_equal(seen_by(SECRETS_WORKER, memory, texts, i + 1), (2 << i) - 1);
    }
    secret_memory_free(&memory);
}

/* The flags and locked size of the mapping that holds `at`, as /proc tells. */
static void look_up(const void *at, char flags[512], unsigned *locked_kib)
{
    char line[512];
    bool inside = false;
    unsigned long from, to;
    FILE *maps = fopen("/proc/self/smaps", "r");
    assert_non_null(maps);
    flags[0] = '\0';
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = (unsigned long)at >= from && (unsigned long)at < to;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            snprintf(flags, 512, "%s", line + 8);
        else if (inside)
            sscanf(line, "Locked: %u kB", locked_kib);
    }
    fclose(maps);
}

/* AddressSanitizer makes mlock do nothing. */
#if defined __SANITIZE_ADDRESS__
static const bool can_lock = false;
#else
static const bool can_lock = true;
#endif

static void it_is_locked_and_not_dumped(void **state)
{
    (void)state;
    struct secret_memory *memory = secret_memory_new(SECRETS_WORKER);
    const char *text = put(memory, "secret");
    char flags[512];
    unsigned locked_kib = 0;
    secret_memory_lock(memory);
    look_up(text, flags, &locked_kib);
    assert_non_null(strstr(flags, " dd"));
    assert_null(strstr(flags, " wf"));
    assert_int_equal(strstr(flags, " lo") != NULL, can_lock);
    secrets_before_fork(SECRETS_WORKER, memory);
    pid_t child = fork();
    if (child == 0) {
        secrets_in_child();
        look_up(text, flags, &locked_kib);
        _exit((strstr(flags, " lo") != NULL) == can_lock && strstr(flags, " dd") ? 0 : 1);
    }
    secrets_after_fork();
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    secret_memory_free(&memory);
}

#if !defined __SANITIZE_ADDRESS__
/* A failing lock costs a warning, not the secret; root is asked as anybody else. */
static void a_lock_that_is_not_allowed_is_survived(void **state)
{
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_MEMLOCK, &none);
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
            _exit(2);
        struct secret_memory *memory = secret_memory_new(SECRETS_WORKER);
        char *text = put(memory, "secret");
        int ends[2], count = 0;
        char said[1024];
        if (pipe(ends) != 0 || dup2(ends[1], STDERR_FILENO) < 0)
            _exit(3);
        secret_memory_lock(memory);
        secret_memory_lock(memory);
        ssize_t len = read(ends[0], said, sizeof said);
        for (ssize_t i = 0; i < len; i++)
            count += said[i] == '\n';
        _exit(strcmp(text, "secret") == 0 && count == 1 ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_taken_stays_where_it_is),
        cmocka_unit_test(a_region_is_bounded),
        cmocka_unit_test(shrinking_wipes_the_rest),
        cmocka_unit_test(each_role_sees_its_own),
        cmocka_unit_test(a_region_that_grew_is_hidden_whole),
        cmocka_unit_test(it_is_locked_and_not_dumped),
#if !defined __SANITIZE_ADDRESS__
        cmocka_unit_test(a_lock_that_is_not_allowed_is_survived),
#endif
    };
    return cmocka_run_group_tests_name("secret_memory", tests, NULL, NULL);
}
