#include "master/store/migrations.h"

#include <string.h>

static bool (*holds)(const void *context);
static const void *holds_context;

void migrations_hold_while(bool (*held)(const void *context), const void *context)
{
    holds = held;
    holds_context = context;
}

const struct migration *migrations_after(const char *driver, int number)
{
    for (size_t i = 0; i < migrations_count; i++)
        if (strcmp(migrations[i].driver, driver) == 0 && migrations[i].number > number)
            return &migrations[i];
    return NULL;
}

int migrations_newest(const char *driver)
{
    int newest = 0;
    const struct migration *step;
    while ((step = migrations_after(driver, newest)))
        newest = step->number;
    return newest;
}

enum schema_state migrations_look(const char *driver, int number, struct error *error)
{
    int newest = migrations_newest(driver);
    if (number > newest) {
        error_set(error,
                  "the store's schema is step %d, this program knows %d: a newer promptgate has "
                  "used it, run that one or a later one",
                  number, newest);
        return SCHEMA_TOO_NEW;
    }
    if (number == newest || !holds || !holds(holds_context))
        return SCHEMA_GOOD;
    error_set(error, "the store's schema is step %d: it is brought to %d when the upgrade is over",
              number, newest);
    return SCHEMA_HELD;
}
