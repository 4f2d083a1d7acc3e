#include "shared/schema/cell.h"

#include "shared/base/xalloc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- making them --- */

static uint64_t word_of(const char *bytes, size_t len)
{
    uint64_t word = 0;
    memcpy(&word, bytes, len < sizeof word ? len : sizeof word);
    return word;
}

struct name name_of(const char *text)
{
    struct name name = {.text = text, .len = (uint32_t)strlen(text)};
    name.head = word_of(text, name.len);
    name.tail = name.len > 8 ? word_of(text + name.len - 8, 8) : 0;
    uint64_t hash = (name.head ^ name.tail * UINT64_C(0xC2B2AE3D27D4EB4F) ^ name.len) *
                    UINT64_C(0x9E3779B97F4A7C15);
    name.hash = (uint32_t)(hash >> 32);
    return name;
}

static uint32_t count_characters(const char *text, size_t len)
{
    uint32_t count = 0;
    for (size_t i = 0; i < len; i++)
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

static void set_text(struct cell *cell, const char *text, uint32_t len)
{
    cell->type = TYPE_STRING;
    cell->count = len;
    cell->characters = count_characters(text, len);
    cell->text = text;
    cell->head = word_of(text, len);
}

struct cell cell_of_name(const struct name *name)
{
    struct cell cell = {0};
    set_text(&cell, name->text, name->len);
    return cell;
}

static void fill(struct cell *cell, struct json_object *value, struct arena *arena);

static void fill_array(struct cell *cell, struct json_object *value, struct arena *arena)
{
    size_t count = json_object_array_length(value);
    struct cell *elements = arena_alloc(arena, count * sizeof *elements);
    cell->type = TYPE_ARRAY;
    cell->count = (uint32_t)count;
    cell->elements = elements;
    for (size_t i = 0; i < count; i++)
        fill(&elements[i], json_object_array_get_idx(value, i), arena);
}

static void fill_object(struct cell *cell, struct json_object *value, struct arena *arena)
{
    size_t count = (size_t)json_object_object_length(value);
    struct member *members = arena_alloc(arena, count * sizeof *members);
    struct lh_entry *entry;
    cell->type = TYPE_OBJECT;
    cell->count = (uint32_t)count;
    cell->members = members;
    lh_foreach(json_object_get_object(value), entry)
    {
        members->name = name_of(lh_entry_k(entry));
        fill(&members->value, (struct json_object *)lh_entry_v(entry), arena);
        members++;
    }
}

static bool is_whole(struct str text);

/* What has no source is written so that it tells the number from all others. */
static void fill_number(struct cell *cell, struct json_object *value, struct arena *arena)
{
    const char *source = json_object_get_userdata(value);
    if (!source && json_object_is_type(value, json_type_int))
        source = arena_printf(arena, "%" PRIu64, json_object_get_uint64(value));
    else if (!source)
        source = arena_printf(arena, "%.17g", json_object_get_double(value));
    cell->source = source;
    cell->number = json_object_get_double(value);
    cell->type = is_whole(str_of(source)) ? TYPE_INTEGER : TYPE_NUMBER;
    cell->is_dotted = strpbrk(source, ".eE");
}

static void fill(struct cell *cell, struct json_object *value, struct arena *arena)
{
    switch (json_object_get_type(value)) {
    case json_type_null:
        cell->type = TYPE_NULL;
        break;
    case json_type_boolean:
        cell->type = TYPE_BOOLEAN;
        cell->truth = json_object_get_boolean(value);
        break;
    case json_type_int:
        cell->is_small = json_object_get_uint64(value) <= INT64_MAX;
        if (cell->is_small) {
            cell->type = TYPE_INTEGER;
            cell->integer = json_object_get_int64(value);
        } else {
            fill_number(cell, value, arena);
        }
        break;
    case json_type_double:
        fill_number(cell, value, arena);
        break;
    case json_type_string:
        set_text(cell, json_object_get_string(value), (uint32_t)json_object_get_string_len(value));
        break;
    case json_type_array:
        fill_array(cell, value, arena);
        break;
    case json_type_object:
        fill_object(cell, value, arena);
        break;
    }
}

const struct cell *cell_of(struct json_object *value, struct arena *arena)
{
    struct cell *cell = arena_alloc(arena, sizeof *cell);
    fill(cell, value, arena);
    return cell;
}

const struct cell *cell_member(const struct cell *object, const struct name *name)
{
    for (uint32_t i = 0; i < object->count; i++)
        if (name_equal(&object->members[i].name, name))
            return &object->members[i].value;
    return NULL;
}

/* --- exact decimals --- */

/* sign * 0.DIGITS * 10^point; no zeros at either end. The digits lie in two pieces where the point
 * stands between them. */
struct decimal {
    bool negative;
    struct str first, second;
    int64_t point;
};

enum { NUMBER_TEXT = 48 };

static void strip_front(struct str *text)
{
    while (text->len > 0 && text->at[0] == '0') {
        text->at++;
        text->len--;
    }
}

static void strip_back(struct str *text)
{
    while (text->len > 0 && text->at[text->len - 1] == '0')
        text->len--;
}

static size_t count_digits(struct str text)
{
    size_t len = 0;
    while (len < text.len && text.at[len] >= '0' && text.at[len] <= '9')
        len++;
    return len;
}

/* An exponent beyond this is as good as it. */
static int64_t read_exponent(struct str text)
{
    enum { MOST = 1000000000 };
    int64_t value = 0;
    bool negative = text.len > 0 && text.at[0] == '-';
    for (size_t i = 0; i < text.len && value < MOST; i++)
        if (text.at[i] >= '0' && text.at[i] <= '9')
            value = value * 10 + (text.at[i] - '0');
    return negative ? -value : value;
}

static struct decimal decimal_of(struct str text)
{
    struct decimal decimal = {0};
    if (text.len > 0 && text.at[0] == '-') {
        decimal.negative = true;
        text = (struct str){text.at + 1, text.len - 1};
    }
    size_t len = count_digits(text);
    decimal.first = (struct str){text.at, len};
    text = (struct str){text.at + len, text.len - len};
    if (text.len > 0 && text.at[0] == '.') {
        text = (struct str){text.at + 1, text.len - 1};
        len = count_digits(text);
        decimal.second = (struct str){text.at, len};
        text = (struct str){text.at + len, text.len - len};
    }
    strip_front(&decimal.first);
    strip_back(&decimal.second);
    decimal.point = (int64_t)decimal.first.len;
    if (decimal.first.len == 0) {
        size_t before = decimal.second.len;
        strip_front(&decimal.second);
        decimal.point = -(int64_t)(before - decimal.second.len);
    }
    if (decimal.second.len == 0)
        strip_back(&decimal.first);
    if (text.len > 0)
        decimal.point += read_exponent((struct str){text.at + 1, text.len - 1});
    if (decimal.first.len + decimal.second.len == 0)
        decimal = (struct decimal){0};
    return decimal;
}

static size_t digits_of(const struct decimal *decimal)
{
    return decimal->first.len + decimal->second.len;
}

static char digit_at(const struct decimal *decimal, size_t i)
{
    if (i < decimal->first.len)
        return decimal->first.at[i];
    return i < digits_of(decimal) ? decimal->second.at[i - decimal->first.len] : '0';
}

static int compare_magnitudes(const struct decimal *a, const struct decimal *b)
{
    size_t len = digits_of(a) > digits_of(b) ? digits_of(a) : digits_of(b);
    if (digits_of(a) == 0 || digits_of(b) == 0)
        return (digits_of(a) > 0) - (digits_of(b) > 0);
    if (a->point != b->point)
        return a->point > b->point ? 1 : -1;
    for (size_t i = 0; i < len; i++)
        if (digit_at(a, i) != digit_at(b, i))
            return digit_at(a, i) > digit_at(b, i) ? 1 : -1;
    return 0;
}

static struct decimal decimal_of_cell(const struct cell *cell, char text[NUMBER_TEXT])
{
    if (!cell->is_small)
        return decimal_of(str_of(cell->source));
    snprintf(text, NUMBER_TEXT, "%" PRId64, cell->integer);
    return decimal_of(str_of(text));
}

int cell_compare_exactly(const struct cell *a, const struct cell *b)
{
    char text_a[NUMBER_TEXT], text_b[NUMBER_TEXT];
    struct decimal left = decimal_of_cell(a, text_a), right = decimal_of_cell(b, text_b);
    if (left.negative != right.negative)
        return left.negative ? -1 : 1;
    int order = compare_magnitudes(&left, &right);
    return left.negative ? -order : order;
}

static bool is_whole(struct str text)
{
    struct decimal decimal = decimal_of(text);
    return digits_of(&decimal) == 0 || decimal.point >= (int64_t)digits_of(&decimal);
}

/* --- multiples --- */

/* Of a divisor with more digits than this nothing is known to be a multiple but itself. */
enum { DIVISOR_DIGITS = 18 };

static uint64_t integer_of(const struct decimal *decimal)
{
    uint64_t value = 0;
    for (size_t i = 0; i < digits_of(decimal); i++)
        value = value * 10 + (uint64_t)(digit_at(decimal, i) - '0');
    return value;
}

static uint64_t multiply(uint64_t a, uint64_t b, uint64_t modulus)
{
    return (uint64_t)((unsigned __int128)a * b % modulus);
}

static uint64_t power_of_ten(uint64_t exponent, uint64_t modulus)
{
    uint64_t power = 1 % modulus, base = 10 % modulus;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1)
            power = multiply(power, base, modulus);
        base = multiply(base, base, modulus);
    }
    return power;
}

