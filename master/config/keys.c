#include "master/config/keys.h"

#include "master/config/drafts.h"

#define PROVIDER(id, name, url, key) "|" name
static const char provider_names[] =
#include "shared/providers.def"
    ;
#undef PROVIDER

#define PROVIDER_NAMES provider_names
#define REQUIRED true
#define OPTIONAL false

typedef struct service_draft draft_of_SERVICE;
typedef struct listen_draft draft_of_LISTEN;
typedef struct certificate_draft draft_of_CERTIFICATE;
typedef struct model_draft draft_of_MODEL;
typedef struct credential_draft draft_of_CREDENTIAL;
typedef struct template_draft draft_of_TEMPLATE;
typedef struct project_draft draft_of_PROJECT;
typedef struct endpoint_draft draft_of_ENDPOINT;
typedef struct failover_draft draft_of_FAILOVER;
typedef struct rule_draft draft_of_RULE;
typedef struct variable_draft draft_of_VARIABLE;
typedef struct token_draft draft_of_TOKEN;

const struct config_key config_keys[KEYS_COUNT] = {
#define KEY(section, id, path, type, limits, presence, standard, reloadable, field, help)          \
    {SECTION_##section,                                                                            \
     path,                                                                                         \
     VALUE_##type,                                                                                 \
     limits,                                                                                       \
     presence,                                                                                     \
     standard,                                                                                     \
     reloadable,                                                                                   \
     offsetof(draft_of_##section, field),                                                          \
     sizeof(((draft_of_##section *)0)->field),                                                     \
     help},
#include "master/config/keys.def"
#undef KEY
};

const char *key_section_name(enum key_section section)
{
    static const char *const names[] = {"service",    "listen",   "certificate", "model",
                                        "credential", "template", "project",     "endpoint",
                                        "failover",   "rule",     "variable",    "token"};
    return names[section];
}

const char *key_standard_shown(const struct config_key *key)
{
    if (!key->standard)
        return "";
    return key->standard + (key->standard[0] == '=');
}

const char *key_limits_shown(const struct config_key *key)
{
    return key->limits + (key->limits[0] == '|');
}
