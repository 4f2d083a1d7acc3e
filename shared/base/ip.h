/* IP addresses and ranges of them. An IPv4 address is the IPv6 one that maps it (::ffff:a.b.c.d),
 * so that both are compared in one way. */
#pragma once

#include "shared/base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct ip_address {
    uint8_t bytes[16];
};

/* Addresses whose first `bits` bits are those of `first`. */
struct ip_network {
    struct ip_address first;
    uint8_t bits;
};

enum { IP_TEXT_SIZE = 46 };

/* "192.0.2.1" or "2001:db8::1". */
bool ip_address_parse(struct str text, struct ip_address *address)
    __attribute__((warn_unused_result));
/* The shortest form; an IPv4 address as such. Returns `text`. */
const char *ip_address_format(const struct ip_address *address, char text[IP_TEXT_SIZE]);
/* "10.0.0.0/8", "2001:db8::/32", or one address. Bits behind the prefix must be 0. */
bool ip_network_parse(struct str text, struct ip_network *network)
    __attribute__((warn_unused_result));
bool ip_network_holds(const struct ip_network *network, const struct ip_address *address);
