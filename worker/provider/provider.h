/* A provider: how one vendor's API is called and its answers are read. Pure translation: no
 * network, no clock, no counters. One file per wire format. */
#pragma once

#include "shared/base/arena.h"
#include "shared/base/buf.h"
#include "shared/base/error.h"
#include "shared/config.h"

struct json_object;

/* What the client has set itself (contract: client parameters). NULL or 0 = not set. */
struct client_parameters {
    int64_t max_tokens;
    struct json_object *values[MEMBER_NONE]; /* of all others, by enum member */
};

/* How the answer's schema is said (structured.h); JSON. All NULL = there is none. */
struct structured {
    const char *native; /* by the provider's own means, in its form; NULL = not */
    bool strict;        /* where it has two modes: the answer can't be another */
    const char *prompt; /* in the prompt; NULL = not */
};

/* What is asked, in the OpenAI chat shape. */
struct completion_request {
    const struct config_target *target;
    struct json_object *messages;
    const struct client_parameters *parameters;
    double temperature, top_p; /* the endpoint's; NaN = not sent */
    int64_t max_tokens;        /* 0 = the provider's default */
    struct structured output;
    bool streams; /* the answer is to come as a stream, with its usage */
};

struct call_header {
    struct str name, value;
};

enum {
    CALL_HEADERS_MAX = CONFIG_HEADERS_MAX + 4
}; /* those of the credential and a few of its own */

/* The HTTP request to make. The body is a buffer of the caller's, filled anew at each build. */
struct upstream_call {
    char *url;
    struct call_header headers[CALL_HEADERS_MAX];
    size_t headers_count;
    struct buf body;
};

/* The HTTP answer as it came. */
struct upstream_reply {
    enum provider_id provider; /* whose it is */
    int status;
    struct buf body;
    struct str content_type; /* absent = not sent */
    int64_t delay_ms;        /* of a provider without network: when the answer is to come */
    bool never;              /* of such a provider: no answer at all */
};

struct usage {
    bool reported;  /* by the provider, for the whole answer */
    bool estimated; /* what it seems to be of an answer that has not come to its end */
    int64_t prompt_tokens, completion_tokens, total_tokens;
    int64_t cached_tokens, cache_write_tokens, reasoning_tokens;
};

/* The answer in the OpenAI shape. Texts live in `parsed` or in the arena given to read_answer. */
struct completion {
    struct json_object *parsed; /* owned: release with json_object_put */
    struct str id, model;
    struct str content; /* absent = null */
    struct str refusal; /* absent = none */
    const char *finish_reason;
    struct json_object *tool_calls; /* NULL = none; part of `parsed` */
    struct usage usage;
};

/* What a refusal means for what comes next. */
enum provider_fault {
    FAULT_REQUEST,    /* the same request would be refused by anybody: back to the client */
    FAULT_MODEL,      /* this provider has no such model */
    FAULT_CREDENTIAL, /* the key is bad, blocked or out of money */
    FAULT_LATER,      /* asked too often: the same again later may do */
    FAULT_PROVIDER,   /* its own failure */
    FAULT_FINAL,      /* likewise, and the same again would fail, too */
};

/* What a refusal's body says. */
struct refusal {
    struct str said; /* absent = nothing legible; it may hold key material: not for clients as it
                        is */
    int64_t wait_ms; /* before the same may do; 0 = not said */
};

/* What an event of a streamed answer is to a client. */
enum event_kind {
    EVENT_SILENT,  /* nothing that anybody waits for: a role, a ping, a beginning */
    EVENT_USAGE,   /* the usage and nothing else */
    EVENT_CONTENT, /* text, a call, reasoning, a refusal, the reason to end */
    EVENT_END,     /* the mark behind the last one */
    EVENT_FAILED,  /* the provider gives up: streamed.failure says why */
};

struct streamed;

/* Why a stream can't go on, as clients are told. */
struct stream_failure {
    int status; /* what the answer would have had */
    const char *code, *type;
    struct str message;
    struct str details; /* a JSON array; empty = none. Only OpenAI's format has a place for them */
};

struct provider {
    /* Fills `call` (its body is empty): url, headers and body. Texts go into `arena`. */
    bool (*build)(const struct completion_request *request, struct arena *arena,
                  struct upstream_call *call, struct error *error);
    /* NULL for all that are called over the network. Answers by itself what `build` made, as a
     * stream's bytes where one is asked for. */
    void (*answer)(const struct completion_request *request, const struct upstream_call *call,
                   struct arena *arena, struct upstream_reply *reply);
    /* Reads a 200's body. False: it is no answer, the sentence says why. */
    bool (*read_answer)(const struct upstream_reply *reply, struct arena *arena,
                        struct completion *completion, struct error *error);
    /* Reads an event of a streamed answer, an object without an error in it (streamed_read). */
    enum event_kind (*read_event)(struct streamed *streamed, struct json_object *data,
                                  struct buf *chunks);
    /* Writes the last event of a stream that fails, in the provider's own format. */
    void (*write_failure)(const struct stream_failure *failure, struct buf *events);
    /* Reads an answer of another status: whose fault it is, and what its body says. `refusal` is
     * all zero. */
    enum provider_fault (*read_error)(const struct upstream_reply *reply, struct arena *arena,
                                      struct refusal *refusal);
};

const struct provider *provider_of(enum provider_id id, enum model_api api);
/* Members that no model of the provider's takes, as it is called here. */
uint64_t provider_lacks(const struct config_target *target);
/* What is asked for at most where nobody says: 0 = nothing has to be said. */
int64_t provider_max_tokens(enum provider_id id);
/* Whether a streamed answer ends, and its bill, when its client closes the connection. */
bool provider_stops_when_left(enum provider_id id);

/* What an answer's status means, where its body does not say otherwise. */
enum provider_fault provider_fault_of(int status);
/* What goes into rows and answers beside the text, such as an id; absent when it is beyond what any
 * provider says. */
struct str answer_name(struct json_object *answer, const char *name);
/* A count of a usage object; missing, null or nonsense is 0. */
int64_t usage_count(struct json_object *usage, const char *name);

/* The headers of a call: what it sends and awaits, the key's (absent = the credential has none) and
 * the credential's own. */
void call_add_headers(struct upstream_call *call, const struct completion_request *request,
                      struct str key_header, struct str key);
/* The same, with `Authorization: Bearer`. */
void call_add_bearer(struct upstream_call *call, const struct completion_request *request,
                     struct arena *arena);

/* The shapes that OpenAI's chat completions share with others. */
void openai_build_body(const struct completion_request *request, struct buf *body);
bool openai_read_answer(const struct upstream_reply *reply, struct arena *arena,
                        struct completion *completion, struct error *error);
enum event_kind openai_read_event(struct streamed *streamed, struct json_object *data,
                                  struct buf *chunks);
void openai_write_failure(const struct stream_failure *failure, struct buf *events);
enum provider_fault openai_read_error(const struct upstream_reply *reply, struct arena *arena,
                                      struct refusal *refusal);

/* Whether the version of the API that the credential asks for takes temperature and top_p. */
bool anthropic_samples(const struct config_credential *credential);

extern const struct provider provider_openai, provider_anthropic, provider_gemini, provider_ollama,
    provider_cohere, provider_echo, provider_responses;
