#include "master/keeper/holds.h"

#include "master/keeper/claim.h"
#include "master/keeper/trouble.h"
#include "shared/base/xalloc.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 4096, KEPT_BUFFER_BYTES = 256 * 1024 };

struct hold {
    uint8_t key[KEEPER_HASH_BYTES], content[KEEPER_HASH_BYTES];
    struct uuid request;
    const void *peer;
    struct hold *next;
};

struct holds {
    struct hold *at[BUCKETS];
    size_t count;
    struct buf answer; /* of the key that was asked for last */
};

struct holds *holds_new(void)
{
    return xcalloc(1, sizeof(struct holds));
}

static struct hold **find(struct holds *holds, struct str key)
{
    uint32_t word; /* a hash is as good as random */
    memcpy(&word, key.at, sizeof word);
    struct hold **place = &holds->at[word % BUCKETS];
    while (*place && memcmp((*place)->key, key.at, sizeof(*place)->key) != 0)
        place = &(*place)->next;
    return place;
}

static void add(struct holds *holds, const void *peer, const struct keeper_message *said)
{
    struct hold **place = find(holds, said->key);
    if (*place)
        return;
    struct hold *hold = *place = xcalloc(1, sizeof *hold);
    memcpy(hold->key, said->key.at, sizeof hold->key);
    memcpy(hold->content, said->content.at, sizeof hold->content);
    hold->request = said->request;
    hold->peer = peer;
    holds->count++;
}

static void end(struct holds *holds, struct hold **place)
{
    struct hold *ended = *place;
    if (!ended)
        return;
    *place = ended->next;
    free(ended);
    holds->count--;
}

void holds_announce(struct holds *holds, const void *peer, const struct keeper_message *said)
{
    add(holds, peer, said);
}

/* NULL where it is another request's. */
static struct hold **find_own(struct holds *holds, const struct keeper_message *said)
{
    struct hold **place = find(holds, said->key);
    bool own = *place && uuid_compare(&(*place)->request, &said->request) == 0;
    return own ? place : NULL;
}

bool holds_has(struct holds *holds, struct str key)
{
    return *find(holds, key) != NULL;
}

void holds_end(struct holds *holds, const struct keeper_message *said)
{
    struct hold **place = find_own(holds, said);
    if (place)
        end(holds, place);
}

size_t holds_count(const struct holds *holds)
{
    return holds->count;
}

static struct str key_of(const struct hold *hold)
{
    return (struct str){(const char *)hold->key, sizeof hold->key};
}

bool holds_release(struct holds *holds, struct sessions_store *store,
                   const struct keeper_message *said, struct error *error)
{
    return !find_own(holds, said) || !sessions_shared(store) ||
           sessions_release(store, said->key, error);
}

void holds_abort(struct holds *holds, struct sessions_store *store,
                 const struct keeper_message *said)
{
    struct hold **place = find_own(holds, said);
    if (!place)
        return;
    claim_give_up(store, &said->key, 1);
    end(holds, place);
}

/* Of what that peer holds; NULL = of all. */
static struct str *keys_of(const struct holds *holds, const void *peer, size_t *count)
{
    struct str *keys = xcalloc(holds->count + 1, sizeof *keys);
    *count = 0;
    for (size_t i = 0; i < BUCKETS && holds->count > 0; i++)
        for (const struct hold *one = holds->at[i]; one; one = one->next)
            if (!peer || one->peer == peer)
                keys[(*count)++] = key_of(one);
    return keys;
}

void holds_forget_peer(struct holds *holds, struct sessions_store *store, const void *peer)
{
    size_t count;
    struct str *keys = keys_of(holds, peer, &count);
    claim_give_up(store, keys, count);
    for (size_t i = 0; i < BUCKETS && count > 0; i++)
        for (struct hold **place = &holds->at[i]; *place;)
            if ((*place)->peer == peer)
                end(holds, place);
            else
                place = &(*place)->next;
    free(keys);
}

void holds_renew(struct holds *holds, struct sessions_store *store)
{
    struct error error;
    size_t count;
    struct str *keys = keys_of(holds, NULL, &count);
    if (count > 0 && sessions_shared(store) && !sessions_renew(store, keys, count, &error))
        trouble_say(&error);
    free(keys);
}

/* --- beginning --- */

static void answer_kept(struct holds *holds, const struct keeper_message *asked,
                        const struct kept_answer *kept, struct keeper_message *answer)
{
    if (!str_eq(kept->content, asked->content)) {
        keeper_refuse(answer, KEEPER_MISMATCH);
        return;
    }
    if (holds->answer.cap > KEPT_BUFFER_BYTES)
        buf_free(&holds->answer);
    buf_clear(&holds->answer);
    buf_str(&holds->answer, kept->answer);
    answer->type = KEEPER_KEPT;
    answer->answer = buf_view(&holds->answer);
}

/* The claim comes first: whoever had it before may have stored an answer until then. */
static bool look_up(struct sessions_store *store, const struct keeper_message *asked, bool *got,
                    struct kept_answer *kept, bool *found)
{
    struct error error;
    *got = *found = false;
    if (sessions_claim(store, asked->key, got, &error) &&
        (!*got || answers_find(store, asked->key, kept, found, &error)))
        return true;
    trouble_say(&error);
    if (*got)
        claim_give_up(store, &asked->key, 1);
    return false;
}

void holds_begin(struct holds *holds, struct sessions_store *store, const void *peer,
                 const struct keeper_message *asked, int64_t now_ms, struct keeper_message *answer)
{
    const struct hold *held = *find(holds, asked->key);
    struct kept_answer kept;
    bool got, found;
    *answer = (struct keeper_message){.type = KEEPER_HELD,
                                      .ticket = asked->ticket,
                                      .request = asked->request,
                                      .key = asked->key,
                                      .content = asked->content};
    if (held) {
        bool same = memcmp(held->content, asked->content.at, sizeof held->content) == 0;
        keeper_refuse(answer, same ? KEEPER_IN_PROGRESS : KEEPER_MISMATCH);
    } else if (!look_up(store, asked, &got, &kept, &found)) {
        keeper_refuse(answer, KEEPER_UNAVAILABLE);
    } else if (!got) {
        keeper_refuse(answer, KEEPER_IN_PROGRESS);
    } else if (found && kept.expires_ms > now_ms) {
        answer_kept(holds, asked, &kept, answer);
        claim_give_up(store, &asked->key, 1);
    } else {
        add(holds, peer, asked);
    }
}

void holds_free(struct holds **place)
{
    struct holds *holds = *place;
    *place = NULL;
    for (size_t i = 0; holds && i < BUCKETS; i++)
        while (holds->at[i])
            end(holds, &holds->at[i]);
    if (holds)
        buf_free(&holds->answer);
    free(holds);
}
