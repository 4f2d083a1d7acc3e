/* JSON values as JSON Schema compares them: numbers by their exact value, objects without order.
 * Nothing here allocates, but for uniqueItems of long arrays. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>

/* Bits of program.h. `fractions`: 1.0 is an integer (not so in draft 4). */
unsigned value_type(struct json_object *value, bool fractions);
int number_compare(struct json_object *a, struct json_object *b);
/* `divisor` is positive. */
bool number_is_multiple(struct json_object *value, struct json_object *divisor);
bool value_equal(struct json_object *a, struct json_object *b);
bool values_are_unique(struct json_object *array);
