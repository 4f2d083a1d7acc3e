#include "worker/pipeline.h"

#include "shared/base/log.h"
#include "worker/bodies.h"
#include "worker/stage/stage.h"

#include <stdlib.h>

struct stage {
    const char *name;
    enum stage_result (*run)(struct exchange *ex);
};

#define STAGE(name)                                                                                \
    {                                                                                              \
#name, stage_##name                                                                        \
    }

/* On a slug route everything that the head tells is settled before the body is read. */
static const struct stage endpoint_stages[] = {
    STAGE(authenticate), STAGE(resolve), STAGE(rate),    STAGE(body_read), STAGE(body_parse),
    STAGE(input),        STAGE(check),   STAGE(repeat),  STAGE(prompt),    STAGE(session),
    STAGE(route),        STAGE(budget),  STAGE(forward), STAGE(remember),  {NULL, NULL},
};

/* The dispatcher's slug is in the body. */
static const struct stage dispatcher_stages[] = {
    STAGE(authenticate), STAGE(body_read), STAGE(body_parse), STAGE(resolve),  STAGE(rate),
    STAGE(input),        STAGE(check),     STAGE(repeat),     STAGE(prompt),   STAGE(session),
    STAGE(route),        STAGE(budget),    STAGE(forward),    STAGE(remember), {NULL, NULL},
};

/* What is told is what the token says. */
static const struct stage listing_stages[] = {STAGE(authenticate), {NULL, NULL}};

/* However the others ended. */
static const struct stage last_stages[] = {
    STAGE(let_go), STAGE(respond), STAGE(record), {NULL, NULL}};

static const struct stage *current_stage(const struct exchange *ex)
{
    if (ex->finishing)
        return &last_stages[ex->stage];
    if (ex->route.kind == ROUTE_DISPATCHER)
        return &dispatcher_stages[ex->stage];
    if (ex->route.kind == ROUTE_MODELS || ex->route.kind == ROUTE_USAGE)
        return &listing_stages[ex->stage];
    return &endpoint_stages[ex->stage];
}

static void begin_finishing(struct exchange *ex)
{
    ex->finishing = true;
    ex->stage = 0;
}

/* A stage may resume its exchange before it returns STAGE_WAIT: then it has not waited at all. */
static enum stage_result run_stage(struct exchange *ex, const struct stage *stage)
{
    log_debug("%s: %s", ex->id_text, stage->name);
    ex->waiting = true;
    enum stage_result result = stage->run(ex);
    if (result == STAGE_WAIT && !ex->waiting)
        result = STAGE_NEXT;
    ex->waiting = result == STAGE_WAIT;
    return result;
}

/* Back to where an attempt begins. */
static void go_back(struct exchange *ex)
{
    ex->again = false;
    ex->stage = 0;
    while (current_stage(ex)->run != stage_budget)
        ex->stage++;
}

void pipeline_run(struct exchange *ex)
{
    ex->running = true;
    for (;;) {
        bool is_over = ex->failure.code != API_OK || ex->client_gone || ex->repeat.answered;
        if (is_over && !ex->finishing)
            begin_finishing(ex);
        const struct stage *stage = current_stage(ex);
        if (!stage->run && ex->finishing)
            break;
        if (!stage->run) {
            begin_finishing(ex);
            continue;
        }
        enum stage_result result = run_stage(ex, stage);
        if (result == STAGE_WAIT) {
            ex->running = false;
            return;
        }
        if (ex->again) {
            go_back(ex);
            continue;
        }
        ex->stage++;
        if (result == STAGE_DONE && !ex->finishing)
            begin_finishing(ex);
    }
    exchange_end(ex);
}

void exchange_resume(struct exchange *ex)
{
    if (!ex->waiting)
        abort();
    ex->waiting = false;
    if (ex->running)
        return;
    ex->stage++;
    pipeline_run(ex);
}

void pipeline_again(struct exchange *ex)
{
    if (!ex->waiting)
        abort();
    ex->waiting = false;
    ex->again = true;
    if (ex->running)
        return;
    go_back(ex);
    pipeline_run(ex);
}

void pipeline_break_off(struct exchange *ex, enum api_error code, const char *message)
{
    exchange_fail(ex, code, "%s", message);
    exchange_cancel(ex);
    exchange_resume(ex);
}

void pipeline_abandon(struct exchange *ex)
{
    ex->bytes_in = ex->request->bytes_in;
    ex->client_gone = true;
    bodies_keep_request(ex);
    ex->connection = NULL;
    ex->request = NULL;
    exchange_cancel(ex);
    ex->waiting = false;
    if (!ex->running)
        pipeline_run(ex);
}
