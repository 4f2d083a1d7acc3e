#include "shared/counters/requests.h"

#include "shared/base/step.h"
#include "shared/base/xalloc.h"
#include "shared/counters/ledger.h"

#include <stdlib.h>

static uint32_t entries_of(const struct shm_worker *slot)
{
    return atomic_load_explicit(&slot->entries, memory_order_relaxed);
}

void requests_init(struct requests *requests, struct shm_worker *slot, struct shm_request *table)
{
    *requests = (struct requests){.slot = slot, .table = table};
    requests->unused = xcalloc(SHM_REQUESTS_PER_SLOT, sizeof *requests->unused);
    for (uint32_t i = 0; i < entries_of(slot); i++)
        if (request_state(&table[i]) != REQUEST_FREE)
            abort(); /* a slot is given to nobody before all its rows are safe */
    for (uint32_t i = SHM_REQUESTS_PER_SLOT; i-- > 0;) {
        (void)request_state(&table[i]); /* maps its page: memory is what it is from the start */
        requests->unused[requests->unused_count++] = i;
    }
}

void requests_deinit(struct requests *requests)
{
    free(requests->unused);
    requests->unused = NULL;
}

/* Cut where it has to be, at a character's border. */
static void copy_text(char *to, size_t size, struct str text)
{
    size_t len = text.len < size ? text.len : size - 1;
    while (len < text.len && len > 0 && ((unsigned char)text.at[len] & 0xC0) == 0x80)
        len--;
    if (len > 0)
        memcpy(to, text.at, len);
    memset(to + len, 0, size - len);
}

struct shm_request *requests_open(struct requests *requests, const struct request_opening *opening)
{
    if (requests->unused_count == 0)
        return NULL;
    uint32_t place = requests->unused[--requests->unused_count];
    struct shm_request *request = &requests->table[place];
    if (place >= entries_of(requests->slot))
        atomic_store_explicit(&requests->slot->entries, place + 1, memory_order_relaxed);
    STEP(request_entry_taken);
    request->number = atomic_load_explicit(&requests->slot->requests, memory_order_relaxed) + 1;
    request->row_number = 0;
    request->index = atomic_load_explicit(&requests->slot->index, memory_order_relaxed);
    request->id = opening->id;
    request->created_wall_ms = opening->created_wall_ms;
    request->began_us = opening->began_us;
    request->project = opening->project;
    request->token = opening->token;
    request->endpoint = request->target = ACCOUNT_NONE;
    request->month = opening->month;
    request->http_status = 0;
    request->sent_us = request->latency_us = 0;
    request->bytes_in = 0;
    request->reserved = request->delta = 0;
    request->sums[0] = (struct shm_sums){.target = ACCOUNT_NONE};
    copy_text(request->client_ip, sizeof request->client_ip, opening->client_ip);
    STEP(request_filled);
    atomic_store_explicit(&request->state, REQUEST_OPEN, memory_order_release); /* sums[0] */
    STEP(request_open);
    atomic_store_explicit(&requests->slot->requests, request->number, memory_order_relaxed);
    STEP(request_counted);
    return request;
}

void request_resolved(struct shm_request *request, uint32_t endpoint)
{
    request->endpoint = endpoint;
}

void request_sent(struct shm_request *request, uint32_t target, int64_t now_us)
{
    request->target = target;
    request->sent_us = now_us;
    STEP(request_target_known);
    request_set_state(request, REQUEST_SENT);
    STEP(request_sent);
}

static void record(struct shm_worker *slot, struct shm_request *request,
                   const struct request_outcome *outcome)
{
    copy_text(request->status, sizeof request->status, outcome->status);
    request->http_status = outcome->http_status;
    request->bytes_in = outcome->bytes_in;
    request->latency_us = outcome->latency_us;
    request->row_number = atomic_load_explicit(&slot->rows, memory_order_relaxed) + 1;
    STEP(request_outcome_known);
    request_set_state(request, REQUEST_RECORDED);
    STEP(request_recorded);
    atomic_store_explicit(&slot->rows, request->row_number, memory_order_relaxed);
    STEP(request_row_counted);
}

void requests_record(struct requests *requests, struct shm_request *request,
                     const struct request_outcome *outcome)
{
    record(requests->slot, request, outcome);
}

void request_written(struct shm_request *request)
{
    request_set_state(request, REQUEST_WRITTEN);
    STEP(request_written);
}

void requests_free(struct requests *requests, struct shm_request *request)
{
    request_set_state(request, REQUEST_FREE);
    STEP(request_freed);
    requests->unused[requests->unused_count++] = (uint32_t)(request - requests->table);
}

/* ---- of a slot whose process is dead ---- */

static bool has_no_outcome(const struct shm_request *request)
{
    enum shm_request_state state = request_state(request);
    return state >= REQUEST_OPEN && state < REQUEST_RECORDED;
}

const struct shm_request *requests_oldest(const struct shm_worker *slot,
                                          const struct shm_request *table)
{
    const struct shm_request *oldest = NULL;
    for (size_t i = 0; i < entries_of(slot); i++)
        if (has_no_outcome(&table[i]) && (!oldest || table[i].number < oldest->number))
            oldest = &table[i];
    return oldest;
}

static void raise_to(_Atomic uint64_t *count, uint64_t least)
{
    if (atomic_load(count) < least)
        atomic_store(count, least);
}

/* The process may have died between an entry's state and the count that goes with it. */
static void set_counts_right(struct shm_worker *slot, const struct shm_request *table)
{
    for (size_t i = 0; i < entries_of(slot); i++) {
        enum shm_request_state state = request_state(&table[i]);
        if (state != REQUEST_FREE)
            raise_to(&slot->requests, table[i].number);
        if (state == REQUEST_RECORDED || state == REQUEST_WRITTEN)
            raise_to(&slot->rows, table[i].row_number);
    }
}

/* The one that the process died in goes before the others (spend.h). */
static void recover_money(const struct shm_worker *slot, struct shm_request *table,
                          const struct ledger *ledger)
{
    for (size_t i = 0; i < entries_of(slot); i++)
        ledger_finish(ledger, &table[i]);
    for (size_t i = 0; i < entries_of(slot); i++)
        ledger_abandon(ledger, &table[i]);
}

void requests_settle_dead(struct shm_worker *slot, struct shm_request *table,
                          const struct ledger *ledger)
{
    recover_money(slot, table, ledger);
    set_counts_right(slot, table);
    STEP(requests_counted_right);
    const struct request_outcome died = {.status = STR("worker_died"), .latency_us = -1};
    for (size_t i = 0; i < entries_of(slot); i++)
        if (has_no_outcome(&table[i]))
            record(slot, &table[i], &died);
}
