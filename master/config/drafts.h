/* The configuration as its files say it, before names are resolved: one struct per section of
 * keys.def. Lists and maps stay nodes until their section's reader has gone through them. Fields of
 * keys that were wrong hold their defaults; `section.bad` tells. */
#pragma once

#include "master/config/section.h"
#include "shared/config.h"

struct listen_draft {
    struct section section;
    const char *address;
    const struct yaml_node *tls;
};

struct certificate_draft {
    struct section section;
    const char *cert, *key; /* paths */
};

struct service_draft {
    struct section section;
    struct config config;
    const struct yaml_node *listen, *trusted_proxies;
    int store_driver, log_bodies, log_level, log_format;
};

/* A parameter of a map: its name, and its value as JSON. */
struct parameter_draft {
    const char *name, *json;
};

struct parameters_draft {
    struct parameter_draft *at;
    size_t count;
};

/* pico-USD for a token; -1 = not given */
struct price_draft {
    int64_t input, output, cached_input, cache_write;
};

struct model_draft {
    struct section section;
    int provider; /* enum provider_id */
    const char *model;
    struct price_draft price, above;
    int64_t above_tokens, limits_context, worst_image_tokens, worst_tool_overhead;
    bool reasons;
    int api;               /* enum model_api */
    int structured_output; /* enum structured_output */
    int64_t limits_output; /* 0 = not known */
    const struct yaml_node *lacks_node, *parameters_node;
    struct config_lacks lacks;
    struct parameters_draft parameters;
};

struct credential_draft {
    struct section section;
    const char *name;
    int provider; /* enum provider_id */
    const char *base_url;
    const char *api_key; /* opened; wiped by drafts_wipe when no configuration takes it over */
    const struct yaml_node *headers;
    bool allow_http;
    struct config_header *headers_read;
    size_t headers_count;
};

struct variable_draft {
    struct section section;
    const char *name;
    int type; /* enum variable_type */
    bool required;
    const char *standard, *min, *max; /* NULL = none */
    int64_t max_length;               /* 0 = none */
    const char *pattern;
    const struct yaml_node *choices_node;
};

/* Who answers, and how it is called. */
struct target_draft {
    int provider;
    const char *model;
    const char *credential; /* NULL = none named */
    double temperature, top_p;
    int64_t max_output_tokens;
    struct price_draft price;
    int64_t timeout_ms; /* 0 = upstream.timeout */
    const struct yaml_node *client_parameters_node, *parameters_node;
    uint64_t client_parameters; /* a set of members */
    struct parameters_draft parameters;
};

struct template_draft {
    struct section section;
    const char *name;
    struct target_draft target;
};

/* Another target than the endpoint's own. */
struct use_draft {
    const char *template; /* NULL = none */
    int provider;
    const char *model, *credential; /* NULL = none named */
    bool known;                     /* `target` says all of it */
    struct target_draft target;     /* with what is left out */
};

struct failover_draft {
    struct section section;
    struct use_draft use;
};

struct rule_draft {
    struct section section;
    struct when_draft {
        const char *input_tokens, *messages_count, *monthly_spend_pct, *time_of_day;
        bool has_output_schema, has_input_schema, streaming;
    } when;
    struct use_draft use;
    const char *decision;
    struct routing_condition *conditions;
    size_t conditions_count;
    bool bad; /* a condition could not be read */
};

struct endpoint_draft {
    struct section section;
    const char *slug;
    const char *description;
    bool active;
    const char *template; /* NULL = none */
    struct target_draft target;
    int64_t retries;
    const struct yaml_node *failover_node, *rules_node;
    struct failover_draft *failover;
    size_t failover_count;
    struct rule_draft *rules;
    size_t rules_count;
    int64_t per_minute, per_hour, request_tokens; /* 0 = no limit */
    bool streaming_enabled;
    int streaming_format;
    int64_t monthly_nano_usd;
    const char *system_prompt, *user_prompt;
    const struct template *system_template, *user_template;
    const struct yaml_node *input_schema_node, *output_schema_node;
    int formats;
    struct config_schema *input_schema, *output_schema; /* NULL = none */
    int64_t output_repair;
    struct config_session session;
    const struct yaml_node *variables_node;
    struct variable *variables;
    size_t variables_count;
};

struct project_draft {
    struct section section;
    const char *name;
    const char *title;
    struct uuid id;
    bool active;
    int64_t per_minute, per_hour, monthly_nano_usd;
    const struct yaml_node *origins_node, *endpoints_node;
    const char **origins;
    size_t origins_count;
    struct endpoint_draft *endpoints;
    size_t endpoints_count;
};

