/* Prices: what models.yaml and endpoints say, put together and completed. */
#include "master/config/drafts.h"

/* Either no price at all, or both that every request needs. */
static void check_pair(struct reading *reading, struct section *section, enum key_id input,
                       enum key_id output)
{
    if (section->at[input] && !section->at[output] && !section->bad[output])
        section_error(reading, section, output, "missing: there is an input price");
    if (section->at[output] && !section->at[input] && !section->bad[input])
        section_error(reading, section, input, "missing: there is an output price");
}

static void check_needs(struct reading *reading, struct section *section, enum key_id key,
                        enum key_id needed)
{
    if (section->at[key] && !section->bad[key] && !section->at[needed] && !section->bad[needed])
        section_error(reading, section, key, "says nothing without %s", config_keys[needed].path);
}

void prices_check_model(struct reading *reading, struct model_draft *model)
{
    struct section *section = &model->section;
    check_pair(reading, section, MODEL_price_input, MODEL_price_output);
    check_pair(reading, section, MODEL_above_input, MODEL_above_output);
    check_needs(reading, section, MODEL_price_cached_input, MODEL_price_input);
    check_needs(reading, section, MODEL_price_cache_write, MODEL_price_input);
    check_needs(reading, section, MODEL_above_input, MODEL_price_input);
    check_needs(reading, section, MODEL_above_input, MODEL_above_input_tokens);
    check_needs(reading, section, MODEL_above_input_tokens, MODEL_above_input);
    check_needs(reading, section, MODEL_above_cached_input, MODEL_above_input);
    check_needs(reading, section, MODEL_above_cache_write, MODEL_above_input);
}

void prices_check_endpoint(struct reading *reading, struct endpoint_draft *endpoint)
{
    struct section *section = &endpoint->section;
    check_pair(reading, section, ENDPOINT_price_input, ENDPOINT_price_output);
    check_needs(reading, section, ENDPOINT_price_cached_input, ENDPOINT_price_input);
    check_needs(reading, section, ENDPOINT_price_cache_write, ENDPOINT_price_input);
}

void prices_check_template(struct reading *reading, struct template_draft *template)
{
    struct section *section = &template->section;
    check_pair(reading, section, TEMPLATE_price_input, TEMPLATE_price_output);
    check_needs(reading, section, TEMPLATE_price_cached_input, TEMPLATE_price_input);
    check_needs(reading, section, TEMPLATE_price_cache_write, TEMPLATE_price_input);
}

static int64_t given_or(int64_t given, int64_t otherwise)
{
    return given >= 0 ? given : otherwise;
}

static struct price usual(const struct price_draft *draft)
{
    return (struct price){.input = draft->input,
                          .output = draft->output,
                          .cached_input = given_or(draft->cached_input, draft->input),
                          .cache_write = given_or(draft->cache_write, draft->input)};
}

/* `part` as it is to `whole`, of another whole; rounded up. */
static int64_t in_proportion(int64_t part, int64_t whole, int64_t other)
{
    __extension__ typedef __int128 wide;
    if (whole == 0)
        return other;
    return (int64_t)(((wide)part * (wide)other + (wide)whole - 1) / (wide)whole);
}

struct prices prices_of(const struct target_draft *target, const struct model_draft *model)
{
    if (target->price.input >= 0)
        return (struct prices){.known = true, .usual = usual(&target->price)};
    if (!model || model->price.input < 0)
        return (struct prices){0};
    struct prices prices = {.known = true, .usual = usual(&model->price)};
    const struct price *base = &prices.usual;
    if (model->above_tokens == 0)
        return prices;
    int64_t input = model->above.input;
    prices.above_tokens = model->above_tokens;
    prices.above = (struct price){
        .input = input,
        .output = model->above.output,
        .cached_input = given_or(model->above.cached_input,
                                 in_proportion(base->cached_input, base->input, input)),
        .cache_write = given_or(model->above.cache_write,
                                in_proportion(base->cache_write, base->input, input)),
    };
    return prices;
}
