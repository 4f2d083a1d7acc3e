/* The chunked coding's frame (RFC 9112 7.1). */
#include "shared/http/chunk_scan.h"

#include "shared/base/str.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct example {
    struct str body;
    enum chunk_verdict verdict;
    size_t used;
};

#define EXAMPLE(text, verdict, used)                                                               \
    {                                                                                              \
        {text, sizeof(text) - 1}, verdict, used                                                    \
    }

static const struct example examples[] = {
    EXAMPLE("0\r\n\r\n", CHUNK_COMPLETE, 5),
    EXAMPLE("000\r\n\r\n", CHUNK_COMPLETE, 7),
    EXAMPLE("5\r\nhello\r\n0\r\n\r\n", CHUNK_COMPLETE, 15),
    EXAMPLE("a\r\n0123456789\r\n0\r\n\r\nGET /", CHUNK_COMPLETE, 20),
    EXAMPLE("A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n", CHUNK_COMPLETE, 26),
    EXAMPLE("000000000000001\r\nx\r\n0\r\n\r\n", CHUNK_COMPLETE, 25),
    EXAMPLE("", CHUNK_INCOMPLETE, 0),
    EXAMPLE("5\r\nhel", CHUNK_INCOMPLETE, 6),
    EXAMPLE("0\r\n\r", CHUNK_INCOMPLETE, 4),
    EXAMPLE("64\r\n", CHUNK_INCOMPLETE, 4),
    EXAMPLE("65\r\n", CHUNK_TOO_LARGE, 0),
    EXAMPLE("fffffffffffffff\r\n", CHUNK_TOO_LARGE, 0),
    EXAMPLE("5\r\nhello\r\n60\r\n", CHUNK_TOO_LARGE, 0),
    EXAMPLE("0000000000000001\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("10000000000000000\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("-1\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("+1\r\n", CHUNK_REFUSED, 0),
    EXAMPLE(" 1\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("1 \r\n", CHUNK_REFUSED, 0),
    EXAMPLE("1\t\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("0x1\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("1_0\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("g\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("1;a=b\r\nx\r\n0\r\n\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("1;\r\nx\r\n0\r\n\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("1\nx\r\n0\r\n\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("1\r\r\nx\r\n0\r\n\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("1\rx", CHUNK_REFUSED, 0),
    EXAMPLE("1\r\nx\n0\r\n\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("1\r\nxy\r\n0\r\n\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("1\r\nx\r0\r\n\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("1\r\nx0\r\n\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("0\r\n\n", CHUNK_REFUSED, 0),
    EXAMPLE("0\r\nX: y\r\n\r\n", CHUNK_REFUSED, 0),
    EXAMPLE("0\r\n\rx", CHUNK_REFUSED, 0),
    EXAMPLE("0;a\r\n\r\n", CHUNK_REFUSED, 0),
};

static enum chunk_verdict scan_in_pieces(struct str body, size_t piece, size_t *used)
{
    struct chunk_scan scan = {.max_bytes = 100};
    enum chunk_verdict verdict = CHUNK_INCOMPLETE;
    *used = 0;
    while (body.len > 0 && verdict == CHUNK_INCOMPLETE) {
        size_t part = 0, len = piece < body.len ? piece : body.len;
        verdict = chunk_scan(&scan, body.at, len, &part);
        *used += part;
        body.at += len;
        body.len -= len;
    }
    if (verdict == CHUNK_REFUSED)
        assert_non_null(scan.detail);
    return verdict;
}

static void test_examples(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++)
        for (size_t piece = 1; piece <= 30; piece++) {
            size_t used;
            enum chunk_verdict verdict = scan_in_pieces(examples[i].body, piece, &used);
            if (verdict != examples[i].verdict)
                fail_msg("\"%.*s\" in pieces of %zu: verdict %d", STR_ARG(examples[i].body), piece,
                         (int)verdict);
            if (verdict == CHUNK_COMPLETE || verdict == CHUNK_INCOMPLETE)
                assert_int_equal(used, examples[i].used);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_examples)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
