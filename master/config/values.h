/* The types a configuration value can have, and how each is read from text. */
#pragma once

#include "shared/base/arena.h"
#include "shared/base/hash.h"
#include "shared/base/uuid.h"

#include <stdint.h>

/* VALUE_TYPE(ID, name, what a value must be, C type of the field it lands in) */
#define VALUE_TYPES                                                                                \
    VALUE_TYPE(TEXT, "text", "a text", const char *)                                               \
    VALUE_TYPE(SCALAR, "value", "a text, a number, true or false", const char *)                   \
    VALUE_TYPE(NAME, "name", "a name of lower-case letters, digits, - and _", const char *)        \
    VALUE_TYPE(PATH, "path", "an absolute path", const char *)                                     \
    VALUE_TYPE(URL, "url", "a URL such as https://host/path", const char *)                        \
    VALUE_TYPE(SECRET, "secret", "env:NAME, file:PATH or the key itself", const char *)            \
    VALUE_TYPE(BOOL, "bool", "true or false", bool)                                                \
    VALUE_TYPE(INT, "int", "a whole number", int64_t)                                              \
    VALUE_TYPE(COUNT, "count", "auto or a whole number", int64_t)                                  \
    VALUE_TYPE(NUMBER, "number", "a decimal number", double)                                       \
    VALUE_TYPE(PRICE, "price", "USD for a million tokens, with six decimals at most", int64_t)     \
    VALUE_TYPE(MONEY, "money", "USD, with nine decimals at most", int64_t)                         \
    VALUE_TYPE(SIZE, "size", "a size in bytes, or with KiB, MiB or GiB", int64_t)                  \
    VALUE_TYPE(DURATION, "duration", "a time with its unit: ms, s, m, h or d", int64_t)            \
    VALUE_TYPE(ENUM, "enum", "one of", int)                                                        \
    VALUE_TYPE(UUID, "uuid", "a UUID such as 0192f0c1-7e7a-7cc3-98c4-dc0c0c07398f", struct uuid)   \
    VALUE_TYPE(TIME, "time", "a time such as 2027-06-30T00:00:00Z", int64_t)                       \
    VALUE_TYPE(HASH, "hash", "sha256: and 64 hexadecimal digits", struct value_hash)               \
    VALUE_TYPE(LIST, "list", "a list", const struct yaml_node *)                                   \
    VALUE_TYPE(MAP, "map", "a mapping", const struct yaml_node *)                                  \
    VALUE_TYPE(ADDRESSES, "addresses",                                                             \
               "HOST:PORT, unix:/PATH, a mapping of address and tls, or a list of them",           \
               const struct yaml_node *)

enum value_type {
#define VALUE_TYPE(id, name, wanted, type) VALUE_##id,
    VALUE_TYPES
#undef VALUE_TYPE
};

struct value_hash {
    uint8_t bytes[SHA256_BYTES];
};

/* One member per C type above; times are Unix milliseconds, durations milliseconds, sizes bytes,
 * prices pico-USD for a token, money nano-USD. A COUNT of `auto` is 0. */
union value {
    const char *text;
    bool truth;
    int64_t number;
    double decimal;
    int choice;
    struct uuid uuid;
    struct value_hash hash;
};

const char *value_type_name(enum value_type type);
const char *value_type_wanted(enum value_type type);
/* Size of the field a value of this type lands in. */
size_t value_type_size(enum value_type type);

/* Reads the types from TEXT to HASH. `limits` is "LOW..HIGH" in the type's own notation, the
 * choices of an ENUM parted by "|", the length of a text, or "". The text must be NUL-terminated
 * and outlive the value. */
bool value_parse(enum value_type type, const char *limits, struct str text, union value *value)
    __attribute__((warn_unused_result));
bool value_parse_time(struct str text, int64_t *wall_ms) __attribute__((warn_unused_result));
/* "sqlite" of an ENUM's choices; NULL beyond the last. */
struct str value_choice(const char *limits, int choice);