struct token_draft {
    struct section section;
    const char *name;
    const char *project; /* NULL = none named */
    struct value_hash hash;
    const char *prefix; /* NULL = none */
    const struct yaml_node *scopes_node, *endpoints_node, *metadata_node;
    int64_t per_minute, per_hour, monthly_nano_usd;
    bool active;
    int64_t expires_wall_ms;
    unsigned scopes;
    const char **endpoints;
    const struct yaml_node **endpoint_nodes;
    size_t endpoints_count;
};

struct drafts {
    struct service_draft service;
    struct model_draft *models;
    size_t models_count;
    struct credential_draft *credentials;
    size_t credentials_count;
    struct template_draft *templates;
    size_t templates_count;
    struct project_draft *projects;
    size_t projects_count;
    struct token_draft *tokens;
    size_t tokens_count;
};

/* The addresses of promptgate.yaml. */
void listen_read(struct reading *reading, struct service_draft *service);
/* Each fills its part of the drafts from files that are in memory already. */
void service_draft_read(struct reading *reading, const struct config_file *file,
                        struct service_draft *service);
void model_drafts_read(struct reading *reading, const struct config_file *file,
                       struct drafts *drafts);
void credential_drafts_read(struct reading *reading, const struct config_files *files,
                            struct drafts *drafts);
void template_drafts_read(struct reading *reading, const struct config_files *files,
                          struct drafts *drafts);
/* Takes from the endpoint's template what the endpoint doesn't say, and reports what neither does.
 */
void template_fill(struct reading *reading, const struct drafts *drafts,
                   struct endpoint_draft *endpoint);
/* The template of a name that `key` of the section has; NULL when there is none: reported. */
const struct template_draft *template_named(struct reading *reading, const struct drafts *drafts,
                                            struct section *section, enum key_id key,
                                            const char *name);
/* The schema that a key's value is or names, compiled; NULL when there is none, or it is wrong. */
struct config_schema *schema_read(struct reading *reading, struct section *section, enum key_id key,
                                  const struct yaml_node *node, bool asserts);
/* Works out `use->target`: what it leaves out is its template's, and behind that the endpoint's. */
void failover_read(struct reading *reading, const struct drafts *drafts,
                   struct endpoint_draft *endpoint);
void rule_use_read(struct reading *reading, const struct drafts *drafts,
                   const struct endpoint_draft *endpoint, struct rule_draft *rule);
/* The same of rules, and their conditions. Reports what can't hold and what is never reached. */
void rules_read(struct reading *reading, const struct drafts *drafts,
                struct endpoint_draft *endpoint);
void project_drafts_read(struct reading *reading, const struct config_files *files,
                         struct drafts *drafts);
/* The parameters of a map that are sent as they are; `client` are those that clients may set. */
struct parameters_draft parameters_read_map(struct reading *reading, struct section *section,
                                            const struct yaml_node *map, uint64_t client);
/* One of them that says the answer's format to the provider; NULL when there is none. */
const char *parameters_format(const struct parameters_draft *parameters);
/* One of a target's that its clients may set, too; NULL when there is none. */
const char *parameters_clash(const struct target_draft *target);
/* An endpoint's and, behind them, those of its model that neither the endpoint nor its clients set,
 * as members of a JSON object without its braces; NULL = none. In `reading->lasting`. */
const char *parameters_join(struct reading *reading, const struct target_draft *target,
                            const struct model_draft *model);
/* Reports prices that are not whole. */
void prices_check_model(struct reading *reading, struct model_draft *model);
void prices_check_endpoint(struct reading *reading, struct endpoint_draft *endpoint);
void prices_check_template(struct reading *reading, struct template_draft *template);
/* What an endpoint's requests cost: its own price, else its model's (NULL = nothing is known). */
struct prices prices_of(const struct target_draft *target, const struct model_draft *model);
/* The row for a provider's model, the one with the longest beginning; NULL when there is none. */
const struct model_draft *model_draft_for(const struct drafts *drafts, int provider,
                                          const char *model);
/* Parts of an endpoint, in this order: a variable may not be called as a parameter that clients
 * set, and prompts name variables. */
void parameters_read(struct reading *reading, struct section *section, struct target_draft *target);
void variables_read(struct reading *reading, struct endpoint_draft *endpoint);
void token_drafts_read(struct reading *reading, const struct config_files *files,
                       struct drafts *drafts);
/* The bit of `enum token_scope`, 0 for no scope; and the names in order, NULL behind the last. */
unsigned token_scope_named(struct str name);
const char *token_scope_name(unsigned index);
/* Clears opened keys. */
void drafts_wipe(struct drafts *drafts);
