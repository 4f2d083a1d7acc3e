#include "shared/http/chunk_scan.h"

#include "shared/base/str.h"

enum expected {
    SIZE,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    LAST_CR,
    LAST_LF,
};

enum { MAX_DIGITS = 15 }; /* sums of such sizes below max_bytes can't overflow 64 bits */

static enum chunk_verdict refuse(struct chunk_scan *scan, const char *detail)
{
    scan->detail = detail;
    return CHUNK_REFUSED;
}

static enum chunk_verdict read_size(struct chunk_scan *scan, char c)
{
    int digit = hex_digit(c);
    if (digit >= 0 && scan->digits < MAX_DIGITS) {
        scan->digits++;
        scan->size = scan->size * 16 + (unsigned)digit;
        return CHUNK_INCOMPLETE;
    }
    if (c == '\r' && scan->digits > 0) {
        scan->expects = SIZE_LF;
        return CHUNK_INCOMPLETE;
    }
    if (digit < 0 && scan->digits > 0)
        return refuse(scan, "A chunk's size must be followed by CRLF; extensions are not allowed.");
    return refuse(scan, "A chunk's size must be 1 to 15 hex digits.");
}

static enum chunk_verdict end_size(struct chunk_scan *scan)
{
    if (scan->size > scan->max_bytes - scan->total)
        return CHUNK_TOO_LARGE;
    scan->expects = scan->size ? DATA : LAST_CR;
    scan->left = scan->size;
    scan->total += scan->size;
    scan->size = 0;
    scan->digits = 0;
    return CHUNK_INCOMPLETE;
}

/* One byte of the frame, that is, anything but data. */
static enum chunk_verdict read_frame(struct chunk_scan *scan, char c)
{
    if (scan->expects == SIZE)
        return read_size(scan, c);
    if (scan->expects == LAST_CR && c != '\r')
        return refuse(scan, "Trailers are not allowed.");
    bool wants_cr = scan->expects == DATA_CR || scan->expects == LAST_CR;
    if (c != (wants_cr ? '\r' : '\n'))
        return refuse(scan, "A chunk must end in CRLF.");
    if (scan->expects == SIZE_LF)
        return end_size(scan);
    if (scan->expects == LAST_LF)
        return CHUNK_COMPLETE;
    scan->expects = scan->expects == DATA_LF ? SIZE : scan->expects + 1;
    return CHUNK_INCOMPLETE;
}

enum chunk_verdict chunk_scan(struct chunk_scan *scan, const char *bytes, size_t len, size_t *used)
{
    size_t at = 0;
    enum chunk_verdict verdict = CHUNK_INCOMPLETE;
    while (at < len && verdict == CHUNK_INCOMPLETE) {
        if (scan->expects == DATA) {
            size_t take = scan->left < len - at ? (size_t)scan->left : len - at;
            at += take;
            scan->left -= take;
            if (scan->left == 0)
                scan->expects = DATA_CR;
        } else {
            verdict = read_frame(scan, bytes[at++]);
        }
    }
    *used = at;
    return verdict;
}
