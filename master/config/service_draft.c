#include "master/account.h"
#include "master/config/drafts.h"
#include "master/config/secret.h"
#include "master/config/zone.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <unistd.h>

static int64_t processors(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count > 256 ? 256 : count > 0 ? count : 1;
}

static bool parse_port(struct str text, in_port_t *port)
{
    unsigned long long number;
    if (text.len > 5 || !str_to_u64(text, &number) || number > 65535)
        return false;
    *port = htons((uint16_t)number);
    return true;
}

static bool parse_v6(struct str text, struct sockaddr_in6 *address)
{
    char host[INET6_ADDRSTRLEN];
    const char *close = memchr(text.at, ']', text.len);
    size_t len = close ? (size_t)(close - text.at) - 1 : 0;
    if (len == 0 || len >= sizeof host || len + 3 > text.len || close[1] != ':')
        return false;
    memcpy(host, text.at + 1, len);
    host[len] = '\0';
    address->sin6_family = AF_INET6;
    return inet_pton(AF_INET6, host, &address->sin6_addr) == 1 &&
           parse_port((struct str){close + 2, text.len - len - 3}, &address->sin6_port);
}

static bool parse_v4(struct str text, struct sockaddr_in *address)
{
    char host[INET_ADDRSTRLEN];
    struct str rest = text, name = str_split(&rest, ':');
    if (name.len >= sizeof host || !rest.at)
        return false;
    memcpy(host, name.at, name.len);
    host[name.len] = '\0';
    address->sin_family = AF_INET;
    return inet_pton(AF_INET, host, &address->sin_addr) == 1 &&
           parse_port(rest, &address->sin_port);
}

/* A path that a socket can have (unix(7)), without a control character. */
static bool parse_local(struct str path, struct sockaddr_un *address)
{
    if (path.len < 2 || path.at[0] != '/' || path.at[path.len - 1] == '/' ||
        path.len >= sizeof address->sun_path)
        return false;
    for (size_t i = 0; i < path.len; i++)
        if ((unsigned char)path.at[i] < 0x20 || path.at[i] == 0x7F)
            return false;
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path.at, path.len);
    address->sun_path[path.len] = '\0';
    return true;
}

static bool parse_address(struct str text, struct config_listen *listen)
{
    struct str scheme = STR("unix:");
    if (str_starts(text, scheme))
        return parse_local((struct str){text.at + scheme.len, text.len - scheme.len},
                           &listen->address.local);
    if (text.len > 0 && text.at[0] == '[')
        return parse_v6(text, &listen->address.v6);
    return parse_v4(text, &listen->address.v4);
}

/* Port 0 is another one each time. */
static bool is_same(const struct config_listen *a, const struct config_listen *b)
{
    if (a->address.any.sa_family != b->address.any.sa_family)
        return false;
    if (a->address.any.sa_family == AF_UNIX)
        return strcmp(a->address.local.sun_path, b->address.local.sun_path) == 0;
    if (a->address.any.sa_family == AF_INET)
        return a->address.v4.sin_port != 0 && a->address.v4.sin_port == b->address.v4.sin_port &&
               a->address.v4.sin_addr.s_addr == b->address.v4.sin_addr.s_addr;
    return a->address.v6.sin6_port != 0 && a->address.v6.sin6_port == b->address.v6.sin6_port &&
           memcmp(&a->address.v6.sin6_addr, &b->address.v6.sin6_addr, 16) == 0;
}

static void read_address(struct reading *reading, struct service_draft *service,
                         const struct yaml_node *node)
{
    struct config *config = &service->config;
    struct config_listen *listen = &config->listens[config->listens_count];
    if (yaml_node_class(node) != CLASS_STRING || node->kind != NODE_SCALAR ||
        !parse_address(node->text, listen)) {
        problem_error(reading->problems, service->section.file, node->mark, "listen",
                      "must be HOST:PORT with a numeric address, such as 0.0.0.0:8080 or "
                      "[::]:8080, or unix: and an absolute path of at most 107 bytes, not %s",
                      yaml_node_shown(node, reading->scratch, false));
        return;
    }
    for (size_t i = 0; i < config->listens_count; i++)
        if (is_same(&config->listens[i], listen))
            problem_error(reading->problems, service->section.file, node->mark, "listen",
                          "%s is there twice: name each address once", node->text.at);
    listen->text = arena_copy(reading->lasting, node->text).at;
    config->listens_count++;
}

static void read_listen(struct reading *reading, struct service_draft *service)
{
    const struct yaml_node *node = service->listen;
    size_t count = node->kind == NODE_LIST ? node->count : 1;
    service->config.listens =
        arena_alloc(reading->lasting, (count + 1) * sizeof *service->config.listens);
    if (count == 0)
        section_error(reading, &service->section, SERVICE_listen,
                      "must name at least one address, such as 0.0.0.0:8080");
    if (node->kind != NODE_LIST)
        read_address(reading, service, node);
    for (size_t i = 0; node->kind == NODE_LIST && i < count; i++)
        read_address(reading, service, node->entries[i].value);
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
    if (!service->section.bad[SERVICE_timezone] &&
        !zone_months(config->timezone, reading->lasting, &config->store.months, &error))
        section_error(reading, &service->section, SERVICE_timezone, "%s", error.message);
}

void service_draft_read(struct reading *reading, const struct config_file *file,
                        struct service_draft *service)
{
    service->section = (struct section){
        .id = SECTION_SERVICE, .file = file, .path = "", .mark = {1, 1}, .node = file->root};
    section_read(reading, &service->section);
    struct config *config = &service->config;
    read_listen(reading, service);
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
    if (!config->store.path)
        config->store.path = arena_printf(reading->lasting, "%s/promptgate.db", config->state_dir);
    config->log_bodies = (enum log_bodies)service->log_bodies;
    config->log_level = (enum log_level)service->log_level;
    config->log_format = (enum log_format)service->log_format;
}
