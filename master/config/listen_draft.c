/* Where clients connect: addresses, and the certificates of those that speak TLS. */
#include "master/config/drafts.h"
#include "master/config/secret.h"
#include "master/config/ticket_secret.h"
#include "shared/base/clock.h"
#include "shared/http/transport_tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CERTIFICATE_MAX_BYTES = 256 << 10 };

/* ---- addresses */

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

static bool read_address(struct reading *reading, struct service_draft *service,
                         const struct yaml_node *node, const char *path)
{
    struct config *config = &service->config;
    struct config_listen *listen = &config->listens[config->listens_count];
    if (yaml_node_class(node) != CLASS_STRING || node->kind != NODE_SCALAR ||
        !parse_address(node->text, listen)) {
        problem_error(reading->problems, service->section.file, node->mark, path,
                      "must be HOST:PORT with a numeric address, such as 0.0.0.0:8080 or "
                      "[::]:8080, or unix: and an absolute path of at most 107 bytes, not %s",
                      yaml_node_shown(node, reading->scratch, false));
        return false;
    }
    for (size_t i = 0; i < config->listens_count; i++)
        if (is_same(&config->listens[i], listen))
            problem_error(reading->problems, service->section.file, node->mark, path,
                          "%s is there twice: name each address once", node->text.at);
    listen->text = arena_copy(reading->lasting, node->text).at;
    config->listens_count++;
    return true;
}

/* ---- certificates */

static bool read_whole(int fd, char *bytes, size_t size, size_t *len)
{
    ssize_t got = 1;
    for (*len = 0; *len < size && got > 0; *len += got > 0 ? (size_t)got : 0)
        got = read(fd, bytes + *len, size - *len);
    return got >= 0;
}

/* A certificate is no secret: it stays in the configuration's own memory. */
static bool read_certificate(struct reading *reading, const char *path, struct str *pem,
                             struct error *error)
{
    char full[PATH_MAX];
    struct stat status;
    bool relative = path[0] != '/';
    snprintf(full, sizeof full, "%s%s%s", relative ? reading->directory : "", relative ? "/" : "",
             path);
    int fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    bool good = fd >= 0 && fstat(fd, &status) == 0;
    if (!good)
        error_errno(error, errno, "the file %.200s cannot be read", full);
    else if (!S_ISREG(status.st_mode) || status.st_size > CERTIFICATE_MAX_BYTES)
        good = error_set(error, "the file %.200s is not a regular file of at most %d KiB", full,
                         CERTIFICATE_MAX_BYTES >> 10);
    if (good) {
        char *bytes = arena_alloc(reading->lasting, (size_t)status.st_size + 1);
        size_t len;
        good = read_whole(fd, bytes, (size_t)status.st_size, &len) ||
               error_errno(error, errno, "the file %.200s cannot be read", full);
        *pem = (struct str){bytes, len};
    }
    if (fd >= 0)
        close(fd);
    return good;
}

static bool read_key(struct reading *reading, const char *path, struct str *pem,
                     struct error *error)
{
    bool plain;
    const char *text;
    const char *source = arena_printf(reading->scratch, "file:%s", path);
    if (!secret_open(source, SECRET_TEXT, reading->directory, reading->secrets, &text, &plain,
                     error))
        return false;
    *pem = str_of(text);
    return true;
}

static void warn_of_end(struct reading *reading, const struct section *section, int64_t end_wall_ms)
{
    enum { SOON_DAYS = 14 };
    int64_t days = (end_wall_ms - clock_wall_ms()) / 86400000;
    const char *path = section_key_path(reading, section, "cert");
    if (end_wall_ms <= clock_wall_ms())
        problem_warning(reading->problems, section->file, section->at[CERTIFICATE_cert]->mark, path,
                        "the certificate has expired");
    else if (days < SOON_DAYS)
        problem_warning(reading->problems, section->file, section->at[CERTIFICATE_cert]->mark, path,
                        "the certificate expires in %lld days", (long long)days);
}

