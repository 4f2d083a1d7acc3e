/* The configuration as every role sees it: plain structs, built by the master, immutable after,
 * inherited by fork. All of it lives in `config.arena`, keys in `config.secrets`. Times are
 * milliseconds, sizes bytes; keys.def documents each key. */
#pragma once

#include "shared/base/arena.h"
#include "shared/base/day_time.h"
#include "shared/base/hash.h"
#include "shared/base/ip.h"
#include "shared/base/log.h"
#include "shared/base/money.h"
#include "shared/base/months.h"
#include "shared/base/secret_memory.h"
#include "shared/base/uuid.h"
#include "shared/members.h"
#include "shared/prompt/template.h"
#include "shared/prompt/variable.h"
#include "shared/routing/rules.h"
#include "shared/schema/schema.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

enum provider_id {
#define PROVIDER(id, name, url, key) PROVIDER_##id,
#include "shared/providers.def"
#undef PROVIDER
    PROVIDER_COUNT
};

union socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local; /* its path is absolute */
};

/* PEM; the key is in `config.secrets`. */
struct config_pair {
    struct str certificate, key;
};

struct config_listen {
    const char *text; /* as written */
    union socket_address address;
    struct config_pair *pairs; /* certificates */
    size_t pairs_count;        /* 0 = plain HTTP */
};

struct config_store {
    const char *driver;   /* "sqlite", "postgres" */
    const char *path;     /* the SQLite file */
    const char *dsn;      /* opened, in `config.store_secrets`; NULL = none */
    struct months months; /* of the configuration's time zone, by which rows are summed up */
};

struct config_http {
    int64_t max_body, max_header;
    int64_t header_timeout_ms, body_timeout_ms, idle_timeout_ms, write_timeout_ms;
    int64_t backlog;
    int64_t stream_buffer;
    int64_t max_connections;                  /* of each worker; 0 = auto */
    const struct ip_network *trusted_proxies; /* whose X-Forwarded-For is believed; may be NULL */
    size_t trusted_proxies_count;
    bool trusts_local; /* and that of clients on UNIX sockets */
};

struct config_upstream {
    int64_t connect_timeout_ms, timeout_ms, first_byte_timeout_ms, idle_timeout_ms;
    int64_t max_response;
    int64_t keepalive;
    const char *ca_file; /* NULL = the system's */
    struct config_breaker {
        int64_t failures;   /* one after the other */
        int64_t error_rate; /* percent, in `window_ms` */
        int64_t window_ms;
        int64_t probe_ms;
    } breaker;
};

struct config_header {
    const char *name, *value;
};

enum { CONFIG_HEADERS_MAX = 20 }; /* of a credential */

struct config_credential {
    const char *name;
    enum provider_id provider;
    const char *base_url; /* never NULL, no slash at the end */
    const char *api_key;  /* opened, in `config.secrets`; NULL when the provider needs none */
    struct config_header *headers;
    size_t headers_count;
    bool built_in;    /* of no file: for endpoints that name none */
    uint32_t account; /* in the counters file: set when a generation takes it on */
};

/* What a model refuses. */
struct config_lacks {
    uint64_t parameters;     /* a set of members */
    bool prefill;            /* a last message of the assistant's, to be gone on with */
    bool forced_tool_choice; /* a tool_choice other than auto and none */
};

/* Which of the provider's APIs a model is called by; as keys.def names them. */
enum model_api { MODEL_API_CHAT, MODEL_API_RESPONSES };

/* How a model is told the schema of its answer; as keys.def names them. */
enum structured_output { STRUCTURED_AUTO, STRUCTURED_NATIVE, STRUCTURED_PROMPT };

/* What is known of a model (models.yaml). */
struct config_model {
    enum model_api api; /* responses: OpenAI's alone */
    enum structured_output structured_output;
    struct config_lacks lacks;
    int64_t output_limit, context_limit; /* tokens; 0 = not known */
    int64_t image_tokens;                /* most of one image; -1 = not known */
    int64_t tool_overhead;               /* most that tools add unseen */
    bool reasons;                        /* bills tokens that the answer does not show */
    struct prices prices;
};

/* INT64_MAX = none. */
struct config_caps {
    int64_t per_minute, per_hour, monthly_nano_usd;
};

/* What answers: a provider and model, and how they are called. */
struct config_target {
    enum provider_id provider;
    const char *model;
    struct config_model known;
    const struct config_credential *credential;
    uint32_t account; /* in the counters file, as below: set when a generation takes it on */
    double temperature, top_p; /* NaN = not sent */
    int64_t max_output_tokens; /* 0 = not set */
    int64_t timeout_ms;        /* whole answer */
    const char *parameters; /* further members of the request's JSON, without braces; NULL = none */
};

struct config_project;

enum { FAILOVER_MAX = 15 };

enum { CONFIG_SCHEMA_FORMS = 8 };

/* An endpoint's schema. */
struct config_schema {
    struct schema *schema; /* given back by itself */
    const char *text;      /* itself as JSON; behind it the files that it refers to */
    bool refers_to_files;
    char *forms[CONFIG_SCHEMA_FORMS]; /* as providers take it, made by a worker that needs them */
    struct config_schema *next;
};

