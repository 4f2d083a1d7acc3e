/* Routing by what only a test can set: the time of day. */
#include "test/unit/worker_gateway.h"

/* The clock of the zone stands at this second of the day. */
static void set_clock(struct gateway *g, struct offset_change *zone, int hour, int minute,
                      int second)
{
    enum { DAY_S = 86400 };
    int wanted = hour * 3600 + minute * 60 + second;
    *zone = (struct offset_change){0, wanted - (int)(gateway_wall_ms / 1000 % DAY_S)};
    g->config.offsets = (struct zone_offsets){zone, 1};
}

static void at_night(struct gateway *g)
{
    struct config_endpoint *endpoint = &g->config.projects[0].endpoints[1];
    struct arena *arena = &g->config.arena;
    struct routing_condition *night = arena_alloc(arena, sizeof *night);
    assert_string_equal(endpoint->slug, "echo");
    *night = (struct routing_condition){FACT_TIME_OF_DAY, COMPARISON_EQ, 0, 22 * 60, 6 * 60};
    endpoint->rules = arena_alloc(arena, sizeof *endpoint->rules);
    endpoint->rules_count = 1;
    endpoint->rules[0] = (struct config_rule){{night, 1, "off-peak"}, endpoint->target};
    endpoint->rules[0].target.model = "echo-night";
}

static void rules_flip_at_the_minute(void **state)
{
    struct gateway *g = *state;
    static const struct {
        int hour, minute, second;
        bool is_night;
    } cases[] = {
        {21, 59, 59, false}, {22, 0, 0, true}, {23, 59, 59, true}, {0, 0, 0, true},
        {5, 59, 59, true},   {6, 0, 0, false}, {12, 0, 0, false},
    };
    struct offset_change zone;
    at_night(g);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        set_clock(g, &zone, cases[i].hour, cases[i].minute, cases[i].second);
        ask_endpoint(g, "echo", "{\"message\":\"Hello\"}");
        struct record row = only_row(g);
        assert_int_equal(row.routing_decision.len, cases[i].is_night ? 8 : 0);
        assert_true(str_eq(row.model, cases[i].is_night ? STR("echo-night") : STR("echo")));
        assert_int_equal(has_line(g, "X-Routing-Decision: off-peak"), cases[i].is_night);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rules_flip_at_the_minute, gateway_setup, gateway_teardown),
    };
    return cmocka_run_group_tests_name("routing", tests, NULL, NULL);
}
