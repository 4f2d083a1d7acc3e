/* Bytes of the socket between workers and the keeper: what is read is written back and read as the
 * same. */
#include "shared/wire/keeper.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_frame(const struct keeper_message *message, struct str frame)
{
    struct buf again = {0};
    keeper_write(&again, message);
    require(str_eq(buf_view(&again), frame));
    buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size};
    struct keeper_message message;
    size_t used;
    while (keeper_read(rest, &message, &used) == KEEPER_READ) {
        require(used > 0 && used <= rest.len);
        check_frame(&message, (struct str){rest.at, used});
        rest = (struct str){rest.at + used, rest.len - used};
    }
    return 0;
}
