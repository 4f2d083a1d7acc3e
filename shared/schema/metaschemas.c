#include "shared/schema/metaschemas.h"

#include "shared/base/json.h"
#include "shared/base/log.h"

#include <stdlib.h>

static const struct {
    const char *uri, *name;
    enum schema_draft draft;
} drafts[] = {
    {"http://json-schema.org/draft-04/schema", "draft-04", SCHEMA_4},
    {"http://json-schema.org/draft-06/schema", "draft-06", SCHEMA_6},
    {"http://json-schema.org/draft-07/schema", "draft-07", SCHEMA_7},
    {"https://json-schema.org/draft/2019-09/schema", "2019-09/schema", SCHEMA_2019_09},
    {"https://json-schema.org/draft/2020-12/schema", "2020-12/schema", SCHEMA_2020_12},
};

bool metaschema_draft(struct str uri, enum schema_draft *draft)
{
    for (size_t i = 0; i < sizeof drafts / sizeof *drafts; i++) {
        if (!str_eq(uri, str_of(drafts[i].uri)))
            continue;
        *draft = drafts[i].draft;
        return true;
    }
    return false;
}

struct str metaschema_uri(enum schema_draft draft)
{
    return str_of(drafts[draft].uri);
}

/* "2020-12/meta/core" of its URI; absent for another one. */
static struct str name_of(struct str uri, enum schema_draft *draft)
{
    struct str folder = STR("https://json-schema.org/draft/");
    for (size_t i = 0; i < sizeof drafts / sizeof *drafts; i++)
        if (metaschema_draft(uri, draft) && *draft == drafts[i].draft)
            return str_of(drafts[i].name);
    if (!str_starts(uri, folder))
        return STR_ABSENT;
    struct str name = {uri.at + folder.len, uri.len - folder.len};
    *draft = str_starts(name, STR("2019-09/")) ? SCHEMA_2019_09 : SCHEMA_2020_12;
    return name;
}

struct json_object *metaschema_load(struct str uri, enum schema_draft *draft)
{
    enum schema_draft found = *draft;
    struct str name = name_of(uri, &found);
    struct json_object *document = NULL;
    struct error error;
    for (size_t i = 0; name.at && i < metaschema_texts_count; i++) {
        if (!str_eq(name, str_of(metaschema_texts[i].name)))
            continue;
        if (!json_read(str_of(metaschema_texts[i].json), &document, &error)) {
            log_error("metaschema %s: %s", metaschema_texts[i].name, error.message);
            abort(); /* a part of the binary */
        }
        *draft = found;
        return document;
    }
    return NULL;
}
