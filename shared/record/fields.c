#include "shared/record/fields.h"

#include "shared/base/str.h"

enum { LENGTH_BYTES_MAX = 5 };

static const char wire_types[] = {
    [RECORD_KIND_UUID] = 'u', [RECORD_KIND_TIME] = 'i', [RECORD_KIND_TEXT] = 't',
    [RECORD_KIND_INT] = 'i',  [RECORD_KIND_BOOL] = 'i',
};

void fields_init(const struct record_column *columns, size_t count, void *values)
{
    for (size_t i = 0; i < count; i++) {
        char *field = (char *)values + columns[i].offset;
        enum record_kind kind = columns[i].kind;
        if (kind == RECORD_KIND_UUID)
            *(struct uuid *)field = (struct uuid){{0}};
        else if (kind == RECORD_KIND_TEXT)
            *(struct str *)field = STR_ABSENT;
        else
            *(int64_t *)field = RECORD_NULL;
    }
}

/* How many bytes from `at` on are ASCII without NUL; whole words, so it may stop a little early. */
static size_t plain_run(const char *at, size_t len)
{
    const uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
    size_t done = 0;
    for (; len - done >= 8; done += 8) {
        uint64_t word;
        memcpy(&word, at + done, 8);
        if ((word & tops) || ((word - ones) & ~word & tops))
            break;
    }
    return done;
}

/* Length of the valid start of `text`: UTF-8 without NUL. */
static size_t valid_run(struct str text)
{
    size_t at = 0;
    while (at < text.len) {
        at += plain_run(text.at + at, text.len - at);
        size_t step = at < text.len ? utf8_sequence(text.at + at, text.len - at) : 0;
        if (step == 0 || text.at[at] == '\0')
            break;
        at += step;
    }
    return at;
}

static void append_valid(struct buf *out, struct str text)
{
    while (text.len > 0) {
        size_t run = valid_run(text);
        buf_append(out, text.at, run);
        if (run == text.len)
            break;
        buf_puts(out, "\xEF\xBF\xBD");
        text.at += run + 1;
        text.len -= run + 1;
    }
}

static void append_head(struct buf *out, size_t number, enum record_kind kind, size_t len)
{
    buf_putc(out, (char)number);
    buf_putc(out, wire_types[kind]);
    for (; len >= 0x80; len >>= 7)
        buf_putc(out, (char)(len | 0x80));
    buf_putc(out, (char)len);
}

static void append_number(struct buf *out, size_t number, enum record_kind kind, int64_t value)
{
    size_t len = 1;
    while (len < 8 &&
           (value < -(INT64_C(1) << (8 * len - 1)) || value >= INT64_C(1) << (8 * len - 1)))
        len++;
    append_head(out, number, kind, len);
    for (size_t i = 0; i < len; i++)
        buf_putc(out, (char)((uint64_t)value >> (8 * i)));
}

static void append_text(struct buf *out, size_t number, struct str text)
{
    if (valid_run(text) == text.len) {
        append_head(out, number, RECORD_KIND_TEXT, text.len);
        buf_str(out, text);
        return;
    }
    struct buf mended = {0};
    append_valid(&mended, text);
    append_head(out, number, RECORD_KIND_TEXT, mended.len);
    buf_str(out, buf_view(&mended));
    buf_free(&mended);
}

static void append_field(struct buf *out, const struct record_column *column, size_t number,
                         const char *field)
{
    if (column->kind == RECORD_KIND_UUID) {
        append_head(out, number, column->kind, sizeof(struct uuid));
        buf_append(out, field, sizeof(struct uuid));
    } else if (column->kind == RECORD_KIND_TEXT) {
        const struct str *text = (const struct str *)field;
        if (text->at)
            append_text(out, number, *text);
    } else {
        int64_t value = *(const int64_t *)field;
        if (value != RECORD_NULL)
            append_number(out, number, column->kind, value);
    }
}

void fields_encode(const struct record_column *columns, size_t count, const void *values,
                   struct buf *out)
{
    for (size_t i = 0; i < count; i++)
        append_field(out, &columns[i], i, (const char *)values + columns[i].offset);
}

struct field {
    unsigned number;
    char type;
    struct str value;
};

/* Takes one field off the front of `rest`. */
static bool take_field(struct str *rest, struct field *field)
{
    if (rest->len < 3)
        return false;
    field->number = (uint8_t)rest->at[0];
    field->type = rest->at[1];
    size_t at = 2, len = 0;
    for (unsigned i = 0;; i++) {
        if (i == LENGTH_BYTES_MAX || at == rest->len)
            return false;
        uint8_t byte = (uint8_t)rest->at[at++];
        len |= (size_t)(byte & 0x7F) << (7 * i);
        if (!(byte & 0x80))
            break;
    }
    if (len > rest->len - at)
        return false;
    field->value = (struct str){rest->at + at, len};
    rest->at += at + len;
    rest->len -= at + len;
    return true;
}

static bool read_number(struct str value, int64_t *number)
{
    if (value.len < 1 || value.len > 8)
        return false;
    bool negative = value.at[value.len - 1] & 0x80;
    uint64_t bits = negative ? UINT64_MAX : 0;
    for (size_t i = value.len; i-- > 0;)
        bits = bits << 8 | (uint8_t)value.at[i];
    memcpy(number, &bits, sizeof *number);
    return *number != RECORD_NULL;
}

static bool read_field(const struct record_column *column, const struct field *field, char *into)
{
    if (field->type != wire_types[column->kind])
        return false;
    switch (column->kind) {
    case RECORD_KIND_UUID:
        if (field->value.len != sizeof(struct uuid))
            return false;
        memcpy(into, field->value.at, sizeof(struct uuid));
        return true;
    case RECORD_KIND_TEXT:
        *(struct str *)into = field->value;
        return valid_run(field->value) == field->value.len;
    case RECORD_KIND_TIME:
    case RECORD_KIND_INT:
    case RECORD_KIND_BOOL:
        return read_number(field->value, (int64_t *)into);
    }
    return false;
}

bool fields_decode(const struct record_column *columns, size_t count, struct str bytes,
                   void *values, struct error *error)
{
    fields_init(columns, count, values);
    size_t total = bytes.len;
    unsigned next = 0;
    while (bytes.len > 0) {
        struct field field;
        size_t at = total - bytes.len;
        if (!take_field(&bytes, &field))
            return error_set(error, "record: the field at byte %zu is cut short", at);
        if (field.number < next)
            return error_set(error, "record: field %u at byte %zu is out of order", field.number,
                             at);
        if (next == 0 && field.number != 0)
            return error_set(error, "record: it has no %s", columns[0].name);
        next = field.number + 1;
        if (field.number < count && !read_field(&columns[field.number], &field,
                                                (char *)values + columns[field.number].offset))
            return error_set(error, "record: field %u (%s) at byte %zu has a bad value",
                             field.number, columns[field.number].name, at);
    }
    return next > 0 || error_set(error, "record: it is empty");
}
