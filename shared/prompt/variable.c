#include "shared/prompt/variable.h"

#include "shared/base/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool refuse(struct variable_fault *fault, const char *keyword, const char *message)
{
    *fault = (struct variable_fault){keyword, message};
    return false;
}

/* ---- numbers and dates as text */

enum { NUMBER_SIZE = 64 };

/* -?(0|[1-9][0-9]*), as JSON has it. */
static bool is_whole(struct str text)
{
    struct str digits = text;
    if (digits.len > 0 && digits.at[0] == '-')
        digits = (struct str){text.at + 1, text.len - 1};
    if (digits.len == 0 || (digits.len > 1 && digits.at[0] == '0'))
        return false;
    for (size_t i = 0; i < digits.len; i++)
        if (digits.at[i] < '0' || digits.at[i] > '9')
            return false;
    return true;
}

static bool digits_of(struct str text, size_t from, size_t count, int64_t *number)
{
    unsigned long long value;
    if (!str_to_u64((struct str){text.at + from, count}, &value))
        return false;
    *number = (int64_t)value;
    return true;
}

static int days_in(int64_t year, int64_t month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

/* RFC 3339's full-date. */
static bool parse_date(struct str text, int64_t *number)
{
    int64_t year, month, day;
    if (text.len != 10 || text.at[4] != '-' || text.at[7] != '-' || !digits_of(text, 0, 4, &year) ||
        !digits_of(text, 5, 2, &month) || !digits_of(text, 8, 2, &day))
        return false;
    if (month < 1 || month > 12 || day < 1 || day > days_in(year, month))
        return false;
    *number = (year * 100 + month) * 100 + day;
    return true;
}

bool variable_parse_whole(enum variable_type type, struct str text, int64_t *number)
{
    char copy[NUMBER_SIZE];
    if (type == VARIABLE_DATE)
        return parse_date(text, number);
    if (!is_whole(text) || text.len >= sizeof copy)
        return false;
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    errno = 0;
    *number = strtoll(copy, NULL, 10);
    return errno == 0;
}

/* JSON's grammar is what strtod takes less hexadecimal digits, "inf", "nan" and white space. */
bool variable_parse_decimal(struct str text, double *number)
{
    char copy[NUMBER_SIZE];
    struct json_object *value;
    struct error unused;
    if (text.len >= sizeof copy || !json_read(text, &value, &unused))
        return false;
    bool is_number =
        json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double);
    json_object_put(value);
    bool bare = text.at[0] > ' ' && text.at[text.len - 1] > ' '; /* no white space around it */
    if (!is_number || !bare)
        return false;
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    *number = strtod(copy, NULL);
    return isfinite(*number);
}

/* ---- rules */

static bool check_bounds(const struct variable *variable, int order_min, int order_max,
                         struct arena *arena, struct variable_fault *fault)
{
    if (variable->has_min && order_min < 0)
        return refuse(fault, "min", arena_printf(arena, "must be at least %s", variable->min_text));
    if (variable->has_max && order_max > 0)
        return refuse(fault, "max", arena_printf(arena, "must be at most %s", variable->max_text));
    return true;
}

static bool check_whole(const struct variable *variable, struct str text, struct arena *arena,
                        struct variable_fault *fault)
{
    int64_t number;
    if (!variable_parse_whole(variable->type, text, &number))
        return refuse(fault, "type",
                      variable->type == VARIABLE_DATE ? "must be a date such as 2026-11-26"
                                                      : "must be a whole number");
    return check_bounds(variable, (number > variable->min) - (number < variable->min),
                        (number > variable->max) - (number < variable->max), arena, fault);
}

static bool check_decimal(const struct variable *variable, struct str text, struct arena *arena,
                          struct variable_fault *fault)
{
    double number;
    if (!variable_parse_decimal(text, &number))
        return refuse(fault, "type", "must be a number");
    return check_bounds(
        variable, (number > variable->min_decimal) - (number < variable->min_decimal),
        (number > variable->max_decimal) - (number < variable->max_decimal), arena, fault);
}