struct config_rule {
    struct routing_rule rule;
    struct config_target target;
};

/* The shape of a stream's events; as keys.def names them. */
enum stream_format { STREAM_OPENAI, STREAM_NATIVE };

/* Conversations that the gateway keeps. */
struct config_session {
    bool on;
    int64_t ttl_ms;                   /* since the last turn */
    int64_t max_messages, max_tokens; /* that one has at most */
};

struct config_endpoint {
    const char *slug;
    const char *description;
    const struct config_project *project;
    uint32_t account;
    bool active;
    struct config_target target;
    int64_t retries;                /* of each target */
    struct config_target *failover; /* in their order, behind `target` or a rule's */
    size_t failover_count;
    struct config_rule *rules;
    size_t rules_count;
    const struct template *system_prompt, *user_prompt; /* NULL = none */
    const struct schema *input_schema;                  /* NULL = none */
    struct config_schema *output_schema;                /* NULL = none */
    int64_t output_repair; /* turns for a model whose answer does not fit it */
    struct config_session session;
    const struct variable *variables;
    size_t variables_count;
    uint64_t client_parameters; /* members that clients may set, a bit each */
    struct config_caps caps;
    int64_t request_tokens;           /* cap of one request; 0 = none */
    bool streams;                     /* for clients that ask for it */
    enum stream_format stream_format; /* not on the dispatcher: there it is OpenAI's */
};

struct config_project {
    const char *name;  /* the file's name, and what rows carry */
    const char *title; /* `name:` for people; the file's name when absent */
    struct uuid id;
    uint32_t account;
    bool active;
    struct config_caps caps;
    const char **origins; /* of web pages that may call it, as browsers write them */
    size_t origins_count;
    struct config_endpoint *endpoints; /* sorted by slug */
    size_t endpoints_count;
};

enum token_scope {
    SCOPE_CHAT = 1,
    SCOPE_MODELS = 2,
    SCOPE_USAGE = 4,
    SCOPE_ADMIN = 8,
};

struct config_token {
    const char *name; /* file name; in a list "FILE:PREFIX" */
    const char *prefix;
    uint8_t hash[SHA256_BYTES];
    uint32_t account;
    const struct config_project *project; /* NULL for a token with scope admin alone */
    unsigned scopes;                      /* enum token_scope bits */
    const struct config_endpoint **endpoints;
    size_t endpoints_count; /* 0 with `all_endpoints` = every endpoint of the project */
    bool all_endpoints;
    bool active;
    struct config_caps caps;
    int64_t expires_wall_ms; /* INT64_MAX = never */
};

/* Of which requests a row keeps the bodies; as keys.def names them. */
enum log_bodies { LOG_BODIES_NONE, LOG_BODIES_ERRORS, LOG_BODIES_ALL };

struct config {
    struct arena arena;
    struct secret_memory *secrets;       /* opened keys; zeroes in roles that may not see them */
    struct secret_memory *store_secrets; /* the same for the store: for the logger, and the keeper
                                          * of sessions that are kept there */
    const uint8_t *ticket_secret;        /* of TLS, in `secrets`; NULL where no address has it */
    struct config_listen *listens;
    size_t listens_count;
    int64_t workers; /* resolved: at least 1 */
    const char *state_dir, *runtime_dir;
    const char *timezone;        /* its months are `store.months` */
    struct zone_offsets offsets; /* the same zone's */
    const char *user, *group;    /* to become when started as root; NULL = not set */
    int64_t shutdown_timeout_ms;
    struct config_store store;
    struct config_http http;
    struct config_upstream upstream;
    int64_t budget_wait_ms;
    int64_t log_queue; /* gateway_logs.queue */
    enum log_bodies log_bodies;
    int64_t log_max_body, log_retention_ms;
    enum log_level log_level;
    enum log_format log_format;
    struct config_schema *schemas; /* all that were compiled */
    struct config_credential *credentials;
    size_t credentials_count;
    const char *sessions_path;
    int64_t idempotency_bytes;       /* of answers that are kept, all together */
    struct config_project *projects; /* sorted by id */
    size_t projects_count;
    struct config_token *tokens;
    size_t tokens_count;
};

/* Look-ups; NULL when there is none. Tokens are looked up elsewhere (token_table.h). */
const struct config_project *config_project(const struct config *config, const struct uuid *id);
const struct config_endpoint *config_endpoint(const struct config_project *project,
                                              struct str slug);
/* [a-z0-9], then up to 62 of [a-z0-9-], not ending in "-", and not a route's name. */
bool slug_valid(struct str slug);
/* The name of a route. */
bool slug_reserved(struct str slug);
/* "openai" of PROVIDER_OPENAI. */
const char *provider_name(enum provider_id id);
/* Whether its calls need a credential with a key. */
bool provider_needs_key(enum provider_id id);
/* Gives back what was compiled; in memory that goes with an arena. */
void config_schemas_free(struct config_schema *schemas);
/* Wipes opened keys and gives the memory back; the caller's pointer becomes NULL. */
void config_free(struct config **config);
