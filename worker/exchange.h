/* One request and its answer, from the head's arrival to the written record. The stages fill it in
 * the order of its parts. Everything it points to lives in its arena, in the configuration, or is
 * released in exchange_end. */
#pragma once

#include "shared/base/json.h"
#include "shared/base/spares.h"
#include "shared/config.h"
#include "shared/counters/counters.h"
#include "shared/counters/requests.h"
#include "shared/http/connection.h"
#include "shared/token_table.h"
#include "worker/chain.h"
#include "worker/keeper_client.h"
#include "worker/kept_reply.h"
#include "worker/provider/provider.h"
#include "worker/relay.h"
#include "worker/route.h"
#include "worker/upstream/retry_hints.h"

struct budget_queue;
struct delay;
struct log_writer;
struct refusals;
struct transfer;
struct transfer_pool;

/* What was seen last of some accounts' reservations, by the tag of the account's last change. */
struct spend_seen {
    uint32_t account, month;
    struct spend_tag tag; /* operation 0 = nothing is known */
    int64_t reserved;
};

enum { SPEND_SEEN = 64 };

/* What the exchanges of one worker share. */
struct services {
    uv_loop_t *loop;
    const struct config *config;
    const struct token_table *tokens;
    struct transfer_pool *transfers;
    struct log_writer *log;
    struct refusals *refusals;
    struct shm_worker *counts;
    struct requests *requests; /* in flight */
    const struct counters *counters;
    struct counters_driver *counting;
    struct budget_queue *waiting; /* for room in budgets */
    struct keeper_client *keeper;
    struct spend_seen spend_seen[SPEND_SEEN];
    const struct logger_state *logger; /* what it publishes */
    unsigned worker;
    int64_t generation;
    char host[256];
    struct exchange *open; /* all that have begun and not ended */
    unsigned open_count;
    struct exchange *unused;      /* kept for the next requests */
    struct spares spares;         /* of `unused` */
    void (*ended)(void *context); /* after each exchange's end; may be NULL */
    void *context;
};

enum stage_result {
    STAGE_NEXT, /* go on */
    STAGE_WAIT, /* exchange_resume will be called */
    STAGE_DONE, /* no further stage but respond and record */
};

struct failed_budget {
    bool set;
    int64_t spent_nano_usd, reserved_nano_usd, cap_nano_usd;
};

struct failure {
    enum api_error code;   /* API_OK = none */
    const char *scope;     /* which limit; NULL = none */
    int64_t retry_after_s; /* 0 = not known */
    bool final;            /* the same again would fail, too */
    struct failed_budget budget;
    struct str message;
    struct str param;   /* absent = null */
    struct str content; /* the answer that does not fit its schema; absent = no such failure */
    const struct api_detail {
        const char *path, *keyword, *message;
        const char *schema_path; /* NULL = there is no schema */
        const struct api_detail *next;
    } * details;
};

/* What the provider may ask for an attempt. */
enum bill {
    BILL_WORST,    /* whatever was reserved: nobody knows what became of it */
    BILL_NOTHING,  /* it never went out, or was refused */
    BILL_REPORTED, /* what its usage says */
    BILL_BOUND,    /* an answer came, without usage: no more than its bytes */
    BILL_SAID,     /* it was broken off: no more than was said, and a little under way */
};

/* One try at a target. */
struct attempt {
    const struct config_target *target;
    int http_status; /* the provider's; 0 = none came */
    int64_t began_us, ended_us;
    struct str error; /* absent = none */
    enum attempt_end end;
    int64_t wait_ms; /* the provider says, before the same again may do; 0 = it says nothing */
    enum bill bill;
    size_t answer_bytes; /* of the body */
};

struct name_list {
    struct str name;
    struct name_list *next;
};

/* What a row keeps of a body; absent when nothing. */
struct kept_body {
    struct str text;
    bool cut; /* there was more */
};

/* What goes to one target (fit.h). */
struct fitted {
    struct completion_request request;
    struct client_parameters parameters; /* the request's */
};

/* A place in the queue for a budget's room (budget_queue.h). */
struct budget_place {
    struct exchange *next, *previous;
    int64_t until_us; /* monotonic; 0 = it doesn't wait */
};

/* Of a conversation that the gateway keeps. */
struct session_state {
    bool wanted;
    struct uuid id;           /* all zero = a new one, not begun yet */
    int64_t turns;            /* before this one */
    struct json_object *said; /* owned: the turn's own messages */
    struct keeper_holding turn;
};

/* Of a request with an Idempotency-Key. */
struct repeat_state {
    bool wanted;
    uint8_t key[KEEPER_HASH_BYTES], content[KEEPER_HASH_BYTES];
    struct keeper_holding hold; /* while it is the key's first request */
    struct buf frame;           /* owned: the answer that is kept, its own or the first one's */
    struct kept_reply reply;    /* what `frame` says */
    bool answered;              /* `reply` goes to the client, whatever else there is */
    bool replayed;              /* and it is the first one's */
};

struct exchange {
    struct services *services;
    struct exchange *next_unused;
    struct exchange *previous, *next; /* in services.open */
    struct arena arena;

    /* the request */
    struct http_connection *connection; /* NULL once the client is gone */
    struct http_request *request;       /* NULL likewise */
    struct route route;
    struct uuid id;
    char id_text[UUID_TEXT_LEN + 1];
    int64_t created_wall_ms, began_us;
    struct str client_ip;
    uint64_t bytes_in;

