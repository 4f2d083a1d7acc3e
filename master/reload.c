#include "master/reload.h"

#include "master/config/config_fixed.h"
#include "master/config/config_load.h"
#include "shared/base/log.h"

void reload_init(struct reload *reload, const char *directory)
{
    *reload = (struct reload){.directory = directory};
}

static void let_go(struct reload *reload)
{
    config_source_free(&reload->source);
    trial_end(&reload->trial);
}

void reload_deinit(struct reload *reload)
{
    let_go(reload);
    buf_free(&reload->text);
}

uint64_t reload_ask(struct reload *reload)
{
    if (reload->under_way)
        log_info("a reload is under way; the next one follows it");
    return ++reload->asked;
}

static void answer(struct reload *reload, bool good)
{
    reload->answered = reload->taken;
    reload->under_way = false;
    reload->good = good;
    let_go(reload);
}

void reload_succeeded(struct reload *reload, int64_t generation)
{
    if (!reload->under_way)
        return;
    buf_clear(&reload->text);
    buf_printf(&reload->text, "generation %lld serves", (long long)generation);
    answer(reload, true);
}

/* Each line of a report is a line of the log. */
static void log_lines(struct str text)
{
    while (text.at) {
        struct str line = str_split(&text, '\n');
        if (line.len > 0)
            log_error("%.*s", STR_ARG(line));
    }
}

void reload_failed(struct reload *reload, const char *reason)
{
    log_lines(str_of(reason));
    log_error("the reload failed: nothing has changed");
    if (!reload->under_way)
        return;
    struct str copy = str_of(reason);
    buf_clear(&reload->text);
    buf_str(&reload->text, copy);
    answer(reload, false);
}

static bool try_source(void *context, FILE *report)
{
    struct config_report problems = {0};
    struct config *config = config_parse(context, &problems);
    config_report_print(&problems, report);
    return config != NULL;
}

static void begin(struct reload *reload)
{
    reload->under_way = true;
    reload->said_waiting = false;
    reload->taken = reload->asked;
    log_info("reading the configuration again");
    reload->source = config_source_fetch(reload->directory);
    if (!trial_begin(&reload->trial, try_source, reload->source))
        reload_failed(reload, "no process could be made to read the configuration");
}

static void fail_with_report(struct reload *reload)
{
    struct buf text = {0};
    trial_report(&reload->trial, &text);
    reload_failed(reload, buf_cstr(&text));
    buf_free(&text);
}

/* --- the master's turn --- */

static struct config *parse(struct reload *reload, const struct config *old)
{
    struct config_report report = {0};
    struct buf reason = {0};
    struct config *config = config_parse(reload->source, &report);
    /* Errors only here: a file with a key has gone since the child read it. */
    for (const struct config_problem *one = report.first; one; one = one->next)
        if (config)
            log_warning("%s", one->text);
        else
            buf_printf(&reason, "%s\n", one->text);
    config_report_free(&report);
    const char *fixed = config ? config_fixed_difference(old, config) : NULL;
    if (fixed) {
        buf_printf(&reason, "%s cannot change by reload: restart needed", fixed);
        config_free(&config);
    }
    if (!config)
        reload_failed(reload, buf_cstr(&reason));
    buf_free(&reason);
    return config;
}

static bool may_begin(struct reload *reload, bool room)
{
    if (reload->asked == reload->answered)
        return false;
    if (!room && !reload->said_waiting) {
        log_info("the reload waits: four generations are alive, one of them has to end first");
        reload->said_waiting = true;
    }
    return room;
}

struct config *reload_tend(struct reload *reload, const struct config *old, bool room)
{
    if (!reload->under_way) {
        if (may_begin(reload, room))
            begin(reload);
        return NULL;
    }
    if (trial_running(&reload->trial) || !reload->source)
        return NULL;
    if (reload->trial.failed) {
        fail_with_report(reload);
        return NULL;
    }
    struct config *config = parse(reload, old);
    let_go(reload);
    return config;
}
