#include "worker/worst_case.h"

#include "worker/fit.h"
#include "worker/provider/chat.h"

/* How many images; -1 when a part may be billed as any number of tokens: what is only named, by a
 * URL or a file's id, and sounds. */
static int64_t count_images(struct json_object *content)
{
    int64_t images = 0;
    for (size_t i = 0; i < chat_count_parts(content); i++) {
        struct chat_part part = chat_part_at(content, i);
        if (part.kind == CHAT_OTHER ||
            (part.kind == CHAT_IMAGE && !str_starts_nocase(part.text, STR("data:"))))
            return -1;
        images += part.kind == CHAT_IMAGE;
    }
    return images;
}

static bool add_parts(const struct completion_request *request, struct worst_case *worst)
{
    const struct config_model *model = &request->target->known;
    for (size_t i = 0; i < json_object_array_length(request->messages); i++) {
        struct json_object *message = json_object_array_get_idx(request->messages, i);
        int64_t images = count_images(json_member(message, "content", NULL));
        if (images < 0)
            worst->why = "a part that is named by a URL or an id, or is a sound or file";
        else if (images > 0 && model->image_tokens < 0)
            worst->why = "an image, of which models.yaml has no worst_case.image_tokens";
        if (worst->why)
            return false;
        worst->prompt_tokens += images * model->image_tokens;
    }
    return true;
}

struct worst_case worst_case_of(const struct fitted *fitted, struct str body)
{
    const struct completion_request *request = &fitted->request;
    const struct config_model *model = &request->target->known;
    struct worst_case worst = {.prompt_tokens = (int64_t)body.len};
    worst.bounded = add_parts(request, &worst);
    if (request->parameters->values[MEMBER_tools] || request->output.native)
        worst.prompt_tokens += model->tool_overhead;
    if (model->context_limit > 0 && worst.prompt_tokens > model->context_limit)
        worst.prompt_tokens = model->context_limit;
    worst.completion_tokens = request->max_tokens ? request->max_tokens : model->output_limit;
    if (worst.completion_tokens == 0) {
        worst.bounded = false;
        worst.why = worst.why ? worst.why : "an answer of any length: max_output_tokens is not set";
    }
    if (model->prices.known)
        worst.nano_usd =
            money_worst_cost(&model->prices, worst.prompt_tokens, worst.completion_tokens);
    return worst;
}
