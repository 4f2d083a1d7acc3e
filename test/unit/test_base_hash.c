/* Included, for both ways to compute the checksum must agree and only one is public. */
#include "shared/base/hash.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static uint32_t plain(const void *bytes, size_t len)
{
    return ~crc_plain(~0u, bytes, len);
}

static void assert_crc(const uint8_t *bytes, size_t len, uint32_t expected)
{
    assert_int_equal(crc32c(0, bytes, len), expected);
    assert_int_equal(plain(bytes, len), expected);
}

/* RFC 3720 B.4 writes the checksums byte by byte, lowest first. */
static void crc_of_the_rfc_vectors(void **state)
{
    (void)state;
    uint8_t bytes[32];
    memset(bytes, 0, sizeof bytes);
    assert_crc(bytes, 32, 0x8A9136AA);
    memset(bytes, 0xFF, sizeof bytes);
    assert_crc(bytes, 32, 0x62A8AB43);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    assert_crc(bytes, 32, 0x46DD794E);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    assert_crc(bytes, 32, 0x113FDB5C);
    static const uint8_t scsi_read[48] = {
        0x01, 0xC0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, [32] = 0x28, [40] = 0x02};
    assert_crc(scsi_read, 48, 0xD9963A56);
    assert_crc((const uint8_t *)"123456789", 9, 0xE3069283);
    assert_crc(bytes, 0, 0);
}

static void fast_equals_plain_at_every_length_and_alignment(void **state)
{
    (void)state;
    uint8_t bytes[600];
    randombytes_buf(bytes, sizeof bytes);
    if (!have_fast())
        skip();
    for (size_t start = 0; start < 16; start++)
        for (size_t len = 0; len < 500; len++)
            assert_int_equal(crc_fast(~7u, bytes + start, len), crc_plain(~7u, bytes + start, len));
}

static void crc_goes_on_where_it_stopped(void **state)
{
    (void)state;
    uint8_t bytes[300];
    randombytes_buf(bytes, sizeof bytes);
    uint32_t whole = crc32c(0, bytes, sizeof bytes);
    for (size_t cut = 0; cut <= sizeof bytes; cut++)
        assert_int_equal(crc32c(crc32c(0, bytes, cut), bytes + cut, sizeof bytes - cut), whole);
}

static void crc_sees_every_bit(void **state)
{
    (void)state;
    uint8_t bytes[64] = {0};
    uint32_t clean = crc32c(0, bytes, sizeof bytes);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(crc32c(0, bytes, sizeof bytes), clean);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void assert_sha256(struct str text, const char *expected)
{
    uint8_t digest[SHA256_BYTES];
    char hex[2 * SHA256_BYTES + 1];
    sha256(text, digest);
    sodium_bin2hex(hex, sizeof hex, digest, sizeof digest);
    assert_string_equal(hex, expected);
}

/* FIPS 180-4's examples. */
static void sha256_of_the_standard_vectors(void **state)
{
    (void)state;
    assert_sha256(STR("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_sha256(STR(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_sha256(STR("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_of_the_rfc_vectors),
        cmocka_unit_test(fast_equals_plain_at_every_length_and_alignment),
        cmocka_unit_test(crc_goes_on_where_it_stopped),
        cmocka_unit_test(crc_sees_every_bit),
        cmocka_unit_test(sha256_of_the_standard_vectors),
    };
    return cmocka_run_group_tests_name("base/hash", tests, NULL, NULL);
}
