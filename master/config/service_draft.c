#include "master/account.h"
#include "master/config/drafts.h"
#include "master/config/secret.h"
#include "master/config/zone.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>

static int64_t processors(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count > 256 ? 256 : count > 0 ? count : 1;
}

static void read_trusted_proxies(struct reading *reading, struct service_draft *service)
{
    const struct yaml_node *node = service->trusted_proxies;
    struct config_http *http = &service->config.http;
    size_t count = node ? node->count : 0;
    struct ip_network *networks =
        count > 0 ? arena_alloc(reading->lasting, count * sizeof *networks) : NULL;
    http->trusted_proxies = networks;
    for (size_t i = 0; i < count; i++) {
        const struct yaml_node *one = node->entries[i].value;
        bool is_text = one->kind == NODE_SCALAR;
        if (is_text && str_eq(one->text, STR("unix")))
            http->trusts_local = true;
        else if (is_text && ip_network_parse(one->text, &networks[http->trusted_proxies_count]))
            http->trusted_proxies_count++;
        else
            problem_error(reading->problems, service->section.file, one->mark,
                          "http.trusted_proxies",
                          "must be networks such as 10.0.0.0/8 or ::1, whose bits behind the "
                          "prefix are 0, or unix; not %s",
                          yaml_node_shown(one, reading->scratch, false));
    }
}

static void check_ca_file(struct reading *reading, struct service_draft *service)
{
    const char *path = service->config.upstream.ca_file;
    if (path && access(path, R_OK) != 0)
        section_error(reading, &service->section, SERVICE_upstream_ca_file,
                      "the file %s cannot be read: %s", path, strerror(errno));
}

static void check_account(struct reading *reading, struct service_draft *service)
{
    struct section *section = &service->section;
    const struct config *config = &service->config;
    struct account account;
    struct error error;
    if (section->bad[SERVICE_user] || section->bad[SERVICE_group])
        return;
    if (config->group && !config->user)
        section_error(reading, section, SERVICE_group, "needs user: name both, or neither");
    else if (config->user && !account_find(config->user, NULL, &account, &error))
        section_error(reading, section, SERVICE_user, "%s", error.message);
    else if (config->group && !account_find(config->user, config->group, &account, &error))
        section_error(reading, section, SERVICE_group, "%s", error.message);
}

/* "password=" of KEY=VALUE words and of a URL's query, or NAME:PASSWORD@ of a URL. */
static bool holds_password(const char *dsn)
{
    const char *scheme = strstr(dsn, "://"), *at = scheme ? strchr(scheme + 3, '@') : NULL;
    return strstr(dsn, "password") || (at && memchr(scheme + 3, ':', (size_t)(at - scheme) - 3));
}

static void read_dsn(struct reading *reading, struct service_draft *service)
{
    struct section *section = &service->section;
    struct error error;
    bool plain = false;
    const char *source = service->config.store.dsn;
    service->config.store.dsn = NULL;
    if (section->bad[SERVICE_store_dsn] || section->bad[SERVICE_store_driver])
        return;
    if (!source) {
        if (strcmp(service->config.store.driver, "postgres") == 0)
            section_error(reading, section, SERVICE_store_dsn,
                          "missing: the driver postgres needs it, as file:PATH, env:NAME or "
                          "host=… dbname=… user=…");
    } else if (!secret_open(source, SECRET_LINE, reading->directory, reading->store_secrets,
                            &service->config.store.dsn, &plain, &error)) {
        section_error(reading, section, SERVICE_store_dsn, "%s", error.message);
    } else if (plain && holds_password(source)) {
        problem_warning(reading->problems, section->file, section->at[SERVICE_store_dsn]->mark,
                        "store.dsn",
                        "the password itself stands in this file and in every process's memory: "
                        "better file:PATH or env:NAME");
    }
}

static void read_zone(struct reading *reading, struct service_draft *service)
{
    struct config *config = &service->config;
    struct error error;
    struct zone zone = {0};
    if (!service->section.bad[SERVICE_timezone] &&
        !zone_read(config->timezone, reading->lasting, &zone, &error))
        section_error(reading, &service->section, SERVICE_timezone, "%s", error.message);
    config->store.months = zone.months;
    config->offsets = zone.offsets;
}

void service_draft_read(struct reading *reading, const struct config_file *file,
                        struct service_draft *service)
{
    service->section = (struct section){
        .id = SECTION_SERVICE, .file = file, .path = "", .mark = {1, 1}, .node = file->root};
    section_read(reading, &service->section);
    struct config *config = &service->config;
    listen_read(reading, service);
    read_trusted_proxies(reading, service);
    check_ca_file(reading, service);
    check_account(reading, service);
    read_zone(reading, service);
    if (config->workers == 0)
        config->workers = processors();
    config->store.driver =
        arena_copy(reading->lasting,
                   value_choice(config_keys[SERVICE_store_driver].limits, service->store_driver))
            .at;
    read_dsn(reading, service);
    if (!config->sessions_path)
        config->sessions_path = arena_printf(reading->lasting, "%s/sessions.db", config->state_dir);
    if (!config->store.path)
        config->store.path = arena_printf(reading->lasting, "%s/promptgate.db", config->state_dir);
    config->log_bodies = (enum log_bodies)service->log_bodies;
    config->log_level = (enum log_level)service->log_level;
    config->log_format = (enum log_format)service->log_format;
}
