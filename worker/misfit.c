#include "worker/misfit.h"

const struct api_detail *misfit_details(struct exchange *ex, const struct schema_errors *errors)
{
    const struct api_detail *details = NULL;
    for (size_t i = errors->count; i-- > 0;) {
        struct api_detail *one = arena_alloc(&ex->arena, sizeof *one);
        *one = (struct api_detail){
            .path = arena_strdup(&ex->arena, errors->at[i].instance_path),
            .keyword = arena_strdup(&ex->arena, errors->at[i].keyword),
            .message = arena_strdup(&ex->arena, errors->at[i].message),
            .schema_path = arena_strdup(&ex->arena, errors->at[i].schema_path),
            .next = details,
        };
        details = one;
    }
    return details;
}

const struct api_detail *misfit_detail(struct exchange *ex, const char *keyword,
                                       const char *message)
{
    struct api_detail *one = arena_alloc(&ex->arena, sizeof *one);
    *one = (struct api_detail){.path = "", .keyword = keyword, .message = message};
    return one;
}
