/* CRC-32C (Castagnoli, RFC 3720 B.4) for frames on disk, SHA-256 for tokens. */
#pragma once

#include "shared/base/str.h"

#include <stdint.h>

enum { SHA256_BYTES = 32 };

/* Start with 0; feed the result back in to continue. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len);
void sha256(struct str bytes, uint8_t digest[SHA256_BYTES]);
