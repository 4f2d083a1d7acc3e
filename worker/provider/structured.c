#include "worker/provider/structured.h"

#include "shared/base/xalloc.h"
#include "worker/provider/schema_form.h"

_Static_assert((int)FORM_COUNT <= CONFIG_SCHEMA_FORMS, "a schema keeps one text of each form");

/* Source: the vendors' documentation of structured outputs. */
static const struct ability {
    enum schema_form form, otherwise; /* the second where the first has no words for the schema */
    bool any_model;                   /* else only those of which models.yaml says so */
    bool with_tools, with_streams;
    bool and_prompt; /* the model does not see what its provider is told */
} abilities[PROVIDER_COUNT] = {
    [PROVIDER_OPENAI] = {FORM_STRICT, FORM_WHOLE, true, true, true, false},
    [PROVIDER_ANTHROPIC] = {FORM_ANTHROPIC, FORM_ANTHROPIC, true, true, true, false},
    [PROVIDER_GEMINI] = {FORM_GEMINI, FORM_GEMINI, true, false, true, false},
    [PROVIDER_MISTRAL] = {FORM_STRICT, FORM_WHOLE, true, false, true, false},
    [PROVIDER_GROQ] = {FORM_STRICT, FORM_WHOLE, false, false, false, false},
    [PROVIDER_TOGETHER] = {FORM_WHOLE, FORM_WHOLE, false, false, true, true},
    [PROVIDER_OLLAMA] = {FORM_OLLAMA, FORM_OLLAMA, true, false, true, true},
    [PROVIDER_COHERE] = {FORM_COHERE, FORM_COHERE, true, false, true, false},
    [PROVIDER_ECHO] = {FORM_WHOLE, FORM_WHOLE, false, true, true, false},
};

/* An empty text is what no form could be found for. */
static const char *text_in(struct config_schema *schema, enum schema_form form)
{
    if (schema->refers_to_files)
        return NULL;
    if (!schema->forms[form]) {
        char *text = schema_form_write(form, str_of(schema->text));
        schema->forms[form] = text ? text : xstrdup("");
    }
    return *schema->forms[form] ? schema->forms[form] : NULL;
}

static bool has_means(const struct ability *ability, const struct config_model *model,
                      struct structured_request request)
{
    bool lacks = model->lacks.parameters & MEMBER_BIT(MEMBER_response_format);
    bool able = model->structured_output == STRUCTURED_AUTO
                    ? ability->any_model && !lacks
                    : model->structured_output == STRUCTURED_NATIVE;
    return able && (!request.has_tools || ability->with_tools) &&
           (!request.streams || ability->with_streams);
}

struct structured structured_for(struct config_schema *schema, const struct config_target *target,
                                 struct structured_request request)
{
    const struct ability *ability = &abilities[target->provider];
    struct structured found = {.prompt = schema->text};
    if (!has_means(ability, &target->known, request))
        return found;
    found.native = text_in(schema, ability->form);
    found.strict = found.native && ability->form == FORM_STRICT;
    if (!found.native)
        found.native = text_in(schema, ability->otherwise);
    if (found.native && !ability->and_prompt)
        found.prompt = NULL;
    return found;
}

const char *structured_name(const struct structured *structured)
{
    if (!structured->native)
        return "prompt";
    if (structured->prompt)
        return "native and prompt";
    return structured->strict ? "native, strict" : "native";
}
