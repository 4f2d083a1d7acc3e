#include "worker/explain.h"

#include "shared/base/clock.h"
#include "shared/base/money.h"
#include "shared/counters/rate.h"
#include "worker/provider/estimate.h"
#include "worker/provider/structured.h"
#include "worker/stage/stage.h"
#include "worker/worst_case.h"

/* --- values --- */

static void set_text(struct json_object *object, const char *name, struct str text)
{
    json_object_object_add(object, name,
                           text.at ? json_object_new_string_len(text.at, (int)text.len) : NULL);
}

static void set_number(struct json_object *object, const char *name, int64_t number)
{
    json_object_object_add(object, name, json_object_new_int64(number));
}

static void set_truth(struct json_object *object, const char *name, bool truth)
{
    json_object_object_add(object, name, json_object_new_boolean(truth));
}

static void set_usd(struct json_object *object, const char *name, int64_t nano_usd)
{
    struct buf text = {0};
    usd_write(&text, nano_usd > 0 ? nano_usd : 0);
    json_object_object_add(object, name,
                           json_object_new_double_s((double)nano_usd / 1e9, buf_cstr(&text)));
    buf_free(&text);
}

static struct json_object *failure_of(const struct exchange *ex)
{
    const struct api_error_info *info = api_error_info(ex->failure.code);
    struct json_object *told = json_object_new_object();
    set_number(told, "status", info->status);
    set_text(told, "code", str_of(info->code));
    set_text(told, "message",
             ex->failure.message.len ? ex->failure.message : str_of(info->sentence));
    if (ex->failure.param.at)
        set_text(told, "param", ex->failure.param);
    struct json_object *details = json_object_new_array();
    for (const struct api_detail *one = ex->failure.details; one; one = one->next) {
        struct json_object *detail = json_object_new_object();
        set_text(detail, "path", str_of(one->path));
        set_text(detail, "keyword", str_of(one->keyword));
        set_text(detail, "message", str_of(one->message));
        json_object_array_add(details, detail);
    }
    if (json_object_array_length(details) > 0)
        json_object_object_add(told, "details", details);
    else
        json_object_put(details);
    return told;
}

/* --- limits and budgets --- */

static const char *const owners[BUDGETS] = {"endpoint", "token", "project"};

static uint32_t account_of(const struct exchange *ex, enum budget budget)
{
    const uint32_t accounts[BUDGETS] = {ex->entry->endpoint, ex->entry->token, ex->entry->project};
    return accounts[budget];
}

static void add_window(const struct exchange *ex, enum budget owner, bool hourly,
                       struct json_object *limits, bool *has_room)
{
    const struct counters *counters = ex->services->counters;
    uint32_t account = account_of(ex, owner);
    struct rate_limit limit;
    if (account == ACCOUNT_NONE || !rate_look(&counters->accounts[account], hourly, clock_now_us(),
                                              counters->header->clock_offset_us, &limit))
        return;
    struct json_object *told = json_object_new_object();
    set_text(told, "of", str_of(owners[owner]));
    set_text(told, "window", hourly ? STR("hour") : STR("minute"));
    set_number(told, "limit", limit.cap);
    set_number(told, "left", limit.remaining);
    json_object_array_add(limits, told);
    *has_room = *has_room && limit.remaining > 0;
}

static bool tell_limits(const struct exchange *ex, struct json_object *told)
{
    struct json_object *limits = json_object_new_array();
    bool has_room = true;
    for (int i = 0; i < BUDGETS; i++) {
        add_window(ex, (enum budget)i, false, limits, &has_room);
        add_window(ex, (enum budget)i, true, limits, &has_room);
    }
    json_object_object_add(told, "rate_limits", limits);
    return has_room;
}

/* Whether a request may start now. */
enum room { ROOM_NONE, ROOM_LATER, ROOM_NOW };

