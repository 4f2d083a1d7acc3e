/* The typed variables of an endpoint: what a client gives for one is checked and becomes the text
 * that templates put in. */
#pragma once

#include "shared/schema/pattern.h"

#include <stdint.h>

struct json_object;

enum variable_type {
    VARIABLE_STRING, /* a text without line breaks */
    VARIABLE_TEXT,
    VARIABLE_INT,
    VARIABLE_FLOAT,
    VARIABLE_BOOL,
    VARIABLE_DATE, /* "2026-11-26" */
    VARIABLE_ENUM,
};

/* The names in order of the enum, for keys.def. */
#define VARIABLE_TYPES "string|text|int|float|bool|date|enum"

struct variable {
    const char *name;
    enum variable_type type;
    bool required;
    struct str standard; /* the default's text; absent = none */
    /* Of an int, of a date as the number YYYYMMDD, of a float. */
    bool has_min, has_max;
    int64_t min, max;
    double min_decimal, max_decimal;
    const char *min_text, *max_text; /* as written, for messages */
    int64_t max_length;              /* characters of a string or text; -1 = no limit */
    const struct pattern *pattern;   /* NULL = none */
    struct str *choices;             /* of an enum */
    size_t choices_count;
};

/* Why a value does not fit: a keyword and a sentence, which never holds the value. */
struct variable_fault {
    const char *keyword; /* type, min, max, max_length, pattern, enum, required */
    const char *message; /* static, or in the arena given */
};

/* Reads a value, which is not null. Numbers and booleans may come as strings. True with `*text`,
 * which lives as long as value and arena; false with `fault`. */
bool variable_read(const struct variable *variable, struct json_object *value, struct arena *arena,
                   struct str *text, struct variable_fault *fault)
    __attribute__((warn_unused_result));
/* The same for a text of a configuration: a default, a bound (`min`, `max` unset yet). */
bool variable_check(const struct variable *variable, struct str text, struct arena *arena,
                    struct variable_fault *fault) __attribute__((warn_unused_result));
/* A whole number, or a date as YYYYMMDD. */
bool variable_parse_whole(enum variable_type type, struct str text, int64_t *number)
    __attribute__((warn_unused_result));
bool variable_parse_decimal(struct str text, double *number) __attribute__((warn_unused_result));
