#include "worker/secrets.h"

#include "shared/base/buf.h"

/* Headers may carry a key, too; a value as short as a flag carries none, and could stand anywhere.
 */
enum { HEADER_SECRET_MIN_BYTES = 8 };

/* The secret at `place`: the key, then headers' values; absent where that is none. */
static struct str secret(const struct config_credential *credential, size_t place)
{
    struct str value =
        str_of(place == 0 ? credential->api_key : credential->headers[place - 1].value);
    return place > 0 && value.len < HEADER_SECRET_MIN_BYTES ? STR_ABSENT : value;
}

/* The length of the secret that `said` begins with; 0 when there is none. */
static size_t secret_at(const struct config_credential *credential, struct str said)
{
    size_t longest = 0;
    for (size_t i = 0; i <= credential->headers_count; i++) {
        struct str value = secret(credential, i);
        if (value.len > longest && str_starts(said, value))
            longest = value.len;
    }
    return longest;
}

/* Does one begin in the first `max` bytes? */
static bool has_secret(const struct config_credential *credential, struct str said, size_t max)
{
    for (size_t i = 0; i <= credential->headers_count; i++) {
        struct str value = secret(credential, i);
        size_t len = said.len < max + value.len ? said.len : max + value.len;
        if (value.len > 0 && memmem(said.at, len, value.at, value.len))
            return true;
    }
    return false;
}

struct str without_secrets(const struct config_credential *credential, struct str said, size_t max,
                           struct arena *arena)
{
    struct buf clean = {0};
    if (!said.at || !has_secret(credential, said, max))
        return str_cut(said, max);
    while (said.len > 0 && clean.len <= max) {
        size_t len = secret_at(credential, said);
        if (len)
            buf_puts(&clean, "[key]");
        else
            buf_putc(&clean, *said.at);
        said.at += len ? len : 1;
        said.len -= len ? len : 1;
    }
    said = arena_copy(arena, str_cut(buf_view(&clean), max));
    buf_free(&clean);
    return said;
}
