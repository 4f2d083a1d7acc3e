/* Turns in a store that other hosts have as well. */
#include "master/keeper/commits.h"

#include "test/unit/master_told_sessions.h"

static const int64_t start_ms = INT64_C(1800000000000);
static int peer_one, peer_two;

struct world {
    struct told told;
    struct turns *turns;
    struct keeper_message answer; /* of the last commit */
};

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    told_open(&world->told, true);
    world->turns = turns_new(&world->told.store);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    turns_free(&world->turns);
    told_close(&world->told);
    free(world);
    return 0;
}

static struct keeper_message asking(enum keeper_type type, const struct uuid *session)
{
    return (struct keeper_message){.type = (uint8_t)type,
                                   .session = session ? *session : (struct uuid){{0}},
                                   .ttl_ms = 60000,
                                   .max_messages = 100,
                                   .max_tokens = 100,
                                   .messages = 1,
                                   .project = STR("shop"),
                                   .endpoint = STR("chat"),
                                   .token = STR("till")};
}

static struct keeper_message begin(struct world *world, void *peer, const struct uuid *session)
{
    static uint8_t requests;
    struct keeper_message asked = asking(KEEPER_BEGIN, session), answer;
    asked.request.bytes[0] = ++requests;
    turns_begin(world->turns, peer, &asked, start_ms, &answer);
    return answer;
}

static void on_answer(void *context, void *peer, const struct keeper_message *answer)
{
    struct world *world = context;
    (void)peer;
    world->answer = *answer;
}

static void commit(struct world *world, const struct keeper_message *begun)
{
    struct keeper_message asked = asking(KEEPER_COMMIT, &begun->session);
    asked.turn = begun->turn;
    asked.messages = 2;
    asked.request = begun->request;
    asked.body = STR("1,2");
    struct commits *commits = commits_new(world->turns, NULL, NULL); /* there are no keys */
    commits_take(commits, &peer_one, &asked);
    commits_store(commits, &world->told.store, start_ms, on_answer, world);
    commits_free(&commits);
}

static struct uuid put_session(struct world *world)
{
    const struct keeper_message begun = begin(world, &peer_one, NULL);
    commit(world, &begun);
    assert_int_equal(world->answer.type, KEEPER_COMMITTED);
    return begun.session;
}

static void assert_claims(const struct world *world, size_t count)
{
    assert_int_equal(world->told.store.claims_count, count);
}

static void assert_refused(const struct keeper_message *answer, enum keeper_refusal refusal)
{
    assert_int_equal(answer->type, KEEPER_REFUSED);
    assert_int_equal(answer->refusal, refusal);
}

/* A new session is nobody else's. */
static void an_open_turn_is_claimed(void **state)
{
    struct world *world = *state;
    struct keeper_message begun = begin(world, &peer_one, NULL);
    assert_claims(world, 0);
    commit(world, &begun);
    begun = begin(world, &peer_one, &begun.session);
    assert_int_equal(begun.type, KEEPER_BEGUN);
    assert_claims(world, 1);
    assert_memory_equal(&world->told.store.claims[0], &begun.session, sizeof begun.session);
    commit(world, &begun);
    assert_int_equal(world->answer.type, KEEPER_COMMITTED);
    assert_claims(world, 0);
}

static void another_hosts_turn_is_waited_for(void **state)
{
    struct world *world = *state;
    struct uuid session = put_session(world);
    world->told.store.others_have = true;
    struct keeper_message answer = begin(world, &peer_one, &session);
    assert_refused(&answer, KEEPER_BUSY);
    world->told.store.absent = true;
    answer = begin(world, &peer_one, &session);
    assert_refused(&answer, KEEPER_UNAVAILABLE);
    assert_int_equal(turns_open(world->turns), 0);
    world->told.store.absent = world->told.store.others_have = false;
    answer = begin(world, &peer_one, &session);
    assert_int_equal(answer.type, KEEPER_BEGUN);
}

