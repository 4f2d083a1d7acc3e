/* The members of a request body that have a meaning (members.def). */
#pragma once

#include "shared/base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum member_use {
    MEMBER_PAYLOAD,
    MEMBER_CONTROL,
    MEMBER_CONVERSATION,
    MEMBER_CLIENT,
    MEMBER_PINNED
};

enum member {
#define MEMBER(name, use) MEMBER_##name,
#include "shared/members.def"
#undef MEMBER
    MEMBER_NONE,
};

/* Sets of members, a bit each. */
#define MEMBER_BIT(member) (UINT64_C(1) << (member))

/* MEMBER_NONE for what is not listed. */
enum member member_named(struct str name);
const char *member_name(enum member member);
/* MEMBER_PAYLOAD of MEMBER_NONE. */
enum member_use member_use(enum member member);
/* Those that clients may set where an endpoint does not say. */
uint64_t member_client_set(void);
