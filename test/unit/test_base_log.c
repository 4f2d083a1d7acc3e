#include "shared/base/log.h"

#include "shared/base/clock.h"
#include "shared/base/error.h"
#include "shared/base/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static int64_t given_us(void)
{
    return 0;
}

static int64_t given_wall_ms(void)
{
    return 1763896516042;
}

static const struct clock_source given = {given_us, given_wall_ms};

/* stderr goes into a pipe while the line is written. */
static char line[8192];

static int begin(int pipe_ends[2])
{
    fflush(stderr);
    int kept = dup(STDERR_FILENO);
    assert_int_equal(pipe(pipe_ends), 0);
    assert_true(dup2(pipe_ends[1], STDERR_FILENO) >= 0);
    return kept;
}

static void end(int pipe_ends[2], int kept)
{
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(pipe_ends[1]);
    ssize_t len = read(pipe_ends[0], line, sizeof line - 1);
    close(pipe_ends[0]);
    line[len > 0 ? len : 0] = '\0';
}

#define CAPTURE(statement)                                                                         \
    do {                                                                                           \
        int ends[2], kept = begin(ends);                                                           \
        statement;                                                                                 \
        end(ends, kept);                                                                           \
    } while (0)

static int set_up(void **state)
{
    (void)state;
    clock_set_source(&given);
    unsetenv("JOURNAL_STREAM");
    log_set_role("worker 0");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    clock_set_source(NULL);
    unsetenv("JOURNAL_STREAM");
    return 0;
}

static void text_has_time_level_and_role(void **state)
{
    (void)state;
    log_setup(LOG_INFO, LOG_TEXT);
    CAPTURE(log_warning("disk %d%% full", 97));
    assert_string_equal(line, "2025-11-23T11:15:16.042Z warning: worker 0: disk 97% full\n");
    CAPTURE(log_error("gone"));
    assert_string_equal(line, "2025-11-23T11:15:16.042Z error: worker 0: gone\n");
}

static void levels_below_the_threshold_are_silent(void **state)
{
    (void)state;
    log_setup(LOG_WARNING, LOG_TEXT);
    assert_true(log_enabled(LOG_ERROR));
    assert_true(log_enabled(LOG_WARNING));
    assert_false(log_enabled(LOG_INFO));
    CAPTURE(log_info("x"));
    assert_string_equal(line, "");
    CAPTURE(log_debug("x"));
    assert_string_equal(line, "");
    log_setup(LOG_DEBUG, LOG_TEXT);
    CAPTURE(log_debug("x"));
    assert_non_null(strstr(line, "debug: worker 0: x"));
}

static void a_message_is_one_line(void **state)
{
    (void)state;
    log_setup(LOG_INFO, LOG_TEXT);
    CAPTURE(log_info("a\nerror: forged\r\nb"));
    assert_non_null(strstr(line, "a error: forged  b\n"));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void a_long_message_is_cut_and_ends_the_line(void **state)
{
    (void)state;
    char text[5000] = "";
    memset(text, '"', sizeof text - 1);
    log_setup(LOG_INFO, LOG_TEXT);
    CAPTURE(log_info("%s", text));
    assert_true(strlen(line) > 1000);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    log_setup(LOG_INFO, LOG_JSON);
    CAPTURE(log_info("%s", text));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    struct json_object *value;
    struct error error = {{0}};
    if (!json_read(str_of(line), &value, &error))
        fail_msg("%s", error.message);
    json_object_put(value);
}

static void json_is_json(void **state)
{
    (void)state;
    log_setup(LOG_INFO, LOG_JSON);
    CAPTURE(log_info("say \"a\\b\"\tnow\n"));
    struct json_object *value;
    struct error error = {{0}};
    if (!json_read(str_of(line), &value, &error))
        fail_msg("%s: %s", error.message, line);
    assert_true(
        str_eq(json_text(json_member(value, "time", NULL)), STR("2025-11-23T11:15:16.042Z")));
    assert_true(str_eq(json_text(json_member(value, "level", NULL)), STR("info")));
    assert_true(str_eq(json_text(json_member(value, "role", NULL)), STR("worker 0")));
    assert_int_equal(json_int_or(json_member(value, "pid", NULL), -1), getpid());
    assert_true(str_eq(json_text(json_member(value, "message", NULL)), STR("say \"a\\b\" now ")));
    json_object_put(value);
}

static void json_is_utf8_whatever_was_logged(void **state)
{
    (void)state;
    log_setup(LOG_INFO, LOG_JSON);
    CAPTURE(log_info("bytes \x80\xFF, \xC3\xA4"));
    struct json_object *value;
    struct error error = {{0}};
    if (!json_read(str_of(line), &value, &error))
        fail_msg("%s", error.message);
    struct str message = json_text(json_member(value, "message", NULL));
    assert_true(str_eq(message, STR("bytes ??, \xC3\xA4")));
    json_object_put(value);
}

static void journald_gets_its_priority(void **state)
{
    (void)state;
    setenv("JOURNAL_STREAM", "8:1", 1);
    log_setup(LOG_DEBUG, LOG_AUTO);
    CAPTURE(log_error("x"));
    assert_string_equal(line, "<3>worker 0: x\n");
    CAPTURE(log_warning("x"));
    assert_string_equal(line, "<4>worker 0: x\n");
    CAPTURE(log_info("x"));
    assert_string_equal(line, "<6>worker 0: x\n");
    CAPTURE(log_debug("x"));
    assert_string_equal(line, "<7>worker 0: x\n");
    unsetenv("JOURNAL_STREAM");
    log_setup(LOG_INFO, LOG_AUTO);
    CAPTURE(log_info("x"));
    assert_string_equal(line, "2025-11-23T11:15:16.042Z info: worker 0: x\n");
}

static void errors_carry_a_sentence(void **state)
{
    (void)state;
    struct error error;
    char text[1000] = "";
    memset(text, 'a', sizeof text - 1);
    assert_false(error_set(&error, "%s: %d", "x", 7));
    assert_string_equal(error.message, "x: 7");
    assert_false(error_errno(&error, ENOENT, "open %s", "f"));
    assert_string_equal(error.message, "open f: No such file or directory");
    assert_false(error_set(&error, "%s", text));
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
    assert_false(error_errno(&error, ENOENT, "%s", text));
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_has_time_level_and_role),
        cmocka_unit_test(levels_below_the_threshold_are_silent),
        cmocka_unit_test(a_message_is_one_line),
        cmocka_unit_test(a_long_message_is_cut_and_ends_the_line),
        cmocka_unit_test(json_is_json),
        cmocka_unit_test(json_is_utf8_whatever_was_logged),
        cmocka_unit_test(journald_gets_its_priority),
        cmocka_unit_test(errors_carry_a_sentence),
    };
    return cmocka_run_group_tests_name("base/log", tests, set_up, tear_down);
}
