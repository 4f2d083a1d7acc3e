/* The input value fits the endpoint's schema (contract: Request body). */
#include "worker/stage/stage.h"

#include "shared/schema/schema.h"
#include "worker/misfit.h"

/* A text that is a JSON object or array counts as that. The caller's to release. */
static struct json_object *input_value(const struct exchange *ex)
{
    struct str text = str_trim_lines(ex->input.text);
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
        ex->failure.details = misfit_details(ex, &errors);
    }
    schema_errors_free(&errors);
    json_object_put(value);
    return ex->failure.code == API_OK ? STAGE_NEXT : STAGE_DONE;
}