static enum room room_in(const struct budget_standing *standing, int64_t worst_nano_usd)
{
    if (standing->spent + worst_nano_usd > standing->cap)
        return ROOM_NONE;
    return standing->spent + standing->reserved + worst_nano_usd <= standing->cap ? ROOM_NOW
                                                                                  : ROOM_LATER;
}

static enum room tell_budgets(const struct exchange *ex, struct json_object *told)
{
    static const char *const words[] = {"no", "when others' reservations settle", "yes"};
    struct json_object *budgets = json_object_new_array();
    enum room least = ROOM_NOW;
    for (int i = 0; i < BUDGETS; i++) {
        struct budget_standing standing;
        if (account_of(ex, (enum budget)i) == ACCOUNT_NONE)
            continue;
        (void)budget_look(ex, (enum budget)i, &standing);
        if (standing.cap == CAP_UNLIMITED)
            continue;
        enum room room = room_in(&standing, ex->worst_nano_usd);
        struct json_object *one = json_object_new_object();
        set_text(one, "of", str_of(owners[i]));
        set_usd(one, "spent_usd", standing.spent);
        set_usd(one, "reserved_usd", standing.reserved);
        set_usd(one, "budget_usd", standing.cap);
        set_text(one, "has_room", str_of(words[room]));
        json_object_array_add(budgets, one);
        least = room < least ? room : least;
    }
    json_object_object_add(told, "budgets", budgets);
    return least;
}

/* --- rules --- */

static void write_pct(struct buf *out, int64_t parts)
{
    buf_printf(out, "%lld", (long long)(parts / ROUTING_PCT));
    if (parts % ROUTING_PCT == 0)
        return;
    buf_printf(out, ".%06lld", (long long)(parts % ROUTING_PCT));
    while (out->data[out->len - 1] == '0')
        out->len--;
}

static void write_minute(struct buf *out, int minute)
{
    buf_printf(out, "%02d:%02d", minute / 60, minute % 60);
}

/* What the condition asks for. */
static void write_wanted(const struct routing_condition *condition, struct buf *out)
{
    switch (condition->fact) {
    case FACT_INPUT_TOKENS:
    case FACT_MESSAGES_COUNT:
        buf_printf(out, "%s %lld", comparison_name(condition->comparison),
                   (long long)condition->value);
        break;
    case FACT_MONTHLY_SPEND_PCT:
        buf_printf(out, "%s ", comparison_name(condition->comparison));
        write_pct(out, condition->value);
        break;
    case FACT_TIME_OF_DAY:
        write_minute(out, condition->from_minute);
        buf_putc(out, '-');
        write_minute(out, condition->to_minute);
        break;
    default:
        buf_puts(out, condition->value ? "true" : "false");
    }
}

/* What the request has of it. */
static void write_found(enum routing_fact fact, const struct routing_facts *facts, struct buf *out)
{
    __int128 parts = (__int128)facts->spent_nano_usd * 100 * ROUTING_PCT;
    const bool truths[FACTS_COUNT] = {[FACT_HAS_OUTPUT_SCHEMA] = facts->has_output_schema,
                                      [FACT_HAS_INPUT_SCHEMA] = facts->has_input_schema,
                                      [FACT_STREAMING] = facts->streaming};
    switch (fact) {
    case FACT_INPUT_TOKENS:
        buf_printf(out, "%lld", (long long)facts->input_tokens);
        break;
    case FACT_MESSAGES_COUNT:
        buf_printf(out, "%lld", (long long)facts->messages_count);
        break;
    case FACT_MONTHLY_SPEND_PCT:
        write_pct(out, facts->cap_nano_usd > 0 ? (int64_t)(parts / facts->cap_nano_usd)
                                               : 100 * ROUTING_PCT);
        break;
    case FACT_TIME_OF_DAY:
        write_minute(out, facts->minute_of_day);
        break;
    default:
        buf_puts(out, truths[fact] ? "true" : "false");
    }
}

