#include "shared/schema/pattern.h"

#include "shared/schema/javascript.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum {
    STEPS_MAX = 100000, /* of the matcher: some milliseconds */
    HEAP_KIB_MAX = 1024,
    SOURCE_MAX = 4096,
};

struct pattern {
    pcre2_code *code;
};

static void *allocate(PCRE2_SIZE size, void *arena)
{
    return arena_alloc(arena, size);
}

static void release(void *memory, void *arena)
{
    (void)memory, (void)arena; /* goes with the arena */
}

static bool compile(struct str source, uint32_t more, struct arena *arena, struct pattern **result,
                    size_t *offset, struct error *error)
{
    int number;
    struct pattern *pattern = arena_alloc(arena, sizeof *pattern);
    *offset = 0;
    if (source.len > SOURCE_MAX)
        return error_set(error, "it is longer than %d bytes", SOURCE_MAX);
    pcre2_general_context *general = pcre2_general_context_create(allocate, release, arena);
    pcre2_compile_context *context = pcre2_compile_context_create(general);
    pattern->code = pcre2_compile((PCRE2_SPTR)(source.at ? source.at : ""), source.len,
                                  PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY | more,
                                  &number, offset, context);
    if (pattern->code) {
        *result = pattern;
        return true;
    }
    PCRE2_UCHAR said[128];
    pcre2_get_error_message(number, said, sizeof said);
    return error_set(error, "%s", (const char *)said);
}

bool pattern_compile(struct str source, struct arena *arena, struct pattern **result,
                     size_t *offset, struct error *error)
{
    return compile(source, 0, arena, result, offset, error);
}

/* Without machine code it is interpreted: where memory may not be both written and run. */
bool pattern_compile_javascript(struct str source, struct arena *arena, struct pattern **result,
                                size_t *offset, struct error *error)
{
    struct buf translated = {0};
    bool compiled = javascript_translate(source, &translated, offset, error) &&
                    compile(buf_view(&translated),
                            PCRE2_ALT_BSUX | PCRE2_ALLOW_EMPTY_CLASS | PCRE2_MATCH_UNSET_BACKREF,
                            arena, result, offset, error);
    buf_free(&translated);
    if (compiled)
        (void)pcre2_jit_compile((*result)->code, PCRE2_JIT_COMPLETE);
    return compiled;
}

void pattern_free(struct pattern *pattern)
{
    pcre2_code_free(pattern->code);
}

/* Made once, for all patterns: a match needs no memory but this, and what its limit allows. */
static pcre2_match_data *match_data(void)
{
    static pcre2_match_data *data;
    if (!data)
        data = pcre2_match_data_create(1, NULL);
    return data;
}

static pcre2_match_context *match_context(void)
{
    static pcre2_match_context *context;
    if (!context) {
        context = pcre2_match_context_create(NULL);
        pcre2_set_match_limit(context, STEPS_MAX);
        pcre2_set_heap_limit(context, HEAP_KIB_MAX);
    }
    return context;
}

static int match(const struct pattern *pattern, struct str text, uint32_t more)
{
    return pcre2_match(pattern->code, (PCRE2_SPTR)(text.at ? text.at : ""), text.len, 0,
                       PCRE2_NO_UTF_CHECK | more, match_data(), match_context());
}

enum pattern_verdict pattern_match(const struct pattern *pattern, struct str text)
{
    int found = match(pattern, text, 0);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found = match(pattern, text, PCRE2_NO_JIT);
    if (found >= 0)
        return PATTERN_MATCHES;
    return found == PCRE2_ERROR_NOMATCH ? PATTERN_DIFFERS : PATTERN_TOO_COSTLY;
}
