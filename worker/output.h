/* Whether an answer fits the endpoint's output_schema (contract: Answer). What does not fit is a
 * failure of the attempt, and the chain says what follows: a turn to mend it, the next target, or
 * 422. */
#pragma once

#include "worker/exchange.h"

enum output_verdict {
    OUTPUT_FITS,     /* or there is nothing to be held to a schema */
    OUTPUT_UNFIT,    /* the exchange has failed, with details and the answer */
    OUTPUT_DECLINED, /* likewise: the model, or a filter, refused to answer */
};

/* Of ex->completion: what fits is ex->output, too, and a code fence around it is taken off its
 * content. `fault`: what is wrong, for rows; no value of the answer is in it. */
enum output_verdict output_judge(struct exchange *ex, struct str *fault);

/* The conversation, and behind it the unfit answer and what is wrong with it: a new array, the
 * caller's. */
struct json_object *output_repair_turn(const struct failure *unfit, struct json_object *messages);
/* The conversation with a schema in its system prompt; likewise. */
struct json_object *output_told(const char *schema, struct json_object *messages);