/* VALUE * 10^a is a multiple of DIVISOR * 10^b, and neither ends in a zero: so a is at least b, or
 * ten divides VALUE. */
bool cell_is_multiple(const struct cell *value, const struct cell *divisor)
{
    char value_text[NUMBER_TEXT], divisor_text[NUMBER_TEXT];
    if (value->is_small && divisor->is_small)
        return divisor->integer <= 0 || value->integer % divisor->integer == 0;
    struct decimal left = decimal_of_cell(value, value_text);
    struct decimal right = decimal_of_cell(divisor, divisor_text);
    size_t count = digits_of(&left);
    int64_t shift = left.point - (int64_t)count - (right.point - (int64_t)digits_of(&right));
    if (count == 0)
        return true;
    if (digits_of(&right) == 0)
        return false;
    if (digits_of(&right) > DIVISOR_DIGITS)
        return cell_compare_exactly(value, divisor) == 0;
    if (shift < 0)
        return false;
    uint64_t modulus = integer_of(&right), rest = 0;
    for (size_t i = 0; i < count; i++)
        rest = (multiply(rest, 10, modulus) + (uint64_t)(digit_at(&left, i) - '0')) % modulus;
    return multiply(rest, power_of_ten((uint64_t)shift, modulus), modulus) == 0;
}

