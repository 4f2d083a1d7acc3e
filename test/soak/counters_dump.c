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
    puts("]}");
    counters_close(&counters);
    return 0;
}