static struct json_object *condition_told(const struct routing_condition *condition,
                                          const struct routing_facts *facts)
{
    struct json_object *told = json_object_new_object();
    struct buf wanted = {0}, found = {0};
    write_wanted(condition, &wanted);
    write_found(condition->fact, facts, &found);
    set_text(told, "when", str_of(routing_fact_key(condition->fact)));
    set_text(told, "wanted", buf_view(&wanted));
    set_text(told, "found", buf_view(&found));
    set_truth(told, "holds", routing_condition_holds(condition, facts));
    buf_free(&wanted);
    buf_free(&found);
    return told;
}

/* Each with why it fits or not; the first that does is the chain's. */
static void tell_rules(struct exchange *ex, struct json_object *told)
{
    const struct config_endpoint *endpoint = ex->endpoint;
    const struct routing_facts facts = route_facts(ex);
    struct json_object *rules = json_object_new_array();
    for (size_t i = 0; i < endpoint->rules_count; i++) {
        const struct routing_rule *rule = &endpoint->rules[i].rule;
        struct json_object *one = json_object_new_object();
        struct json_object *conditions = json_object_new_array();
        bool holds = routing_rule_holds(rule, &facts);
        set_text(one, "decision", str_of(rule->decision));
        set_truth(one, "holds", holds);
        for (size_t j = 0; j < rule->conditions_count; j++)
            json_object_array_add(conditions, condition_told(&rule->conditions[j], &facts));
        json_object_object_add(one, "conditions", conditions);
        json_object_array_add(rules, one);
        if (holds && !ex->chain.rule)
            ex->chain.rule = &endpoint->rules[i];
    }
    json_object_object_add(told, "rules", rules);
    set_text(told, "decision", ex->chain.rule ? str_of(ex->chain.rule->rule.decision) : STR_ABSENT);
}

/* --- the chain --- */

static void tell_worst_case(struct exchange *ex, struct json_object *one)
{
    struct worst_case worst = worst_case_of(&ex->fitted, buf_view(&ex->call.body));
    struct json_object *told = json_object_new_object();
    set_number(told, "prompt_tokens", worst.prompt_tokens);
    if (worst.completion_tokens > 0)
        set_number(told, "completion_tokens", worst.completion_tokens);
    if (ex->target->known.prices.known && worst.bounded)
        set_usd(told, "usd", worst.nano_usd);
    if (!worst.bounded)
        set_text(told, "unbounded_for", str_of(worst.why));
    json_object_object_add(one, "worst_case", told);
}

/* What the target would be asked, and how it stands with it; false when it would be passed over. */
static bool tell_target(struct exchange *ex, struct json_object *chain, enum breaker_state *state,
                        enum room *room)
{
    const struct config_target *target = chain_target(ex);
    const struct shm_account *credential =
        &ex->services->counters->accounts[target->credential->account];
    struct json_object *one = json_object_new_object();
    *state = breaker_look(&credential->breaker, ex->services->generation);
    set_text(one, "provider", str_of(provider_name(target->provider)));
    set_text(one, "model", str_of(target->model));
    set_text(one, "credential", str_of(target->credential->name));
    set_text(one, "state", str_of(breaker_state_name(*state)));
    json_object_array_add(chain, one);
    if (!budget_prepare(ex)) {
        json_object_object_add(one, "refused", failure_of(ex));
        return false;
    }
    if (ex->endpoint->output_schema)
        set_text(one, "output_schema", str_of(structured_name(&ex->fitted.request.output)));
    tell_worst_case(ex, one);
    *room = tell_budgets(ex, one);
    return true;
}

/* Who would be asked first: of those that are not left alone, else of all. */
struct choice {
    bool found, is_closed;
    unsigned place;
    enum room room;
    struct failure failure; /* of those that were passed over */
};

static struct choice tell_chain(struct exchange *ex, struct json_object *told)
{
    struct json_object *chain = json_object_new_array();
    struct choice choice = {0};
    for (unsigned place = 0; place < chain_length(ex); place++) {
        enum breaker_state state;
        enum room room;
        ex->chain.place = place;
        ex->failure = (struct failure){0};
        if (!tell_target(ex, chain, &state, &room))
            choice.failure = ex->failure;
        else if (!choice.found || (!choice.is_closed && state == BREAKER_CLOSED))
            choice = (struct choice){true, state == BREAKER_CLOSED, place, room, choice.failure};
    }
    json_object_object_add(told, "chain", chain);
    return choice;
}

