#include "worker/input/input.h"

bool input_bad(struct exchange *ex, const char *name, const char *expected)
{
    exchange_fail_at(ex, API_invalid_request, name, "%s must be %s.", name, expected);
    return false;
}

static bool take_max_tokens(struct exchange *ex, enum member member, struct json_object *value)
{
    int64_t tokens = json_int_or(value, 0);
    int64_t *lowest = &ex->parameters.max_tokens;
    if (tokens <= 0)
        return input_bad(ex, member_name(member), "a positive integer");
    if (*lowest == 0 || tokens < *lowest)
        *lowest = tokens;
    return true;
}

static bool is_stop(struct json_object *value)
{
    if (json_object_is_type(value, json_type_string))
        return true;
    if (!json_object_is_type(value, json_type_array) || json_object_array_length(value) == 0)
        return false;
    for (size_t i = 0; i < json_object_array_length(value); i++)
        if (!json_object_is_type(json_object_array_get_idx(value, i), json_type_string))
            return false;
    return true;
}

static bool is_number(struct json_object *value)
{
    return json_object_is_type(value, json_type_int) ||
           json_object_is_type(value, json_type_double);
}

/* What a value must be; NULL when it is so, or only the provider knows. */
static const char *mistake_in(enum member member, struct json_object *value)
{
    switch (member) {
    case MEMBER_stop:
        return is_stop(value) ? NULL : "a string or a list of strings";
    case MEMBER_seed:
        return json_object_is_type(value, json_type_int) ? NULL : "an integer";
    case MEMBER_tools:
        return json_object_is_type(value, json_type_array) ? NULL : "a list";
    case MEMBER_user:
        return json_object_is_type(value, json_type_string) ? NULL : "a string";
    case MEMBER_temperature:
    case MEMBER_top_p:
    case MEMBER_frequency_penalty:
    case MEMBER_presence_penalty:
        return is_number(value) ? NULL : "a number";
    default:
        return NULL;
    }
}

static bool take(struct exchange *ex, enum member member, struct json_object *value)
{
    if (member == MEMBER_max_tokens || member == MEMBER_max_completion_tokens)
        return take_max_tokens(ex, member, value);
    const char *expected = mistake_in(member, value);
    if (expected)
        return input_bad(ex, member_name(member), expected);
    ex->parameters.values[member] = value;
    return true;
}

bool input_take_parameters(struct exchange *ex)
{
    for (int i = 0; i < MEMBER_NONE; i++) {
        enum member member = (enum member)i;
        if (!(ex->endpoint->client_parameters & MEMBER_BIT(member)))
            continue;
        struct json_object *value = json_member(ex->body, member_name(member), NULL);
        if (value && !take(ex, member, value))
            return false;
    }
    return true;
}
