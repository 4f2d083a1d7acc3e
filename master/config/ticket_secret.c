#include "master/config/ticket_secret.h"

#include "shared/http/transport_tls.h"

#include <sodium.h>
#include <string.h>

static const char *own_secret(void)
{
    static struct secret_memory *memory;
    static char *secret;
    if (!memory) {
        memory = secret_memory_new(SECRETS_READER);
        secret = secret_memory_take(memory, TLS_TICKET_SECRET_BYTES);
        randombytes_buf(secret, TLS_TICKET_SECRET_BYTES);
        secret_memory_lock(memory);
    }
    return secret;
}

const uint8_t *ticket_secret_copy(struct secret_memory *memory)
{
    char *copy = secret_memory_take(memory, TLS_TICKET_SECRET_BYTES);
    if (copy)
        memcpy(copy, own_secret(), TLS_TICKET_SECRET_BYTES);
    return (const uint8_t *)copy;
}
