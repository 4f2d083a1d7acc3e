#include "shared/config.h"
#include "worker/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define PROJECT "0192f0c1-7e7a-7cc3-98c4-dc0c0c07398f"

static struct route route(const char *method, const char *path)
{
    return route_of(str_of(method), str_of(path));
}

static enum route_kind kind(const char *path)
{
    return route("POST", path).kind;
}

static void check_project(const struct route *found)
{
    char text[UUID_TEXT_LEN + 1];
    assert_string_equal(uuid_format(&found->project, text), PROJECT);
}

static void endpoint_route(void **state)
{
    (void)state;
    struct route found = route("POST", "/api/" PROJECT "/summarize");
    assert_int_equal(found.kind, ROUTE_ENDPOINT);
    assert_true(found.method_fits);
    assert_true(str_eq(found.slug, STR("summarize")));
    assert_string_equal(found.allow, "POST");
    check_project(&found);
}

static void dispatcher_routes(void **state)
{
    (void)state;
    static const char *const paths[] = {"/api/" PROJECT "/chat/completions",
                                        "/api/" PROJECT "/v1/chat/completions"};
    for (size_t i = 0; i < 2; i++) {
        struct route found = route("POST", paths[i]);
        assert_int_equal(found.kind, ROUTE_DISPATCHER);
        assert_true(found.method_fits);
        assert_string_equal(found.allow, "POST");
        assert_null(found.slug.at);
        check_project(&found);
    }
}

static void project_in_upper_case(void **state)
{
    (void)state;
    struct route found = route("POST", "/api/0192F0C1-7E7A-7CC3-98C4-DC0C0C07398F/x");
    assert_int_equal(found.kind, ROUTE_ENDPOINT);
    check_project(&found);
}

static void probe_routes(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        enum route_kind kind;
    } probes[] = {{"/healthz", ROUTE_HEALTH}, {"/readyz", ROUTE_READY}};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(route("GET", probes[i].path).kind, probes[i].kind);
        assert_true(route("GET", probes[i].path).method_fits);
        assert_true(route("HEAD", probes[i].path).method_fits);
        assert_false(route("POST", probes[i].path).method_fits);
        assert_string_equal(route("POST", probes[i].path).allow, "GET, HEAD");
    }
}

static void other_methods(void **state)
{
    (void)state;
    static const char *const methods[] = {"GET",     "HEAD", "PUT", "PATCH", "DELETE",
                                          "OPTIONS", "post", "POS", "POSTS", ""};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        struct route slug = route(methods[i], "/api/" PROJECT "/summarize");
        assert_int_equal(slug.kind, ROUTE_ENDPOINT);
        assert_false(slug.method_fits);
        assert_string_equal(slug.allow, "POST");
        assert_false(route(methods[i], "/api/" PROJECT "/v1/chat/completions").method_fits);
    }
}

static void unknown_paths(void **state)
{
    (void)state;
    static const char *const paths[] = {
        "",
        "/",
        "*",
        "/api",
        "/api/",
        "/healthz/",
        "/readyz/",
        "/Healthz",
        "/api/" PROJECT,
        "/api/" PROJECT "/",
        "/api//" PROJECT "/summarize",
        "/API/" PROJECT "/summarize",
        "api/" PROJECT "/summarize",
        "/api/" PROJECT "/summarize/",
        "/api/" PROJECT "//summarize",
        "/api/" PROJECT "/chat/completions/",
        "/api/" PROJECT "/chat/completion",
        "/api/" PROJECT "/chat/Completions",
        "/api/" PROJECT "/v1/",
        "/api/" PROJECT "/v1/summarize",
        "/api/" PROJECT "/v1/v1/chat/completions",
        "/api/" PROJECT "/v2/chat/completions",
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct route found = route("POST", paths[i]);
        if (found.kind != ROUTE_UNKNOWN)
            fail_msg("%s is no route", paths[i]);
        assert_null(found.allow);
        assert_false(found.method_fits);
    }
}

