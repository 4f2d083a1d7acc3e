#include "shared/schema/value.h"

#include "shared/base/str.h"
#include "shared/base/xalloc.h"
#include "shared/schema/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* What it was read from, else what tells it from all others. */
static struct str text_of(struct json_object *number, char text[NUMBER_TEXT])
{
    const char *source = json_object_get_userdata(number);
    if (source)
        return str_of(source);
    if (json_object_is_type(number, json_type_double))
        snprintf(text, NUMBER_TEXT, "%.17g", json_object_get_double(number));
    else if (json_object_get_uint64(number) > INT64_MAX)
        snprintf(text, NUMBER_TEXT, "%llu", (unsigned long long)json_object_get_uint64(number));
    else
        snprintf(text, NUMBER_TEXT, "%lld", (long long)json_object_get_int64(number));
    return str_of(text);
}

/* An integer that int64 holds. */
static bool is_small(struct json_object *number)
{
    return json_object_is_type(number, json_type_int) &&
           json_object_get_uint64(number) <= INT64_MAX;
}

int number_compare(struct json_object *a, struct json_object *b)
{
    char text_a[NUMBER_TEXT], text_b[NUMBER_TEXT];
    if (is_small(a) && is_small(b)) {
        int64_t left = json_object_get_int64(a), right = json_object_get_int64(b);
        return (left > right) - (left < right);
    }
    struct decimal left = decimal_of(text_of(a, text_a)), right = decimal_of(text_of(b, text_b));
    if (left.negative != right.negative)
        return left.negative ? -1 : 1;
    int order = compare_magnitudes(&left, &right);
    return left.negative ? -order : order;
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
bool number_is_multiple(struct json_object *value, struct json_object *divisor)
{
    char value_text[NUMBER_TEXT], divisor_text[NUMBER_TEXT];
    if (is_small(value) && is_small(divisor)) {
        int64_t right = json_object_get_int64(divisor);
        return right <= 0 || json_object_get_int64(value) % right == 0;
    }
    struct decimal left = decimal_of(text_of(value, value_text));
    struct decimal right = decimal_of(text_of(divisor, divisor_text));
    size_t count = digits_of(&left);
    int64_t shift = left.point - (int64_t)count - (right.point - (int64_t)digits_of(&right));
    if (count == 0)
        return true;
    if (digits_of(&right) == 0)
        return false;
    if (digits_of(&right) > DIVISOR_DIGITS)
        return number_compare(value, divisor) == 0;
    if (shift < 0)
        return false;
    uint64_t modulus = integer_of(&right), rest = 0;
    for (size_t i = 0; i < count; i++)
        rest = (multiply(rest, 10, modulus) + (uint64_t)(digit_at(&left, i) - '0')) % modulus;
    return multiply(rest, power_of_ten((uint64_t)shift, modulus), modulus) == 0;
}

/* --- types --- */

static bool is_whole(struct json_object *number)
{
    char text[NUMBER_TEXT];
    struct decimal decimal = decimal_of(text_of(number, text));
    return digits_of(&decimal) == 0 || decimal.point >= (int64_t)digits_of(&decimal);
}

unsigned value_type(struct json_object *value, bool fractions)
{
    switch (json_object_get_type(value)) {
    case json_type_null:
        return TYPE_NULL;
    case json_type_boolean:
        return TYPE_BOOLEAN;
    case json_type_int:
        return TYPE_INTEGER;
    case json_type_double:
        return fractions && is_whole(value) ? TYPE_INTEGER : TYPE_NUMBER;
    case json_type_string:
        return TYPE_STRING;
    case json_type_array:
        return TYPE_ARRAY;
    case json_type_object:
        break;
    }
    return TYPE_OBJECT;
}

/* --- equality --- */

static bool is_number(struct json_object *value)
{
    return json_object_is_type(value, json_type_int) ||
           json_object_is_type(value, json_type_double);
}

static bool strings_equal(struct json_object *a, struct json_object *b)
{
    int len = json_object_get_string_len(a);
    return len == json_object_get_string_len(b) &&
           memcmp(json_object_get_string(a), json_object_get_string(b), (size_t)len) == 0;
}

static bool arrays_equal(struct json_object *a, struct json_object *b)
{
    size_t count = json_object_array_length(a);
    if (count != json_object_array_length(b))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!value_equal(json_object_array_get_idx(a, i), json_object_array_get_idx(b, i)))
            return false;
    return true;
}

