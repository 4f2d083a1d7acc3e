#include "shared/config.h"

#include <sodium.h>
#include <stdlib.h>

static int compare_project(const void *key, const void *entry)
{
    return uuid_compare(key, &((const struct config_project *)entry)->id);
}

const struct config_project *config_project(const struct config *config, const struct uuid *id)
{
    if (config->projects_count == 0)
        return NULL;
    return bsearch(id, config->projects, config->projects_count, sizeof *config->projects,
                   compare_project);
}

static int compare_slug(const void *key, const void *entry)
{
    struct str wanted = *(const struct str *)key;
    struct str slug = str_of(((const struct config_endpoint *)entry)->slug);
    int order = memcmp(wanted.at, slug.at, wanted.len < slug.len ? wanted.len : slug.len);
    if (order != 0)
        return order;
    return wanted.len < slug.len ? -1 : wanted.len > slug.len;
}

const struct config_endpoint *config_endpoint(const struct config_project *project, struct str slug)
{
    if (slug.len == 0 || project->endpoints_count == 0)
        return NULL;
    return bsearch(&slug, project->endpoints, project->endpoints_count, sizeof *project->endpoints,
                   compare_slug);
}

bool slug_reserved(struct str slug)
{
    return str_eq(slug, STR("chat")) || str_eq(slug, STR("models")) || str_eq(slug, STR("usage")) ||
           str_eq(slug, STR("v1"));
}

bool slug_valid(struct str slug)
{
    if (slug.len == 0 || slug.len > 63 || slug.at[0] == '-' || slug.at[slug.len - 1] == '-')
        return false;
    for (size_t i = 0; i < slug.len; i++) {
        char c = slug.at[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-')
            return false;
    }
    return !slug_reserved(slug);
}

const char *provider_name(enum provider_id id)
{
    static const char *const names[] = {
#define PROVIDER(id, name, url, key) name,
#include "shared/providers.def"
#undef PROVIDER
    };
    return names[id];
}

bool provider_needs_key(enum provider_id id)
{
    static const bool needs[] = {
#define PROVIDER(id, name, url, key) key,
#include "shared/providers.def"
#undef PROVIDER
    };
    return needs[id];
}

static void wipe(const char *secret)
{
    if (secret)
        sodium_memzero((char *)(uintptr_t)secret, strlen(secret));
}

void config_schemas_free(struct config_schema *schemas)
{
    for (; schemas; schemas = schemas->next) {
        schema_free(&schemas->schema);
        for (int i = 0; i < CONFIG_SCHEMA_FORMS; i++)
            free(schemas->forms[i]);
    }
}

void config_free(struct config **config)
{
    if (!*config)
        return;
    /* Keys that stand in a file themselves are in the arena. */
    for (size_t i = 0; i < (*config)->credentials_count; i++)
        wipe((*config)->credentials[i].api_key);
    wipe((*config)->store.dsn);
    config_schemas_free((*config)->schemas);
    secret_memory_free(&(*config)->secrets);
    secret_memory_free(&(*config)->store_secrets);
    struct arena arena = (*config)->arena;
    arena_free(&arena);
    *config = NULL;
}
