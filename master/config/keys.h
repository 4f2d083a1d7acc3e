/* The table of configuration keys (keys.def) as data. */
#pragma once

#include "master/config/values.h"

enum key_section {
    SECTION_SERVICE,
    SECTION_LISTEN,
    SECTION_CERTIFICATE,
    SECTION_MODEL,
    SECTION_CREDENTIAL,
    SECTION_TEMPLATE,
    SECTION_PROJECT,
    SECTION_ENDPOINT,
    SECTION_FAILOVER,
    SECTION_RULE,
    SECTION_VARIABLE,
    SECTION_TOKEN,
    SECTIONS_COUNT
};

/* SERVICE_http_max_body, … : a key's place in the table. */
enum key_id {
#define KEY(section, id, path, type, limits, presence, standard, reloadable, field, help)          \
    section##_##id,
#include "master/config/keys.def"
#undef KEY
    KEYS_COUNT
};

struct config_key {
    enum key_section section;
    const char *path; /* parts joined by "." */
    enum value_type type;
    const char *limits;
    bool required;
    const char *standard; /* the default; NULL = none, "=words" = worked out elsewhere */
    bool reloadable;
    size_t offset, size; /* of the field in the section's draft */
    const char *help;
};

extern const struct config_key config_keys[KEYS_COUNT];

/* "service", "credential", … */
const char *key_section_name(enum key_section section);
/* The default as people read it; "" for none. */
const char *key_standard_shown(const struct config_key *key);
/* The limits as people read them: without an enum's leading "|". */
const char *key_limits_shown(const struct config_key *key);
