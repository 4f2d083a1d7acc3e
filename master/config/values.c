#include "master/config/values.h"

#include "master/config/config_file.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

static const struct {
    const char *name, *wanted;
    size_t size;
} types[] = {
#define VALUE_TYPE(id, name, wanted, type) {name, wanted, sizeof(type)},
    VALUE_TYPES
#undef VALUE_TYPE
};

const char *value_type_name(enum value_type type)
{
    return types[type].name;
}

const char *value_type_wanted(enum value_type type)
{
    return types[type].wanted;
}

size_t value_type_size(enum value_type type)
{
    return types[type].size;
}

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit size_units[] = {
    {"", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {NULL, 0}};
static const struct unit duration_units[] = {{"ms", 1},      {"s", 1000},     {"m", 60000},
                                             {"h", 3600000}, {"d", 86400000}, {NULL, 0}};

static bool parse_int(struct str text, int64_t *value)
{
    bool negative = text.len > 0 && text.at[0] == '-';
    struct str digits = {text.at + negative, text.len - negative};
    unsigned long long magnitude;
    if (!str_to_u64(digits, &magnitude) || magnitude > INT64_MAX)
        return false;
    if (digits.len > 1 && digits.at[0] == '0')
        return false;
    *value = negative ? -(int64_t)magnitude : (int64_t)magnitude;
    return true;
}

static bool parse_with_unit(struct str text, const struct unit *units, int64_t *value)
{
    size_t digits = 0;
    while (digits < text.len && text.at[digits] >= '0' && text.at[digits] <= '9')
        digits++;
    struct str unit = {text.at + digits, text.len - digits};
    if (!parse_int((struct str){text.at, digits}, value))
        return false;
    for (; units->name; units++)
        if (str_eq(unit, str_of(units->name)))
            return !__builtin_mul_overflow(*value, units->factor, value);
    return false;
}

static bool parse_number(struct str text, double *value)
{
    char *end;
    if (text.len == 0 || strspn(text.at, "-.0123456789") != text.len)
        return false;
    *value = strtod(text.at, &end);
    return end == text.at + text.len && isfinite(*value);
}

/* A plain decimal in units of its last permitted decimal. */
static bool parse_decimal(struct str text, size_t decimals, int64_t *value)
{
    struct str rest = text, whole = str_split(&rest, '.');
    unsigned long long units, fraction = 0;
    if (!str_to_u64(whole, &units) || (whole.len > 1 && whole.at[0] == '0') || units > INT64_MAX)
        return false;
    if (rest.at && (rest.len > decimals || !str_to_u64(rest, &fraction)))
        return false;
    *value = (int64_t)units;
    for (size_t i = 0; i < decimals; i++) {
        if (__builtin_mul_overflow(*value, 10, value))
            return false;
        if (rest.at && i >= rest.len)
            fraction *= 10;
    }
    return !__builtin_add_overflow(*value, (int64_t)fraction, value);
}

/* The two ends of "LOW..HIGH"; without limits, everything. */
static bool split_limits(const char *limits, struct str *low, struct str *high)
{
    const char *dots = strstr(limits, "..");
    if (!dots)
        return false;
    *low = (struct str){limits, (size_t)(dots - limits)};
    *high = str_of(dots + 2);
    return true;
}

static bool parse_whole(enum value_type type, struct str text, int64_t *value)
{
    if (type == VALUE_SIZE)
        return parse_with_unit(text, size_units, value);
    if (type == VALUE_DURATION)
        return parse_with_unit(text, duration_units, value);
    if (type == VALUE_PRICE)
        return parse_decimal(text, 6, value);
    if (type == VALUE_MONEY)
        return parse_decimal(text, 9, value);
    return parse_int(text, value);
}

static bool within(enum value_type type, const char *limits, int64_t value)
{
    struct str low_text, high_text;
    int64_t low, high;
    if (!split_limits(limits, &low_text, &high_text))
        return true;
    return parse_whole(type, low_text, &low) && parse_whole(type, high_text, &high) &&
           value >= low && value <= high;
}

static bool decimal_within(const char *limits, double value)
{
    const char *dots = strstr(limits, "..");
    return !dots || (value >= strtod(limits, NULL) && value <= strtod(dots + 2, NULL));
}

struct str value_choice(const char *limits, int choice)
{
    struct str rest = str_of(limits);
    while (rest.at) {
        struct str name = str_split(&rest, '|');
        if (name.len > 0 && choice-- == 0)
            return name;
    }
    return STR_ABSENT;
}

static bool parse_choice(const char *limits, struct str text, int *choice)
{
    for (int i = 0;; i++) {
        struct str name = value_choice(limits, i);
        if (!name.at)
            return false;
        *choice = i;
        if (str_eq(name, text))
            return true;
    }
}

static bool parse_hash(struct str text, struct value_hash *hash)
{
    struct str prefix = STR("sha256:");
    if (!str_starts(text, prefix) || text.len != prefix.len + 2 * sizeof hash->bytes)
        return false;
    const char *digit = text.at + prefix.len;
    for (size_t i = 0; i < sizeof hash->bytes; i++, digit += 2) {
        int high = hex_digit(digit[0]), low = hex_digit(digit[1]);
        if (high < 0 || low < 0)
            return false;
        hash->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* Takes `count` digits off the front. */
static bool take_digits(struct str *s, size_t count, int *value)
{
    unsigned long long number;
    if (s->len < count || !str_to_u64((struct str){s->at, count}, &number))
        return false;
    *value = (int)number;
    s->at += count;
    s->len -= count;
    return true;
}

static bool take_char(struct str *s, char c)
{
    if (s->len == 0 || *s->at != c)
        return false;
    s->at++;
    s->len--;
    return true;
}

/* Milliseconds of ".123456"; further digits are dropped. */
static bool take_fraction(struct str *s, int *ms)
{
    *ms = 0;
    if (!take_char(s, '.'))
        return true;
    size_t count = 0;
    for (int unit = 100; s->len > 0 && *s->at >= '0' && *s->at <= '9'; unit /= 10, count++) {
        *ms += (*s->at - '0') * unit;
        take_char(s, *s->at);
    }
    return count > 0;
}

/* "Z" or "+HH:MM": seconds east of UTC. */
static bool take_zone(struct str *s, int *seconds)
{
    *seconds = 0;
    if (take_char(s, 'Z') || take_char(s, 'z'))
        return true;
    int sign = take_char(s, '+') ? 1 : take_char(s, '-') ? -1 : 0, hours, minutes;
    if (sign == 0 || !take_digits(s, 2, &hours) || !take_char(s, ':') ||
        !take_digits(s, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *seconds = sign * (hours * 3600 + minutes * 60);
    return true;
}

/* RFC 3339 section 5.6. A leap second counts as the one after it. */
bool value_parse_time(struct str s, int64_t *wall_ms)
{
    struct tm tm = {0};
    int ms, zone;
    bool date = take_digits(&s, 4, &tm.tm_year) && take_char(&s, '-') &&
                take_digits(&s, 2, &tm.tm_mon) && take_char(&s, '-') &&
                take_digits(&s, 2, &tm.tm_mday) && (take_char(&s, 'T') || take_char(&s, 't'));
    bool clock = date && take_digits(&s, 2, &tm.tm_hour) && take_char(&s, ':') &&
                 take_digits(&s, 2, &tm.tm_min) && take_char(&s, ':') &&
                 take_digits(&s, 2, &tm.tm_sec) && take_fraction(&s, &ms) && take_zone(&s, &zone);
    if (!clock || s.len > 0 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    int month = tm.tm_mon, day = tm.tm_mday;
    struct tm date_only = {.tm_year = tm.tm_year, .tm_mon = month, .tm_mday = day};
    timegm(&date_only);
    if (date_only.tm_mon != month || date_only.tm_mday != day)
        return false;
    *wall_ms = ((int64_t)timegm(&tm) - zone) * 1000 + ms;
    return true;
}

static bool parse_text(enum value_type type, const char *limits, struct str text)
{
    if (type == VALUE_NAME && !config_name_valid(text))
        return false;
    if (type == VALUE_PATH && (text.len == 0 || text.at[0] != '/'))
        return false;
    if ((type == VALUE_URL || type == VALUE_SECRET) && text.len == 0)
        return false;
    return within(VALUE_INT, limits, (int64_t)text.len);
}

bool value_parse(enum value_type type, const char *limits, struct str text, union value *value)
{
    switch (type) {
    case VALUE_BOOL:
        value->truth = str_eq(text, STR("true"));
        return value->truth || str_eq(text, STR("false"));
    case VALUE_COUNT:
        value->number = 0;
        if (str_eq(text, STR("auto")))
            return true;
        /* fall through */
    case VALUE_INT:
    case VALUE_PRICE:
    case VALUE_MONEY:
    case VALUE_SIZE:
    case VALUE_DURATION:
        return parse_whole(type, text, &value->number) && within(type, limits, value->number);
    case VALUE_NUMBER:
        return parse_number(text, &value->decimal) && decimal_within(limits, value->decimal);
    case VALUE_ENUM:
        return parse_choice(limits, text, &value->choice);
    case VALUE_UUID:
        return uuid_parse(text, &value->uuid);
    case VALUE_TIME:
        return value_parse_time(text, &value->number);
    case VALUE_HASH:
        return parse_hash(text, &value->hash);
    default:
        value->text = text.at;
        return parse_text(type, limits, text);
    }
}
