#include "master/token_changes.h"

#include "master/accounts_adopt.h"
#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <stdlib.h>

/* What was changed while a reload had read its files already. */
struct kept_source {
    struct token_source source;
    struct kept_source *next;
};

void token_changes_init(struct token_changes *changes, const char *directory)
{
    *changes = (struct token_changes){.directory = directory};
}

static void forget_kept(struct token_changes *changes)
{
    struct kept_source *next;
    for (struct kept_source *kept = changes->kept; kept; kept = next) {
        next = kept->next;
        token_source_free(&kept->source);
        free(kept);
    }
    changes->kept = NULL;
}

void token_changes_deinit(struct token_changes *changes)
{
    forget_kept(changes);
    trial_end(&changes->trial);
    token_source_free(&changes->source);
}

bool token_changes_ask(struct token_changes *changes, const char *name, uint64_t request)
{
    if (changes->count == CONTROL_CLIENTS_MAX || !config_name_valid(str_of(name)))
        return false;
    struct token_ask *ask = &changes->asked[changes->count++];
    *ask = (struct token_ask){.request = request};
    strncpy(ask->name, name, sizeof ask->name - 1);
    return true;
}

/* --- into the tables --- */

struct file_removal {
    const struct token_source *source;
    struct token_table *table;
};

static void drop_if_gone(void *context, const struct token_entry *entry)
{
    const struct file_removal *removal = context;
    if (token_is_of_file(token_name(entry), removal->source->name) &&
        !token_source_has(removal->source, entry->hash))
        token_table_drop(removal->table, entry->hash);
}

/* Whether the workers can count in the token's account, and the table has room. */
static bool put(const struct generation *generation, const struct config_token *token)
{
    return token->account < generation->accounts && token_table_put(generation->tokens, token);
}

static bool apply(const struct token_source *source, const struct generation *generation)
{
    struct file_removal removal = {source, generation->tokens};
    bool room = true;
    token_table_each(generation->tokens, drop_if_gone, &removal);
    for (size_t i = 0; i < source->count; i++)
        room = put(generation, &source->tokens[i]) && room;
    return room;
}

static bool adopt(struct token_source *source, struct counters *counters, int64_t generation)
{
    struct error error;
    if (accounts_adopt_tokens(source->tokens, source->count, counters, generation, &error))
        return true;
    log_error("%s", error.message);
    for (size_t i = 0; i < source->count; i++)
        source->tokens[i].account = ACCOUNT_NONE;
    return false;
}

static bool take_into(struct token_source *source, const struct generation *generation,
                      struct counters *counters)
{
    bool adopted = adopt(source, counters, generation->number);
    return apply(source, generation) && adopted;
}

bool token_changes_repeat(struct token_changes *changes, struct generation *generation,
                          struct counters *counters)
{
    bool room = true;
    /* The newest ones come first, and only the newest of each file counts. */
    for (struct kept_source *kept = changes->kept; kept; kept = kept->next) {
        bool is_newest = true;
        for (const struct kept_source *other = changes->kept; other != kept; other = other->next)
            is_newest = is_newest && strcmp(other->source.name, kept->source.name) != 0;
        if (is_newest)
            room = take_into(&kept->source, generation, counters) && room;
    }
    return room;
}

struct narrowing {
    struct token_table *table;
    const struct token_table *newest;
};

static void drop_if_unknown(void *context, const struct token_entry *entry)
{
    const struct narrowing *narrowing = context;
    if (!token_find(narrowing->newest, entry->hash))
        token_table_drop(narrowing->table, entry->hash);
}

void tokens_narrow(struct generation *older, const struct generation *newest)
{
    struct narrowing narrowing = {older->tokens, newest->tokens};
    token_table_each(older->tokens, drop_if_unknown, &narrowing);
}

/* --- one file at a time --- */

struct attempt {
    struct token_source *source;
    const struct generation *serving;
};

static bool try_source(void *context, FILE *report)
{
    struct config_report problems = {0};
    const struct attempt *attempt = context;
    bool good = token_source_parse(attempt->source, attempt->serving->config,
                                   attempt->serving->tokens, &problems);
    config_report_print(&problems, report);
    return good;
}

static bool begin(struct token_changes *changes, const struct token_scene *scene)
{
    struct attempt attempt = {&changes->source, scene->serving};
    changes->reading = true;
    token_source_fetch(&changes->source, changes->directory, changes->asked[0].name);
    return trial_begin(&changes->trial, try_source, &attempt);
}

static void keep(struct token_changes *changes)
{
    struct kept_source *kept = xcalloc(1, sizeof *kept);
    *kept = (struct kept_source){changes->source, changes->kept};
    changes->kept = kept;
    changes->source = (struct token_source){0};
}

/* An old generation that has no room does without: its connections end soon. */
static enum token_change_state take(struct token_changes *changes, const struct token_scene *scene,
                                    struct buf *text)
{
    struct token_source *source = &changes->source;
    int64_t newest = scene->generations[scene->count - 1]->number;
    bool room = adopt(source, scene->counters, newest);
    for (unsigned i = 0; i < scene->count; i++) {
        const struct generation *generation = scene->generations[i];
        if (!apply(source, generation) && generation->state < GENERATION_RETIRING)
            room = false;
    }
    log_info("tokens of %s: %zu in use", source->name, source->count);
    buf_printf(text, "tokens of %s: %zu in use", source->name, source->count);
    if (scene->reloading)
        keep(changes);
    return room ? TOKENS_TAKEN : TOKENS_NO_ROOM;
}

static enum token_change_state refuse(const struct token_changes *changes, struct buf *text)
{
    trial_report(&changes->trial, text);
    if (text->len == 0)
        buf_puts(text, "no process could be made to read the file");
    log_error("tokens of %s: the file is wrong, nothing has changed", changes->source.name);
    return TOKENS_REFUSED;
}

static enum token_change_state finish(struct token_changes *changes,
                                      const struct token_scene *scene, struct buf *text)
{
    struct config_report report = {0};
    if (changes->trial.failed)
        return refuse(changes, text);
    /* What another change did while the child was parsing is known to the master alone. */
    bool good = token_source_parse(&changes->source, scene->serving->config, scene->serving->tokens,
                                   &report);
    for (const struct config_problem *one = report.first; one && !good; one = one->next)
        buf_printf(text, "%s\n", one->text);
    config_report_free(&report);
    return good ? take(changes, scene, text) : refuse(changes, text);
}

enum token_change_state token_changes_tend(struct token_changes *changes,
                                           const struct token_scene *scene, uint64_t *request,
                                           struct buf *text)
{
    if (!scene->reloading)
        forget_kept(changes);
    if (changes->count == 0)
        return TOKENS_IDLE;
    if (!changes->reading && !begin(changes, scene))
        changes->trial.failed = true;
    if (trial_running(&changes->trial))
        return TOKENS_IDLE;
    enum token_change_state state = finish(changes, scene, text);
    *request = changes->asked[0].request;
    memmove(changes->asked, changes->asked + 1, --changes->count * sizeof *changes->asked);
    trial_end(&changes->trial);
    token_source_free(&changes->source);
    changes->reading = false;
    return state;
}
