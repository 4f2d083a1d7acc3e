#include "shared/base/ip.h"

#include <arpa/inet.h>
#include <string.h>

static const uint8_t v4_mapped[12] = {[10] = 0xFF, [11] = 0xFF};

static bool is_v4(const struct ip_address *address)
{
    return memcmp(address->bytes, v4_mapped, sizeof v4_mapped) == 0;
}

bool ip_address_parse(struct str text, struct ip_address *address)
{
    char copy[IP_TEXT_SIZE];
    if (text.len == 0 || text.len >= sizeof copy || memchr(text.at, '\0', text.len))
        return false;
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    if (inet_pton(AF_INET6, copy, address->bytes) == 1)
        return true;
    memcpy(address->bytes, v4_mapped, sizeof v4_mapped);
    return inet_pton(AF_INET, copy, address->bytes + sizeof v4_mapped) == 1;
}

const char *ip_address_format(const struct ip_address *address, char text[IP_TEXT_SIZE])
{
    if (is_v4(address))
        return inet_ntop(AF_INET, address->bytes + sizeof v4_mapped, text, IP_TEXT_SIZE);
    return inet_ntop(AF_INET6, address->bytes, text, IP_TEXT_SIZE);
}

/* The bits of `byte` that a prefix of `bits` does not fix, when it ends inside of it. */
static uint8_t free_bits(unsigned bits)
{
    return (uint8_t)(0xFF >> bits % 8);
}

static bool rest_is_zero(const struct ip_network *network)
{
    unsigned whole = network->bits / 8;
    if (network->bits % 8 && (network->first.bytes[whole++] & free_bits(network->bits)))
        return false;
    for (; whole < sizeof network->first.bytes; whole++)
        if (network->first.bytes[whole])
            return false;
    return true;
}

bool ip_network_parse(struct str text, struct ip_network *network)
{
    struct str rest = text, address = str_split(&rest, '/');
    unsigned long long bits;
    if (!ip_address_parse(address, &network->first))
        return false;
    bool v4 = is_v4(&network->first) && !memchr(address.at, ':', address.len);
    unsigned most = v4 ? 32 : 128;
    if (!rest.at)
        bits = most;
    else if (rest.len > 3 || !str_to_u64(rest, &bits) || bits > most)
        return false;
    network->bits = (uint8_t)(bits + (v4 ? 96 : 0));
    return rest_is_zero(network);
}

bool ip_network_holds(const struct ip_network *network, const struct ip_address *address)
{
    unsigned whole = network->bits / 8;
    if (memcmp(network->first.bytes, address->bytes, whole) != 0)
        return false;
    if (network->bits % 8 == 0)
        return true;
    return ((network->first.bytes[whole] ^ address->bytes[whole]) & ~free_bits(network->bits)) == 0;
}
