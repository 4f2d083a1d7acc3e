#include "worker/output.h"

#include "worker/misfit.h"
#include "worker/provider/chat.h"

/* --- a code fence (CommonMark 4.5) --- */

static size_t run_length(struct str text)
{
    size_t len = 0;
    while (len < text.len && text.at[len] == text.at[0])
        len++;
    return len;
}

/* What stands between the fence's first line and its last, if that is all there is. */
static struct str without_fence(struct str said)
{
    enum { SHORTEST = 3 };
    struct str text = str_trim_lines(said);
    if (text.len == 0 || (text.at[0] != '`' && text.at[0] != '~'))
        return text;
    size_t fence = run_length(text);
    const char *line = memchr(text.at, '\n', text.len);
    if (fence < SHORTEST || !line ||
        memchr(text.at + fence, text.at[0], (size_t)(line - text.at) - fence))
        return text;
    struct str inner = {line + 1, text.len - (size_t)(line + 1 - text.at)};
    size_t closing = 0;
    while (closing < inner.len && inner.at[inner.len - closing - 1] == text.at[0])
        closing++;
    inner.len -= closing;
    struct str before = str_trim(inner); /* the closing fence has a line of its own */
    bool own_line = before.len == 0 || before.at[before.len - 1] == '\n';
    return closing >= fence && own_line ? str_trim_lines(inner) : text;
}

/* --- the verdict --- */

/* The answer is kept: it may be needed longer than what it was read from. */
static enum output_verdict fail(struct exchange *ex, const char *what, struct str content,
                                const struct api_detail *details)
{
    exchange_fail(ex, API_output_invalid, "%s endpoint %s; see details.", what, ex->endpoint->slug);
    ex->failure.details = details;
    ex->failure.content = arena_copy(&ex->arena, content.at ? content : STR(""));
    return OUTPUT_UNFIT;
}

static enum output_verdict fail_declined(struct exchange *ex, struct str *fault)
{
    const struct completion *said = &ex->completion;
    *fault = STR("The model declined to answer.");
    (void)fail(ex, "The model declined to give an answer that fits the schema of",
               said->refusal.len ? said->refusal : said->content,
               misfit_detail(ex, "refusal", "must be an answer, not a refusal"));
    return OUTPUT_DECLINED;
}

static enum output_verdict fail_unread(struct exchange *ex, struct str text, const char *reason,
                                       struct str *fault)
{
    bool was_cut = strcmp(ex->completion.finish_reason, "length") == 0;
    const char *message = text.len == 0 ? "must be JSON, and there is no text"
                          : was_cut     ? arena_printf(&ex->arena,
                                                       "must be JSON: it ends where the most tokens "
                                                           "of an answer were used up (%s)",
                                                       reason)
                                        : arena_printf(&ex->arena, "must be JSON: %s", reason);
    *fault = was_cut ? STR("The answer is no JSON: it was cut off at its most tokens.")
                     : STR("The answer is no JSON.");
    return fail(ex, "The model's answer is no JSON, so it does not fit the schema of",
                ex->completion.content, misfit_detail(ex, "json", message));
}

static enum output_verdict fail_unfit(struct exchange *ex, const struct schema_errors *errors,
                                      struct str *fault)
{
    size_t others = errors->count - 1;
    char more[48] = "";
    if (others > 0)
        snprintf(more, sizeof more, " and %zu %s", others, errors->more ? "or more" : "more");
    *fault = str_of(arena_printf(&ex->arena, "The answer does not fit output_schema: %s%s.",
                                 errors->at[0].schema_path, more));
    return fail(ex, "The model's answer does not fit the schema of", ex->completion.content,
                misfit_details(ex, errors));
}

static enum output_verdict hold_to_schema(struct exchange *ex, struct str text, struct str *fault)
{
    struct schema_errors errors = {0};
    struct json_object *value = NULL;
    struct error error;
    enum output_verdict verdict = OUTPUT_FITS;
    if (!json_read(text, &value, &error))
        return fail_unread(ex, text, error.message, fault);
    const struct cell *instance = schema_instance(value, &errors.arena);
    if (schema_validate(ex->endpoint->output_schema->schema, instance, &errors)) {
        ex->output = value;
        ex->output_checked = true;
        ex->completion.content = text;
    } else {
        verdict = fail_unfit(ex, &errors, fault);
        json_object_put(value);
    }
    schema_errors_free(&errors);
    return verdict;
}

enum output_verdict output_judge(struct exchange *ex, struct str *fault)
{
    const struct completion *said = &ex->completion;
    bool calls_only = said->tool_calls && str_trim_lines(said->content).len == 0;
    if (!ex->endpoint->output_schema || calls_only)
        return OUTPUT_FITS;
    if (said->refusal.len || strcmp(said->finish_reason, "content_filter") == 0)
        return fail_declined(ex, fault);
    return hold_to_schema(ex, without_fence(said->content), fault);
}

/* --- what the model is told --- */

/* An empty message is refused by some. */
struct json_object *output_repair_turn(const struct failure *unfit, struct json_object *messages)
{
    struct json_object *turns = json_object_new_array();
    struct buf text = {0};
    chat_add_from(turns, messages, 0);
    if (str_trim_lines(unfit->content).len > 0)
        json_object_array_add(turns, chat_new_message("assistant", unfit->content));
    buf_puts(&text, "That answer cannot be used. It must be one JSON value that is valid against "
                    "the JSON Schema it was asked for, and nothing else:\n");
    for (const struct api_detail *one = unfit->details; one; one = one->next)
        buf_printf(&text, "- %s%s%s\n", one->path, *one->path ? ": " : "", one->message);
    buf_puts(&text, "Answer again, with the whole corrected JSON alone.");
    json_object_array_add(turns, chat_new_message("user", buf_view(&text)));
    buf_free(&text);
    return turns;
}

/* Behind a content that is a text, or a list of parts. */
static struct json_object *content_with(struct json_object *content, struct str text)
{
    struct buf all = {0};
    if (!json_object_is_type(content, json_type_array)) {
        buf_str(&all, json_text(content));
        buf_puts(&all, all.len ? "\n\n" : "");
        buf_str(&all, text);
        struct json_object *made = chat_string(buf_view(&all));
        buf_free(&all);
        return made;
    }
    struct json_object *parts = json_object_new_array(), *part = json_object_new_object();
    chat_add_from(parts, content, 0);
    chat_put_string(part, "type", STR("text"));
    chat_put(part, "text", chat_string(text));
    json_object_array_add(parts, part);
    return parts;
}

static struct json_object *system_with(struct json_object *system, struct str text)
{
    struct json_object *made = json_object_new_object();
    json_object_object_foreach(system, name, value)
        json_object_object_add(made, name, json_object_get(value));
    chat_put(made, "content", content_with(json_member(system, "content", NULL), text));
    return made;
}

struct json_object *output_told(const char *schema, struct json_object *messages)
{
    struct json_object *first =
        json_object_array_length(messages) ? json_object_array_get_idx(messages, 0) : NULL;
    bool has_system = first && chat_role_of(first) == CHAT_SYSTEM;
    struct json_object *told = json_object_new_array();
    struct buf text = {0};
    buf_printf(&text,
               "Answer with one JSON value and nothing else, no Markdown and no other text. It "
               "must be valid against this JSON Schema:\n%s",
               schema);
    json_object_array_add(told, has_system ? system_with(first, buf_view(&text))
                                           : chat_new_message("system", buf_view(&text)));
    chat_add_from(told, messages, has_system);
    buf_free(&text);
    return told;
}