    /* the pipeline's own */
    unsigned stage;
    bool running, waiting, finishing;
    bool again; /* to the budget stage, for another attempt */

    /* authenticate, resolve */
    const struct token_entry *token; /* set = accepted: a row will be written */
    struct shm_request *entry;       /* in the table of requests in flight; set likewise */
    const struct config_project *project;
    const struct config_endpoint *endpoint;

    /* rate, budget */
    bool counting; /* an answer of services.counting is to come */
    struct rate_verdict rate;
    int64_t admitted_wall_ms; /* 0 = not yet */
    const struct config_target *target;
    struct fitted fitted; /* for it; its messages are owned */
    int64_t worst_nano_usd, worst_prompt_tokens;
    int64_t budget_began_us, waited_us; /* for room in a budget and between attempts, in all */
    enum budget refused_budget;
    uint32_t waits_for; /* the account */
    struct budget_place budget_place;

    /* body */
    struct json_object *body;             /* owned */
    int64_t body_began_us, body_ended_us; /* the wait for its bytes; 0 = not yet */

    /* input, prompt */
    struct json_object *messages; /* owned: the conversation as it goes up */
    struct template_input input;
    struct json_object *input_owned; /* what `input` needs to stay alive */
    struct client_parameters parameters;
    struct name_list *ignored, *last_ignored;
    struct name_list *input_ignored; /* the last one that no target has a part in; NULL = none */

    struct repeat_state repeat;
    struct session_state session;
    struct keeper_call keeper_call;

    /* forward */
    struct transfer *transfer;
    struct delay *delay; /* of a local provider */
    struct upstream_call call;
    struct upstream_reply reply;
    struct retry_hints retry_hints; /* of its headers */
    struct attempt attempt;
    unsigned attempts;
    int64_t upstream_us;
    bool usage_known; /* of one attempt at least */
    struct chain chain;
    struct failure last_failure; /* of an attempt, while there are others */
    struct failure unfit;        /* of the target's last answer, which it is to mend */
    struct json_object *output;  /* owned: the answer's value, by output_schema */
    bool output_checked;
    struct completion completion; /* set by success; of a stream also what came before it broke */
    struct relay relay;

    /* the end */
    struct failure failure;
    bool client_gone;
    int http_status;
    size_t bytes_out;
    struct kept_body request_kept, response_kept;
};

/* Begins one for a complete head; never NULL. */
struct exchange *exchange_begin(struct services *services, struct http_connection *connection,
                                struct http_request *request);
/* Of the attempt under way. */
const struct provider *exchange_provider(const struct exchange *ex);
/* Before an attempt's first byte leaves; what an earlier one said is forgotten. */
void exchange_begin_attempt(struct exchange *ex, const struct config_target *target);
/* Notes when the attempt under way ended and with which status. */
void exchange_end_attempt(struct exchange *ex);
/* The attempt ends before its answer does: what may be billed, and what it seems to have used. */
void exchange_break_attempt(struct exchange *ex);
/* What the attempt used is known: `completion`, if it succeeded. The row's attempts have it. */
void exchange_settle_attempt(struct exchange *ex);
/* Ends whatever is under way, at the provider or on the way there; no callback of it follows. */
void exchange_cancel(struct exchange *ex);
/* Releases everything it holds. */
void exchange_end(struct exchange *ex);
/* Ended exchanges are kept for the next ones. To be called at times: gives memory back that a rush
 * has taken. */
void exchange_tend(struct services *services);
/* Gives all of it back. */
void exchange_free_kept(struct services *services);

/* Asks the keeper; `answered` with the exchange as its context resumes it. */
void exchange_ask(struct exchange *ex, struct keeper_message *message,
                  void (*answered)(void *context, const struct keeper_message *answer));

/* Whether it takes part in a conversation whose id is known. */
bool exchange_has_session(const struct exchange *ex);
/* And the client may know it: not of one that was never stored, for its first turn failed, nor of
 * one that is not its own. */
bool exchange_tells_session(const struct exchange *ex);
/* The outcome, as the row says it: "ok", "replayed", an error's code, "client_closed". */
struct str exchange_status(const struct exchange *ex);
/* What this request cost in the gateway itself until `now_us`: without the provider's time, and
 * without waiting for the client's body or for room in a budget. */
int64_t exchange_gateway_us(const struct exchange *ex, int64_t now_us);
/* What its attempts took, the one under way as well. */
int64_t exchange_upstream_us(const struct exchange *ex, int64_t now_us);

/* Notes the failure (the first one stays) and returns STAGE_DONE. The message is a sentence that
 * names the limit or the place. */
enum stage_result exchange_fail(struct exchange *ex, enum api_error code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, with the member that is to blame. */
enum stage_result exchange_fail_at(struct exchange *ex, enum api_error code, const char *param,
                                   const char *format, ...) __attribute__((format(printf, 4, 5)));
/* A member or parameter that is accepted and not used: named in meta.ignored. Call it once for
 * each name: a body may have a million of them, so nobody looks for doubles. */
void exchange_ignore(struct exchange *ex, struct str name);
/* Forgets those of a target. */
void exchange_ignore_input_only(struct exchange *ex);
