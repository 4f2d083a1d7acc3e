#include "shared/members.h"

static const struct {
    struct str name;
    enum member_use use;
} members[] = {
#define MEMBER(name, use) {STR(#name), MEMBER_##use},
#include "shared/members.def"
#undef MEMBER
    {STR(""), MEMBER_PAYLOAD},
};

_Static_assert(MEMBER_NONE <= 64, "a set of members is a word");

enum member member_named(struct str name)
{
    for (int i = 0; i < MEMBER_NONE; i++)
        if (str_eq(members[i].name, name))
            return (enum member)i;
    return MEMBER_NONE;
}

const char *member_name(enum member member)
{
    return members[member].name.at;
}

enum member_use member_use(enum member member)
{
    return members[member].use;
}

uint64_t member_client_set(void)
{
    uint64_t set = 0;
    for (int i = 0; i < MEMBER_NONE; i++)
        if (members[i].use == MEMBER_CLIENT)
            set |= MEMBER_BIT(i);
    return set;
}
