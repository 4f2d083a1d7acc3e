#include "worker/provider/openai_glance.h"

#include "shared/base/json_check.h"

/* Depths on the way root.choices[].delta. */
enum { ROOT = 1, CHOICES, CHOICE, DELTA };

enum key {
    OTHER,
    TELLING, /* has to be null */
    THE_CHOICES,
    THE_DELTA,
    ROLE,
    CONTENT,
};

struct glancing {
    struct openai_glance *seen;
    unsigned depth, on_way; /* how many levels are open; up to which it is the way */
    unsigned choices;
    enum key key; /* the last one of a level on the way */
    bool plain;
};

struct meaning {
    const char *name;
    enum key key;
};

static enum key look_up(struct str name, const struct meaning *meanings, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (str_eq(name, str_of(meanings[i].name)))
            return meanings[i].key;
    return OTHER;
}

static bool is_on_way(const struct glancing *g)
{
    return g->depth == g->on_way;
}

static void on_key(void *context, struct str name)
{
    static const struct meaning of_root[] = {
        {"choices", THE_CHOICES}, {"usage", TELLING}, {"error", TELLING}, {"x_groq", TELLING}};
    static const struct meaning of_choice[] = {{"delta", THE_DELTA}, {"finish_reason", TELLING}};
    static const struct meaning of_delta[] = {{"content", CONTENT}, {"role", ROLE}};
    struct glancing *g = context;
    if (!is_on_way(g))
        return;
    if (g->depth == ROOT)
        g->key = look_up(name, of_root, sizeof of_root / sizeof *of_root);
    else if (g->depth == CHOICE)
        g->key = look_up(name, of_choice, sizeof of_choice / sizeof *of_choice);
    else
        g->key = look_up(name, of_delta, sizeof of_delta / sizeof *of_delta);
}

/* A value on the way that is neither null nor a step further. Of a delta, other members may be
 * numbers and the like: a tool call is none. */
static void on_value(struct glancing *g, bool is_number)
{
    if (!is_on_way(g))
        return;
    if (g->depth == CHOICES || g->key == TELLING || g->key == THE_CHOICES || g->key == THE_DELTA)
        g->plain = false;
    if (g->depth == DELTA && g->key != ROLE && !(g->key == OTHER && is_number))
        g->plain = false;
}

static void on_string(void *context, struct str text, struct str raw, bool lossy)
{
    struct glancing *g = context;
    (void)raw;
    if (!is_on_way(g) || g->depth != DELTA || g->key != CONTENT || lossy) {
        on_value(g, false);
        return;
    }
    g->seen->text_bytes += text.len;
    if (g->seen->text)
        buf_str(g->seen->text, text);
}

static void on_number(void *context, struct str raw)
{
    (void)raw;
    on_value(context, true);
}

static void on_literal(void *context, char which)
{
    const struct glancing *g = context;
    bool no_step = g->depth == CHOICES || g->key == THE_CHOICES || g->key == THE_DELTA;
    if (which != 'n' || (is_on_way(g) && no_step))
        on_value(context, true);
}

static void on_object(void *context)
{
    struct glancing *g = context;
    bool step = is_on_way(g) && (g->depth == 0 || g->depth == CHOICES ||
                                 (g->depth == CHOICE && g->key == THE_DELTA));
    if (!step)
        on_value(g, false);
    if (step && g->depth == CHOICES)
        g->choices++;
    g->on_way += step;
    g->depth++;
}

static void on_array(void *context)
{
    struct glancing *g = context;
    bool step = is_on_way(g) && g->depth == ROOT && g->key == THE_CHOICES;
    if (!step)
        on_value(g, false);
    if (g->depth == 0)
        g->plain = false;
    g->on_way += step;
    g->depth++;
}

static void on_end(void *context)
{
    struct glancing *g = context;
    if (is_on_way(g))
        g->on_way--;
    g->depth--;
}

bool openai_glance(struct str event, struct openai_glance *seen)
{
    static const struct json_visitor visitor = {
        .object_begin = on_object,
        .object_end = on_end,
        .array_begin = on_array,
        .array_end = on_end,
        .key = on_key,
        .string = on_string,
        .number = on_number,
        .literal = on_literal,
    };
    struct glancing g = {.seen = seen, .plain = true};
    struct error ignored;
    size_t before = seen->text ? seen->text->len : 0;
    seen->text_bytes = 0;
    bool good = json_check(event, &visitor, &g, &ignored) && g.plain && g.choices == 1;
    if (!good && seen->text)
        seen->text->len = before;
    return good;
}
