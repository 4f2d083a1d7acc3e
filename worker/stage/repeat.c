/* A request with an Idempotency-Key (contract: Idempotency): the first one holds the key while it
 * is in flight, later ones get its answer again. */
#include "worker/stage/stage.h"

#include "shared/base/hash.h"
#include "worker/pipeline.h"
#include "worker/remember.h"

static const char header[] = "idempotency-key";

enum { KEY_MAX_BYTES = 255 };

/* Parts that run into each other would make the same of different things. */
static void add_part(struct buf *text, struct str part)
{
    buf_printf(text, "%zu:", part.len);
    buf_str(text, part);
}

static void hash_parts(const struct str *parts, size_t count, uint8_t hash[KEEPER_HASH_BYTES])
{
    struct buf text = {0};
    for (size_t i = 0; i < count; i++)
        add_part(&text, parts[i]);
    sha256(buf_view(&text), hash);
    buf_free(&text);
}

/* Whose key it is, and its name. */
static void name_key(struct exchange *ex, struct str key)
{
    const struct str parts[] = {str_of(ex->project->name), token_name(ex->token),
                                str_of(ex->endpoint->slug), key};
    hash_parts(parts, sizeof parts / sizeof *parts, ex->repeat.key);
}

/* All that makes a request another one: its body, which route's shape the answer has, and what
 * may stand in a header in place of the body. */
static void name_content(struct exchange *ex)
{
    const struct str parts[] = {ex->route.kind == ROUTE_DISPATCHER ? STR("dispatcher") : STR(""),
                                http_header(ex->request, "x-session-id"), ex->request->body};
    hash_parts(parts, sizeof parts / sizeof *parts, ex->repeat.content);
}

static bool check_header(struct exchange *ex, struct str key)
{
    if (http_header_count(ex->request, header) > 1)
        exchange_fail_at(ex, API_invalid_request, "Idempotency-Key",
                         "There may be only one Idempotency-Key.");
    else if (key.len == 0 || key.len > KEY_MAX_BYTES)
        exchange_fail_at(ex, API_invalid_request, "Idempotency-Key",
                         "An Idempotency-Key has 1 to %d characters.", KEY_MAX_BYTES);
    return ex->failure.code == API_OK;
}

static void on_held(void *context, const struct keeper_message *answer)
{
    struct exchange *ex = context;
    struct keeper_message held = remember_message(ex, KEEPER_ANNOUNCE, ABOUT_KEY);
    if (answer->type == KEEPER_HELD)
        keeper_open(ex->services->keeper, &ex->repeat.hold, &held);
    else if (answer->type == KEEPER_KEPT)
        remember_replay(ex, answer->answer);
    else
        remember_refuse(ex, (enum keeper_refusal)answer->refusal);
    exchange_resume(ex);
}

enum stage_result stage_repeat(struct exchange *ex)
{
    struct str key = http_header(ex->request, header);
    if (!key.at)
        return STAGE_NEXT;
    if (!check_header(ex, key))
        return STAGE_DONE;
    ex->repeat.wanted = true;
    name_key(ex, key);
    name_content(ex);
    struct keeper_message asked = remember_message(ex, KEEPER_HOLD, ABOUT_KEY);
    exchange_ask(ex, &asked, on_held);
    return STAGE_WAIT;
}
