/* The parts of a request's body, each read by a file of its own for the stage `input`. A function
 * that returns false has failed the exchange. */
#pragma once

#include "worker/exchange.h"

/* The parameters that the endpoint lets clients set. */
bool input_take_parameters(struct exchange *ex) __attribute__((warn_unused_result));
/* OpenAI's list of messages; the last one of the user is the input value. */
bool input_take_messages(struct exchange *ex, struct json_object *messages)
    __attribute__((warn_unused_result));
/* The endpoint's variables, once the input value is known. `payload` is the input value when it is
 * the whole payload, which then must not hold anything else; else NULL. */
bool input_take_variables(struct exchange *ex, struct json_object *payload)
    __attribute__((warn_unused_result));
/* Whether the endpoint declares a variable of this name. */
bool input_is_variable(const struct config_endpoint *endpoint, struct str name);

/* "NAME must be EXPECTED.", as 400. Always false. */
bool input_bad(struct exchange *ex, const char *name, const char *expected);
