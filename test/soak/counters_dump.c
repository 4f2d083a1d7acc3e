/* Prints a counters file as one object of JSON. */
#include "shared/counters/shm.h"

#include <inttypes.h>
#include <stdio.h>

static void print_slot(const struct shm_worker *slot)
{
    printf("{\"pid\":%d,\"state\":%d,\"generation\":%" PRId64 ",\"accepted\":%" PRIu64
           ",\"requests\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"rows\":%" PRIu64
           ",\"in_flight\":%" PRIu64 "}",
           atomic_load(&slot->pid), atomic_load(&slot->state), atomic_load(&slot->generation),
           atomic_load(&slot->accepted), atomic_load(&slot->requests), atomic_load(&slot->refused),
           atomic_load(&slot->rows), atomic_load(&slot->requests) - atomic_load(&slot->rows));
}

/* Those that have spent something, or reserved it. */
static void print_accounts(const struct counters *counters)
{
    static const char *const kinds[] = {"", "project", "endpoint", "token", "target"};
    const char *before = "";
    for (uint32_t i = 0; i < atomic_load(&counters->header->accounts); i++) {
        const struct shm_account *account = &counters->accounts[i];
        int64_t amount = spend_amount(&account->spend, spend_latest_month(&account->spend));
        if (atomic_load(&account->key) == 0 || amount == 0)
            continue;
        printf("%s{\"kind\":\"%s\",\"label\":\"%s\",\"nano_usd\":%" PRId64 "}", before,
               kinds[atomic_load(&account->kind)], account->label, amount);
        before = ",";
    }
}

int main(int argc, char **argv)
{
    struct counters counters = {0};
    struct error error;
    if (argc != 2) {
        fputs("usage: counters-dump FILE\n", stderr);
        return 2;
    }
    if (!counters_open(&counters, argv[1], &error)) {
        fprintf(stderr, "counters-dump: %s\n", error.message);
        return 1;
    }
    printf("{\"logged_rows\":%" PRIu64 ",\"slots\":[", atomic_load(&counters.header->logged_rows));
    for (unsigned i = 0; i < counters.header->workers; i++) {
        if (i > 0)
            putchar(',');
        print_slot(&counters.workers[i]);
    }
    fputs("],\"accounts\":[", stdout);
    print_accounts(&counters);
    puts("]}");
    counters_close(&counters);
    return 0;
}
