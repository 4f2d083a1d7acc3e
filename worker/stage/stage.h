/* The stages of the pipeline, one file each. Each does its part of a request and says how to go
 * on; only pipeline.c knows their order. */
#pragma once

#include "worker/budget_queue.h"

enum stage_result stage_authenticate(struct exchange *ex);
enum stage_result stage_resolve(struct exchange *ex);
enum stage_result stage_body_read(struct exchange *ex);
enum stage_result stage_body_parse(struct exchange *ex);
enum stage_result stage_input(struct exchange *ex);
enum stage_result stage_check(struct exchange *ex);
enum stage_result stage_prompt(struct exchange *ex);
/* Of the route stage: what its rules are held against. */
struct routing_facts route_facts(const struct exchange *ex);
enum stage_result stage_route(struct exchange *ex);
enum stage_result stage_rate(struct exchange *ex);
enum stage_result stage_budget(struct exchange *ex);
/* Of the budget stage: how a budget of the request stands, in nano-USD. Spent is what is committed
 * without what is reserved. False: it changes too fast to tell exactly. */
struct budget_standing {
    int64_t spent, reserved, cap;
};
bool budget_look(const struct exchange *ex, enum budget budget, struct budget_standing *standing);
/* Of the budget stage: what the chain's target is to be asked, and the most that it can cost.
 * False: it can't be asked this, the failure says why. */
bool budget_prepare(struct exchange *ex);
/* Of the budget stage, for requests that have waited (budget_queue.h). */
enum budget_answer budget_try(struct exchange *ex, bool last);
enum stage_result stage_forward(struct exchange *ex);
enum stage_result stage_repeat(struct exchange *ex);
enum stage_result stage_session(struct exchange *ex);
enum stage_result stage_remember(struct exchange *ex);
/* Of the remember stage: a turn that did not come to a good end leaves the session as it was, and
 * its key free, before the client hears of it and may come again. */
enum stage_result stage_let_go(struct exchange *ex);
enum stage_result stage_respond(struct exchange *ex);
enum stage_result stage_record(struct exchange *ex);