static void bad_project_ids(void **state)
{
    (void)state;
    static const char *const ids[] = {
        "",
        "demo",
        "0192f0c17e7a7cc398c4dc0c0c07398f",
        "0192f0c1-7e7a-7cc3-98c4-dc0c0c07398",
        "0192f0c1-7e7a-7cc3-98c4-dc0c0c07398f0",
        "0192f0c1-7e7a-7cc3-98c4-dc0c0c07398g",
        "0192f0c1_7e7a_7cc3_98c4_dc0c0c07398f",
        "{0192f0c1-7e7a-7cc3-98c4-dc0c0c07398f}",
        "0192f0c1-7e7a-7cc3-98c4-dc0c0c07398%66",
    };
    char path[128];
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        snprintf(path, sizeof path, "/api/%s/summarize", ids[i]);
        if (kind(path) != ROUTE_UNKNOWN)
            fail_msg("%s is no project id", ids[i]);
    }
}

/* contract: `chat`, `models`, `usage`, `v1` are reserved. */
static void reserved_slugs(void **state)
{
    (void)state;
    assert_int_equal(kind("/api/" PROJECT "/chat"), ROUTE_UNKNOWN);
    assert_int_equal(kind("/api/" PROJECT "/models"), ROUTE_MODELS);
    assert_int_equal(kind("/api/" PROJECT "/v1/models"), ROUTE_MODELS);
    assert_int_equal(kind("/api/" PROJECT "/models/x"), ROUTE_UNKNOWN);
    assert_int_equal(kind("/api/" PROJECT "/usage"), ROUTE_USAGE);
    assert_int_equal(kind("/api/" PROJECT "/v1"), ROUTE_UNKNOWN);
    assert_int_equal(kind("/api/" PROJECT "/chats"), ROUTE_ENDPOINT);
    assert_int_equal(kind("/api/" PROJECT "/v1-chat"), ROUTE_ENDPOINT);
}

/* contract: `[a-z0-9]` then up to 62 of `[a-z0-9-]`, not ending in `-`. */
static void slug_rule(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "0", "a-b", "a--b", "9lives", "a0", "x-1-y"};
    static const char *const bad[] = {"",    "-",   "-a",  "a-",   "A",       "aB",
                                      "a_b", "a.b", "a b", "a%2d", "\xC3\xA4"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!slug_valid(str_of(good[i])))
            fail_msg("%s is a slug", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (slug_valid(str_of(bad[i])))
            fail_msg("%s is no slug", bad[i]);
    assert_false(slug_valid((struct str){"a\0b", 3}));
}

static void slug_length(void **state)
{
    (void)state;
    char slug[65];
    memset(slug, 'a', sizeof slug);
    assert_true(slug_valid((struct str){slug, 63}));
    assert_false(slug_valid((struct str){slug, 64}));
    slug[62] = '-';
    assert_false(slug_valid((struct str){slug, 63}));
    slug[61] = '-';
    slug[62] = 'a';
    assert_true(slug_valid((struct str){slug, 63}));
}

/* The path comes without its query; a '?' that is part of it names nothing. */
static void query_is_no_part(void **state)
{
    (void)state;
    assert_int_equal(kind("/api/" PROJECT "/summarize?x=1"), ROUTE_UNKNOWN);
    assert_int_equal(route("GET", "/healthz?verbose").kind, ROUTE_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endpoint_route),
        cmocka_unit_test(dispatcher_routes),
        cmocka_unit_test(project_in_upper_case),
        cmocka_unit_test(probe_routes),
        cmocka_unit_test(other_methods),
        cmocka_unit_test(unknown_paths),
        cmocka_unit_test(bad_project_ids),
        cmocka_unit_test(reserved_slugs),
        cmocka_unit_test(slug_rule),
        cmocka_unit_test(slug_length),
        cmocka_unit_test(query_is_no_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