static bool objects_equal(struct json_object *a, struct json_object *b)
{
    if (json_object_object_length(a) != json_object_object_length(b))
        return false;
    struct lh_entry *entry;
    lh_foreach(json_object_get_object(a), entry)
    {
        struct json_object *other;
        if (!json_object_object_get_ex(b, lh_entry_k(entry), &other) ||
            !value_equal((struct json_object *)lh_entry_v(entry), other))
            return false;
    }
    return true;
}

bool value_equal(struct json_object *a, struct json_object *b)
{
    enum json_type type = json_object_get_type(a);
    if (is_number(a) && is_number(b))
        return number_compare(a, b) == 0;
    if (type != json_object_get_type(b))
        return false;
    switch (type) {
    case json_type_boolean:
        return json_object_get_boolean(a) == json_object_get_boolean(b);
    case json_type_string:
        return strings_equal(a, b);
    case json_type_array:
        return arrays_equal(a, b);
    case json_type_object:
        return objects_equal(a, b);
    default:
        return true; /* null */
    }
}

/* --- uniqueItems --- */

static uint64_t mix(uint64_t hash, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(1099511628211);
    return hash;
}

static uint64_t hash_of(struct json_object *value);

/* Equal numbers are the same double. */
static uint64_t hash_number(struct json_object *value)
{
    double number = json_object_get_double(value) + 0.0;
    return mix(7, (const char *)&number, sizeof number);
}

/* Whatever the order of its members. */
static uint64_t hash_object(struct json_object *value)
{
    uint64_t sum = 11;
    struct lh_entry *entry;
    lh_foreach(json_object_get_object(value), entry)
    {
        const char *name = lh_entry_k(entry);
        sum += mix(hash_of((struct json_object *)lh_entry_v(entry)), name, strlen(name));
    }
    return sum;
}

static uint64_t hash_of(struct json_object *value)
{
    uint64_t hash = 13;
    switch (json_object_get_type(value)) {
    case json_type_int:
    case json_type_double:
        return hash_number(value);
    case json_type_string:
        return mix(17, json_object_get_string(value), (size_t)json_object_get_string_len(value));
    case json_type_array:
        for (size_t i = 0; i < json_object_array_length(value); i++)
            hash = hash * 31 + hash_of(json_object_array_get_idx(value, i));
        return hash;
    case json_type_object:
        return hash_object(value);
    case json_type_boolean:
        return json_object_get_boolean(value) ? 19 : 23;
    default:
        return 29;
    }
}

struct hashed {
    uint64_t hash;
    struct json_object *value;
};

static int compare_hashes(const void *left, const void *right)
{
    uint64_t a = ((const struct hashed *)left)->hash, b = ((const struct hashed *)right)->hash;
    return (a > b) - (a < b);
}

static bool few_are_unique(struct json_object *array, size_t count)
{
    for (size_t i = 1; i < count; i++)
        for (size_t j = 0; j < i; j++)
            if (value_equal(json_object_array_get_idx(array, i),
                            json_object_array_get_idx(array, j)))
                return false;
    return true;
}

bool values_are_unique(struct json_object *array)
{
    enum { FEW = 24 };
    size_t count = json_object_array_length(array);
    if (count <= FEW)
        return few_are_unique(array, count);
    struct hashed *all = xmalloc(count * sizeof *all);
    bool unique = true;
    for (size_t i = 0; i < count; i++) {
        struct json_object *value = json_object_array_get_idx(array, i);
        all[i] = (struct hashed){hash_of(value), value};
    }
    qsort(all, count, sizeof *all, compare_hashes);
    for (size_t i = 1; unique && i < count; i++)
        for (size_t j = i; unique && j-- > 0 && all[j].hash == all[i].hash;)
            unique = !value_equal(all[i].value, all[j].value);
    free(all);
    return unique;
}