/* --- all of it --- */

static bool refuse_as(struct json_object *told, enum api_error code)
{
    const struct api_error_info *info = api_error_info(code);
    struct buf outcome = {0};
    buf_printf(&outcome, "would be refused with %d %s", info->status, info->code);
    set_text(told, "outcome", buf_view(&outcome));
    buf_free(&outcome);
    return false;
}

static void tell_input(const struct exchange *ex, struct json_object *told)
{
    struct json_object *ignored = json_object_new_array();
    for (const struct name_list *one = ex->ignored; one; one = one->next)
        json_object_array_add(ignored,
                              json_object_new_string_len(one->name.at, (int)one->name.len));
    json_object_object_add(told, "ignored", ignored);
    json_object_object_add(told, "prompt", json_object_get(ex->messages));
    set_number(told, "input_tokens", estimate_messages(ex->messages));
    set_truth(told, "streaming", ex->relay.asked);
}

static bool tell_outcome(struct exchange *ex, const struct choice *choice, struct json_object *told)
{
    struct buf outcome = {0};
    if (!choice->found)
        return refuse_as(told, choice->failure.code);
    if (choice->room == ROOM_NONE)
        return refuse_as(told, API_budget_exceeded);
    ex->chain.place = choice->place;
    const struct config_target *target = chain_target(ex);
    buf_printf(&outcome, "would %sbe sent to %s, model %s, with credential %s",
               choice->room == ROOM_LATER ? "wait for room in a budget, and " : "",
               provider_name(target->provider), target->model, target->credential->name);
    set_text(told, "outcome", buf_view(&outcome));
    buf_free(&outcome);
    return true;
}

/* As the pipeline goes, but for waiting and counting. */
static bool tell(struct exchange *ex, struct json_object *told)
{
    bool has_room = tell_limits(ex, told);
    if (!ex->project->active)
        return refuse_as(told, API_project_inactive);
    if (!ex->endpoint->active)
        return refuse_as(told, API_not_found);
    if (!has_room)
        return refuse_as(told, API_rate_limited);
    if (stage_body_parse(ex) != STAGE_NEXT || stage_input(ex) != STAGE_NEXT ||
        stage_check(ex) != STAGE_NEXT || stage_prompt(ex) != STAGE_NEXT) {
        json_object_object_add(told, "refused", failure_of(ex));
        return refuse_as(told, ex->failure.code);
    }
    tell_input(ex, told);
    tell_rules(ex, told);
    const struct choice choice = tell_chain(ex, told);
    return tell_outcome(ex, &choice, told);
}

static struct shm_request entry_for(const struct explain_subject *subject)
{
    return (struct shm_request){
        .project = subject->project->account,
        .endpoint = subject->endpoint->account,
        .token = subject->token ? subject->token->account : ACCOUNT_NONE,
        .target = ACCOUNT_NONE,
        .month = month_number(&subject->config->store.months, clock_wall_ms()),
    };
}

bool explain(const struct explain_subject *subject, struct str body, struct json_object **told)
{
    struct services services = {
        .config = subject->config,
        .counters = subject->counters,
        .generation = subject->generation,
    };
    struct http_request request = {.body = body, .has_body = true, .client_ip = "127.0.0.1"};
    struct shm_request entry = entry_for(subject);
    struct exchange *ex = exchange_begin(&services, NULL, &request);
    ex->route.kind = ROUTE_ENDPOINT;
    ex->project = subject->project;
    ex->endpoint = subject->endpoint;
    ex->entry = &entry;
    *told = json_object_new_object();
    bool sent = tell(ex, *told);
    exchange_end(ex);
    exchange_free_kept(&services);
    return sent;
}
