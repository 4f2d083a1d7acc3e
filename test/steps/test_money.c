/* The real reserve, send, settle and recover (ledger.c, spend.c) in every order of two workers and
 * the masters that recover one of them, each killed before each point: whoever dies, every account
 * holds the cost of all rows and the reservations of what lives, to the nano-dollar. */
#include "shared/base/step.h"
#include "shared/counters/ledger.h"
#include "test/steps/interleave.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { ENDPOINT, TOKEN, ACCOUNTS };
enum { SLOTS = 2, ENTRIES = 2, MONTH = 323, WORST = 10 };

/* What the provider asks in the end; the first of A's calls costs more than was reserved. */
static const int64_t costs[SLOTS][ENTRIES] = {{4, 12}, {3, 0}};

static struct world {
    struct shm_worker workers[SLOTS];
    struct shm_account accounts[ACCOUNTS];
    struct shm_request entries[SLOTS][ENTRIES];
    int64_t billed[SLOTS][ENTRIES]; /* at the provider, from the moment that it has the call */
    bool refused[SLOTS][ENTRIES];
    bool recovered;
    /* what a test sets */
    int64_t token_cap;
    unsigned calls[SLOTS];
    bool attempts; /* a slot's calls are one request's */
} the_world;

static struct ledger ledger_for(struct world *world, unsigned slot)
{
    return (struct ledger){world->accounts, world->workers, SLOTS, slot};
}

static void begin(void *context)
{
    struct world *world = context;
    memset((void *)world->workers, 0, sizeof world->workers);
    memset((void *)world->accounts, 0, sizeof world->accounts);
    memset((void *)world->entries, 0, sizeof world->entries);
    memset(world->billed, 0, sizeof world->billed);
    memset(world->refused, 0, sizeof world->refused);
    world->recovered = false;
    for (unsigned i = 0; i < ACCOUNTS; i++)
        atomic_store(&world->accounts[i].caps[CAP_MONTHLY_NANO_USD], CAP_UNLIMITED);
    atomic_store(&world->accounts[TOKEN].caps[CAP_MONTHLY_NANO_USD], world->token_cap);
}

static void open_entry(struct shm_request *entry)
{
    entry->endpoint = ENDPOINT;
    entry->token = TOKEN;
    entry->project = ACCOUNT_NONE;
    entry->month = MONTH;
    entry->sums[0] = (struct shm_sums){.target = ACCOUNT_NONE};
    request_set_state(entry, REQUEST_OPEN);
}

static void call(struct world *world, unsigned slot, unsigned i)
{
    const struct ledger ledger = ledger_for(world, slot);
    /* A second attempt is the same request's: its row has the cost of both. */
    struct shm_request *entry = &world->entries[slot][world->attempts ? 0 : i];
    struct settlement settlement = {.cost_nano_usd = costs[slot][i], .basis = COST_REPORTED};
    if (!world->attempts || i == 0)
        open_entry(entry);
    if (ledger_reserve(&ledger, entry, WORST) != BUDGETS) {
        world->refused[slot][i] = true;
        return;
    }
    STEP(money_to_send);
    request_set_state(entry, REQUEST_SENT);
    world->billed[slot][i] = costs[slot][i];
    STEP(money_sent);
    ledger_settle(&ledger, entry, &settlement);
}

static void run_worker(struct world *world, unsigned slot)
{
    for (unsigned i = 0; i < world->calls[slot]; i++)
        call(world, slot, i);
}

static void run_a(void *context)
{
    run_worker(context, 0);
}

static void run_b(void *context)
{
    run_worker(context, 1);
}

/* As requests_settle_dead does. */
static void recover(void *context)
{
    struct world *world = context;
    const struct ledger ledger = ledger_for(world, 0);
    for (unsigned i = 0; i < ENTRIES; i++)
        ledger_finish(&ledger, &world->entries[0][i]);
    for (unsigned i = 0; i < ENTRIES; i++)
        ledger_abandon(&ledger, &world->entries[0][i]);
    world->recovered = true;
}

static int64_t amount(const struct world *world, unsigned account)
{
    return spend_amount(&world->accounts[account].spend, MONTH);
}

/* The rows' costs, once nothing is under way any more. */
static int64_t rows(const struct world *world)
{
    int64_t sum = 0;
    for (unsigned i = 0; i < SLOTS; i++)
        for (unsigned j = 0; j < ENTRIES; j++)
            sum += request_sums(&world->entries[i][j])->cost_nano_usd;
    return sum;
}

static bool is_exact(void *context, char why[INTERLEAVE_WHY_BYTES])
{
    const struct world *world = context;
    int64_t cost = rows(world), endpoint = amount(world, ENDPOINT), token = amount(world, TOKEN);
    snprintf(why, INTERLEAVE_WHY_BYTES, "rows cost %d, the endpoint has %d, the token %d",
             (int)cost, (int)endpoint, (int)token);
    if (interleave_died("A") && !world->recovered)
        return true; /* the last master died, too: the next one will do it */
    return endpoint == cost && token == cost;
}

/* The word is never below what is billed, as far as that was within what was reserved, and never
 * above the cap, but for what was billed beyond. */
static bool holds_always(void *context, char why[INTERLEAVE_WHY_BYTES])
{
    const struct world *world = context;
    int64_t billed = 0, beyond = 0, token = amount(world, TOKEN);
    for (unsigned i = 0; i < SLOTS; i++)
        for (unsigned j = 0; j < ENTRIES; j++) {
            int64_t cost = world->billed[i][j];
            billed += cost < WORST ? cost : WORST;
            beyond += cost > WORST ? cost - WORST : 0;
        }
    snprintf(why, INTERLEAVE_WHY_BYTES, "billed %d and %d beyond, the token has %d, its cap is %d",
             (int)billed, (int)beyond, (int)token, (int)world->token_cap);
    return token >= billed && token <= world->token_cap + beyond;
}

static bool explore(const char *name, int64_t cap, unsigned calls_a, unsigned calls_b,
                    unsigned preemptions, unsigned deaths)
{
    the_world.token_cap = cap;
    the_world.calls[0] = calls_a;
    the_world.calls[1] = calls_b;
    struct interleave_test test = {
        .name = name,
        .actors = {{"A", run_a, .mortal = true},
                   {"B", run_b},
                   {"M", recover, .after = "A", .mortal = true},
                   {"N", recover, .after = "M"}},
        .preemptions = preemptions,
        .deaths = deaths,
        .world = &the_world,
        .begin = begin,
        .check = is_exact,
        .always = holds_always,
    };
    return interleave_schedules(&test, NULL);
}

static void room_for_both(void **state)
{
    (void)state;
    assert_true(explore("money, room for both", 100, 1, 1, 2, 2));
    assert_true(explore("money, two calls after each other", 100, 2, 1, 1, 2));
}

static void a_second_attempt(void **state)
{
    (void)state;
    the_world.attempts = true;
    assert_true(explore("money, two attempts of one request", 100, 2, 1, 2, 1));
    the_world.attempts = false;
}

/* One of them is refused by the second account after the first had room. */
static void room_for_one(void **state)
{
    (void)state;
    assert_true(explore("money, room for one", 15, 1, 1, 2, 2));
    assert_true(explore("money, room for one, then another", 16, 2, 1, 1, 2));
}

static void three_preemptions(void **state)
{
    (void)state;
    assert_true(explore("money, three preemptions", 15, 1, 1, 3, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(room_for_both),
        cmocka_unit_test(a_second_attempt),
        cmocka_unit_test(room_for_one),
        cmocka_unit_test(three_preemptions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