static void read_pair(struct reading *reading, struct service_draft *service,
                      const struct yaml_node *node, const char *path, struct config_listen *listen)
{
    struct certificate_draft *draft = arena_alloc(reading->scratch, sizeof *draft);
    struct section *section = &draft->section;
    *section = (struct section){.id = SECTION_CERTIFICATE,
                                .file = service->section.file,
                                .path = path,
                                .mark = node->mark,
                                .node = node};
    if (!section_read(reading, section) || section->bad[CERTIFICATE_cert] ||
        section->bad[CERTIFICATE_key])
        return;
    struct config_pair pair;
    struct error error;
    int64_t end_wall_ms;
    if (!read_certificate(reading, draft->cert, &pair.certificate, &error)) {
        section_error(reading, section, CERTIFICATE_cert, "%s", error.message);
    } else if (!read_key(reading, draft->key, &pair.key, &error)) {
        section_error(reading, section, CERTIFICATE_key, "%s", error.message);
    } else if (!tls_pair_check(&(struct tls_pair){pair.certificate, pair.key}, &end_wall_ms,
                               &error)) {
        section_error(reading, section, CERTIFICATE_cert, "%s", error.message);
    } else {
        warn_of_end(reading, section, end_wall_ms);
        listen->pairs[listen->pairs_count++] = pair;
    }
}

static void read_pairs(struct reading *reading, struct service_draft *service,
                       struct listen_draft *draft, struct config_listen *listen)
{
    const struct yaml_node *list = draft->tls;
    struct section *section = &draft->section;
    if (!list || section->bad[LISTEN_tls] || !reading->secrets)
        return; /* who opens no secrets serves nobody */
    if (list->count == 0)
        section_error(reading, section, LISTEN_tls,
                      "must have a certificate at least; leave the key out for plain HTTP");
    if (listen->address.any.sa_family == AF_UNIX)
        section_error(reading, section, LISTEN_tls,
                      "is for TCP addresses: what comes by a UNIX socket has left no host");
    listen->pairs = arena_alloc(reading->lasting, (list->count + 1) * sizeof *listen->pairs);
    for (size_t i = 0; i < list->count; i++)
        read_pair(reading, service, list->entries[i].value,
                  arena_printf(reading->scratch, "%s.tls[%zu]", section->path, i), listen);
}

static void read_mapping(struct reading *reading, struct service_draft *service,
                         const struct yaml_node *node, const char *path)
{
    struct config *config = &service->config;
    struct listen_draft *draft = arena_alloc(reading->scratch, sizeof *draft);
    draft->section = (struct section){.id = SECTION_LISTEN,
                                      .file = service->section.file,
                                      .path = path,
                                      .mark = node->mark,
                                      .node = node};
    if (!section_read(reading, &draft->section) || draft->section.bad[LISTEN_address])
        return;
    if (read_address(reading, service, draft->section.at[LISTEN_address],
                     section_key_path(reading, &draft->section, "address")))
        read_pairs(reading, service, draft, &config->listens[config->listens_count - 1]);
}

static void read_one(struct reading *reading, struct service_draft *service,
                     const struct yaml_node *node, const char *path)
{
    if (node->kind == NODE_MAP)
        read_mapping(reading, service, node, path);
    else
        (void)read_address(reading, service, node, path);
}

void listen_read(struct reading *reading, struct service_draft *service)
{
    const struct yaml_node *node = service->listen;
    struct config *config = &service->config;
    bool list = node->kind == NODE_LIST;
    size_t count = list ? node->count : 1;
    config->listens = arena_alloc(reading->lasting, (count + 1) * sizeof *config->listens);
    if (count == 0)
        section_error(reading, &service->section, SERVICE_listen,
                      "must name at least one address, such as 0.0.0.0:8080");
    for (size_t i = 0; i < count; i++)
        read_one(reading, service, list ? node->entries[i].value : node, "listen");
    for (size_t i = 0; i < config->listens_count; i++)
        if (config->listens[i].pairs_count > 0)
            config->ticket_secret = ticket_secret_copy(reading->secrets);
}
