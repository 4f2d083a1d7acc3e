/* The input value fits the endpoint's schema (contract: Request body). */
#include "worker/stage/stage.h"

#include "shared/schema/schema.h"

/* A text that is a JSON object or array counts as that. The caller's to release. */
static struct json_object *input_value(const struct exchange *ex)
{
    struct str text = str_trim(ex->input.text);
    struct json_object *value = NULL;
    struct error error;
    if (ex->input.value)
        return json_object_get(ex->input.value);
    bool structured = text.len > 0 && (text.at[0] == '{' || text.at[0] == '[');
    if (structured && json_read(text, &value, &error))
        return value;
    return ex->input.text.at
               ? json_object_new_string_len(ex->input.text.at, (int)ex->input.text.len)
               : NULL;
}

static const struct api_detail *details_of(struct exchange *ex, const struct schema_errors *errors)
{
    const struct api_detail *details = NULL;
    for (size_t i = errors->count; i-- > 0;) {
        struct api_detail *one = arena_alloc(&ex->arena, sizeof *one);
        *one = (struct api_detail){
            .path = arena_strdup(&ex->arena, errors->at[i].instance_path),
            .keyword = arena_strdup(&ex->arena, errors->at[i].keyword),
            .message = arena_strdup(&ex->arena, errors->at[i].message),
            .next = details,
        };
        details = one;
    }
    return details;
}

enum stage_result stage_check(struct exchange *ex)
{
    const struct schema *schema = ex->endpoint->input_schema;
    struct schema_errors errors = {0};
    if (!schema)
        return STAGE_NEXT;
    struct json_object *value = input_value(ex);
    if (!schema_validate(schema, schema_instance(value, &errors.arena), &errors)) {
        exchange_fail_at(ex, API_input_invalid, "input",
                         "The input does not fit the schema of endpoint %s; see details.",
                         ex->endpoint->slug);
        ex->failure.details = details_of(ex, &errors);
    }
    schema_errors_free(&errors);
    json_object_put(value);
    return ex->failure.code == API_OK ? STAGE_NEXT : STAGE_DONE;
}
