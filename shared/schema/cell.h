/* A JSON value as programs read it: everything that a check asks for stands in one place. Made once
 * of a json-c value, which has to stay: texts and numbers' sources are its. Private to this
 * folder. */
#pragma once

#include "shared/base/arena.h"
#include "shared/base/str.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    TYPE_NULL = 1,
    TYPE_BOOLEAN = 2,
    TYPE_INTEGER = 4,
    TYPE_NUMBER = 8, /* that is no integer */
    TYPE_STRING = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64,
    TYPE_ALL = 127,
};

struct member;

struct cell {
    uint8_t type;   /* one of them */
    bool is_small;  /* a number: `integer` is all of it */
    bool is_dotted; /* 1.0: an integer, but not in draft 4 */
    uint32_t count; /* bytes, elements, members */
    uint32_t characters;
    union {
        bool truth;
        int64_t integer;
        double number; /* the nearest */
        const char *text;
        const struct cell *elements;
        const struct member *members;
    };
    union {
        const char *source; /* of a number that is not small: as it was written */
        uint64_t head;      /* of a string: its first bytes */
    };
};

/* Most names are told apart by their ends alone. */
struct name {
    const char *text;
    uint64_t head, tail; /* the first and the last 8 bytes; zeroes where there are none */
    uint32_t len, hash;
};

struct member {
    struct name name;
    struct cell value;
};

/* The value is the arena's. */
const struct cell *cell_of(struct json_object *value, struct arena *arena);
struct cell cell_of_name(const struct name *name);
struct name name_of(const char *text);
static inline bool name_equal(const struct name *a, const struct name *b)
{
    return ((a->head ^ b->head) | (a->tail ^ b->tail) | (a->len ^ b->len)) == 0 &&
           (a->len <= 16 || memcmp(a->text, b->text, a->len) == 0);
}
/* The member of an object; NULL when there is none. */
const struct cell *cell_member(const struct cell *object, const struct name *name);

/* ---- comparing: numbers by their exact value, objects without order */

int cell_compare_exactly(const struct cell *a, const struct cell *b);
/* The nearest doubles tell two numbers apart, unless they are the same. */
static inline int cell_compare(const struct cell *a, const struct cell *b)
{
    if (a->is_small && b->is_small)
        return (a->integer > b->integer) - (a->integer < b->integer);
    double left = a->is_small ? (double)a->integer : a->number;
    double right = b->is_small ? (double)b->integer : b->number;
    if (left != right)
        return left > right ? 1 : -1;
    return cell_compare_exactly(a, b);
}
/* The last 8 bytes of a text that has as many. */
static inline uint64_t cell_last_word(const struct cell *text)
{
    uint64_t word;
    memcpy(&word, text->text + text->count - sizeof word, sizeof word);
    return word;
}

static inline bool cell_same_text(const struct cell *a, const struct cell *b)
{
    if (((a->head ^ b->head) | (a->count ^ b->count)) != 0)
        return false;
    if (a->count <= 8)
        return true;
    return a->count <= 16 ? cell_last_word(a) == cell_last_word(b)
                          : memcmp(a->text, b->text, a->count) == 0;
}

/* A text that is one of the elements. */
static inline bool cell_text_is_among(const struct cell *array, const struct cell *text)
{
    for (uint32_t i = 0; i < array->count; i++)
        if (array->elements[i].type == TYPE_STRING && cell_same_text(&array->elements[i], text))
            return true;
    return false;
}
/* `divisor` is positive. */
bool cell_is_multiple(const struct cell *value, const struct cell *divisor);
bool cell_equal(const struct cell *a, const struct cell *b);
/* One of the elements. */
bool cell_is_among(const struct cell *array, const struct cell *value);
/* Allocates for long arrays only. */
bool cell_is_unique(const struct cell *array);