/* --- equality --- */

static bool arrays_equal(const struct cell *a, const struct cell *b)
{
    for (uint32_t i = 0; i < a->count; i++)
        if (!cell_equal(&a->elements[i], &b->elements[i]))
            return false;
    return true;
}

static bool objects_equal(const struct cell *a, const struct cell *b)
{
    for (uint32_t i = 0; i < a->count; i++) {
        const struct member *one = &a->members[i];
        const struct cell *other = cell_member(b, &one->name);
        if (!other || !cell_equal(&one->value, other))
            return false;
    }
    return true;
}

bool cell_equal(const struct cell *a, const struct cell *b)
{
    if ((a->type & (TYPE_INTEGER | TYPE_NUMBER)) && (b->type & (TYPE_INTEGER | TYPE_NUMBER)))
        return cell_compare(a, b) == 0;
    if (a->type != b->type || a->count != b->count)
        return false;
    switch (a->type) {
    case TYPE_BOOLEAN:
        return a->truth == b->truth;
    case TYPE_STRING:
        return cell_same_text(a, b);
    case TYPE_ARRAY:
        return arrays_equal(a, b);
    case TYPE_OBJECT:
        return objects_equal(a, b);
    default:
        return true; /* null */
    }
}

bool cell_is_among(const struct cell *array, const struct cell *value)
{
    if (value->type == TYPE_STRING)
        return cell_text_is_among(array, value);
    for (uint32_t i = 0; i < array->count; i++)
        if (cell_equal(&array->elements[i], value))
            return true;
    return false;
}

/* --- uniqueItems --- */

static uint64_t mix(uint64_t hash, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(1099511628211);
    return hash;
}

/* Equal numbers are the same double, members have no order. */
static uint64_t hash_of(const struct cell *cell)
{
    uint64_t hash = cell->type;
    double number;
    switch (cell->type) {
    case TYPE_INTEGER:
    case TYPE_NUMBER:
        number = (cell->is_small ? (double)cell->integer : cell->number) + 0.0;
        return mix(7, (const char *)&number, sizeof number);
    case TYPE_STRING:
        return mix(17, cell->text, cell->count);
    case TYPE_ARRAY:
        for (uint32_t i = 0; i < cell->count; i++)
            hash = hash * 31 + hash_of(&cell->elements[i]);
        return hash;
    case TYPE_OBJECT:
        for (uint32_t i = 0; i < cell->count; i++)
            hash += mix(hash_of(&cell->members[i].value), cell->members[i].name.text,
                        cell->members[i].name.len);
        return hash;
    default:
        return cell->type == TYPE_BOOLEAN ? hash + cell->truth : hash;
    }
}

struct hashed {
    uint64_t hash;
    const struct cell *cell;
};

static int compare_hashes(const void *left, const void *right)
{
    uint64_t a = ((const struct hashed *)left)->hash, b = ((const struct hashed *)right)->hash;
    return (a > b) - (a < b);
}

static bool few_are_unique(const struct cell *array)
{
    for (uint32_t i = 1; i < array->count; i++)
        for (uint32_t j = 0; j < i; j++)
            if (cell_equal(&array->elements[i], &array->elements[j]))
                return false;
    return true;
}

bool cell_is_unique(const struct cell *array)
{
    enum { FEW = 24 };
    if (array->count <= FEW)
        return few_are_unique(array);
    struct hashed *all = xmalloc(array->count * sizeof *all);
    bool unique = true;
    for (uint32_t i = 0; i < array->count; i++)
        all[i] = (struct hashed){hash_of(&array->elements[i]), &array->elements[i]};
    qsort(all, array->count, sizeof *all, compare_hashes);
    for (uint32_t i = 1; unique && i < array->count; i++)
        for (uint32_t j = i; unique && j-- > 0 && all[j].hash == all[i].hash;)
            unique = !cell_equal(all[i].cell, all[j].cell);
    free(all);
    return unique;
}