static int64_t characters(struct str text)
{
    int64_t count = 0;
    for (size_t i = 0; i < text.len; i++)
        count += ((unsigned char)text.at[i] & 0xC0) != 0x80;
    return count;
}

static bool check_text(const struct variable *variable, struct str text, struct arena *arena,
                       struct variable_fault *fault)
{
    bool one_line = variable->type == VARIABLE_STRING;
    if (one_line && (memchr(text.at, '\n', text.len) || memchr(text.at, '\r', text.len)))
        return refuse(fault, "type", "must be a string without line breaks");
    if (variable->max_length >= 0 && characters(text) > variable->max_length)
        return refuse(fault, "max_length",
                      arena_printf(arena, "must be at most %lld characters long",
                                   (long long)variable->max_length));
    if (!variable->pattern)
        return true;
    switch (pattern_match(variable->pattern, text)) {
    case PATTERN_MATCHES:
        return true;
    case PATTERN_DIFFERS:
        return refuse(fault, "pattern", "must match the variable's pattern");
    default:
        return refuse(fault, "pattern", "takes too long to be matched with the variable's pattern");
    }
}

static bool check_choice(const struct variable *variable, struct str text, struct arena *arena,
                         struct variable_fault *fault)
{
    struct buf list = {0};
    for (size_t i = 0; i < variable->choices_count; i++) {
        if (str_eq(variable->choices[i], text)) {
            buf_free(&list);
            return true;
        }
        buf_printf(&list, "%s%.*s", i ? ", " : "", STR_ARG(variable->choices[i]));
    }
    const char *message = arena_printf(arena, "must be one of %s", buf_cstr(&list));
    buf_free(&list);
    return refuse(fault, "enum", message);
}

bool variable_check(const struct variable *variable, struct str text, struct arena *arena,
                    struct variable_fault *fault)
{
    switch (variable->type) {
    case VARIABLE_INT:
    case VARIABLE_DATE:
        return check_whole(variable, text, arena, fault);
    case VARIABLE_FLOAT:
        return check_decimal(variable, text, arena, fault);
    case VARIABLE_BOOL:
        return str_eq(text, STR("true")) || str_eq(text, STR("false")) ||
               refuse(fault, "type", "must be true or false");
    case VARIABLE_ENUM:
        return check_choice(variable, text, arena, fault);
    default:
        return check_text(variable, text, arena, fault);
    }
}

/* ---- a client's value */

/* 5.0 and 1e3 are whole numbers in JSON: as such they are put in. */
static struct str whole_text(struct json_object *value, struct arena *arena, struct str written)
{
    int64_t number = json_int_or(value, INT64_MIN);
    if (!json_object_is_type(value, json_type_double) || number == INT64_MIN)
        return written;
    return str_of(arena_printf(arena, "%lld", (long long)number));
}

bool variable_read(const struct variable *variable, struct json_object *value, struct arena *arena,
                   struct str *text, struct variable_fault *fault)
{
    bool is_text = variable->type == VARIABLE_STRING || variable->type == VARIABLE_TEXT ||
                   variable->type == VARIABLE_DATE;
    *text = json_text(value);
    if (text->at)
        return variable_check(variable, *text, arena, fault);
    if (is_text || json_object_is_type(value, json_type_object) ||
        json_object_is_type(value, json_type_array))
        return refuse(fault, "type",
                      variable->type == VARIABLE_DATE ? "must be a date such as 2026-11-26"
                      : is_text                       ? "must be a string"
                                                      : "must not be an object or a list");
    struct buf written = {0};
    json_write(&written, value);
    *text = arena_copy(arena, buf_view(&written));
    buf_free(&written);
    if (variable->type == VARIABLE_INT)
        *text = whole_text(value, arena, *text);
    return variable_check(variable, *text, arena, fault);
}