/* Whoever is busy here has the claim still. */
static void what_does_not_begin_is_given_back(void **state)
{
    struct world *world = *state;
    struct uuid session = put_session(world), none = {{1}};
    struct keeper_message answer = begin(world, &peer_one, &none);
    assert_refused(&answer, KEEPER_FORBIDDEN);
    assert_claims(world, 0);
    answer = begin(world, &peer_one, &session);
    assert_int_equal(answer.type, KEEPER_BEGUN);
    answer = begin(world, &peer_two, &session);
    assert_refused(&answer, KEEPER_BUSY);
    assert_claims(world, 1);
}

static void what_ends_otherwise_is_given_back(void **state)
{
    struct world *world = *state;
    struct uuid sessions[] = {put_session(world), put_session(world), put_session(world)};
    struct keeper_message begun[3];
    for (size_t i = 0; i < 3; i++)
        begun[i] = begin(world, i == 2 ? &peer_two : &peer_one, &sessions[i]);
    assert_claims(world, 3);
    struct keeper_message abort = {.type = KEEPER_ABORT, .session = sessions[0]};
    turns_abort(world->turns, &abort); /* of nobody */
    assert_claims(world, 3);
    abort.request = begun[0].request;
    turns_abort(world->turns, &abort);
    turns_abort(world->turns, &abort);
    assert_claims(world, 2);
    turns_forget_peer(world->turns, &peer_one);
    assert_claims(world, 1);
    assert_memory_equal(&world->told.store.claims[0], &sessions[2], sizeof sessions[2]);
}

/* It is refused, and the turn is over. */
static void what_has_moved_on_is_given_back(void **state)
{
    struct world *world = *state;
    struct uuid session = put_session(world);
    struct keeper_message begun = begin(world, &peer_one, &session);
    world->told.store.moving = true;
    commit(world, &begun);
    assert_refused(&world->answer, KEEPER_BUSY);
    assert_claims(world, 0);
    assert_int_equal(turns_open(world->turns), 0);
    world->told.store.moving = false;
    begun = begin(world, &peer_one, &session);
    assert_int_equal(begun.turn, 1);
    assert_true(str_eq(begun.body, STR("1,2")));
}

static void what_is_not_stored_is_refused(void **state)
{
    struct world *world = *state;
    struct uuid session = put_session(world);
    struct keeper_message begun = begin(world, &peer_one, &session);
    world->told.store.failing = true;
    commit(world, &begun);
    assert_refused(&world->answer, KEEPER_UNAVAILABLE);
    world->told.store.failing = false;
    begun = begin(world, &peer_one, &session);
    assert_int_equal(begun.turn, 1);
    assert_true(str_eq(begun.body, STR("1,2")));
}

/* Those that are open, announced ones with them. */
static void claims_are_renewed(void **state)
{
    struct world *world = *state;
    struct uuid one = put_session(world), two = put_session(world);
    turns_renew(world->turns);
    assert_int_equal(world->told.store.renewed, 0);
    (void)begin(world, &peer_one, NULL);
    (void)begin(world, &peer_one, &one);
    turns_renew(world->turns);
    assert_int_equal(world->told.store.renewed, 1);
    (void)begin(world, &peer_one, &two);
    turns_free(&world->turns);
    world->turns = turns_new(&world->told.store);
    const struct keeper_message said = asking(KEEPER_ANNOUNCE, &one);
    turns_announce(world->turns, &peer_one, &said);
    turns_renew(world->turns);
    assert_int_equal(world->told.store.renewed, 1);
    turns_forget_peer(world->turns, &peer_one);
    assert_claims(world, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_open_turn_is_claimed),
        TEST(another_hosts_turn_is_waited_for),
        TEST(what_does_not_begin_is_given_back),
        TEST(what_ends_otherwise_is_given_back),
        TEST(what_has_moved_on_is_given_back),
        TEST(what_is_not_stored_is_refused),
        TEST(claims_are_renewed),
    };
    return cmocka_run_group_tests_name("claims", tests, NULL, NULL);
}
