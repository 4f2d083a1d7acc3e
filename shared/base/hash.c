#include "shared/base/hash.h"

#include <sodium.h>

static uint32_t crc_table[256];

__attribute__((constructor)) static void fill_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++)
            value = (value >> 1) ^ (value & 1 ? 0x82F63B78u : 0);
        crc_table[i] = value;
    }
}

static uint32_t crc_plain(uint32_t crc, const uint8_t *at, size_t len)
{
    while (len--)
        crc = crc_table[(crc ^ *at++) & 0xFF] ^ (crc >> 8);
    return crc;
}

#if defined __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc_fast(uint32_t crc, const uint8_t *at,
                                                           size_t len)
{
    uint64_t wide = crc;
    for (; len >= 8; at += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    while (len--)
        crc = __builtin_ia32_crc32qi(crc, *at++);
    return crc;
}

static bool have_fast(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#else
static uint32_t crc_fast(uint32_t crc, const uint8_t *at, size_t len)
{
    return crc_plain(crc, at, len);
}

static bool have_fast(void)
{
    return false;
}
#endif

uint32_t crc32c(uint32_t crc, const void *bytes, size_t len)
{
    crc = ~crc;
    return ~(have_fast() ? crc_fast(crc, bytes, len) : crc_plain(crc, bytes, len));
}

void sha256(struct str bytes, uint8_t digest[SHA256_BYTES])
{
    crypto_hash_sha256(digest, (const unsigned char *)bytes.at, bytes.len);
}
