#include "shared/record/refused.h"

#include "shared/record/fields.h"

#include <stddef.h>

/* In place of a row's first field number. A logger that knows of rows alone sets such a record
 * aside. */
static const char marker = (char)0xFF;

static const struct record_column columns[] = {
    {"minute", RECORD_KIND_TIME, offsetof(struct refused, minute_wall_ms)},
    {"code", RECORD_KIND_TEXT, offsetof(struct refused, code)},
    {"network", RECORD_KIND_TEXT, offsetof(struct refused, network)},
    {"host", RECORD_KIND_TEXT, offsetof(struct refused, host)},
    {"count", RECORD_KIND_INT, offsetof(struct refused, count)},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

bool refused_marked(struct str bytes)
{
    return bytes.len > 0 && bytes.at[0] == marker;
}

void refused_encode(const struct refused *refused, struct buf *out)
{
    buf_putc(out, marker);
    fields_encode(columns, COLUMNS, refused, out);
}

bool refused_decode(struct str bytes, struct refused *refused, struct error *error)
{
    if (!refused_marked(bytes))
        return error_set(error, "record: it is no count of refused requests");
    bytes.at++;
    bytes.len--;
    if (!fields_decode(columns, COLUMNS, bytes, refused, error))
        return false;
    return (refused->code.at && refused->network.at && refused->host.at && refused->count > 0) ||
           error_set(error, "record: a count of refused requests lacks a field");
}
