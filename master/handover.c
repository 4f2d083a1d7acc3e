#include "master/handover.h"

#include "shared/base/json.h"
#include "shared/base/xalloc.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

/* --- writing --- */

static void write_file(const char *name, const struct socket_file *file, struct buf *text)
{
    buf_printf(text, "\"%s\":{\"fd\":%d,\"device\":%lld,\"inode\":%lld,\"path\":", name, file->fd,
               (long long)file->device, (long long)file->inode);
    json_write_string(text, str_of(file->path));
    buf_putc(text, '}');
}

static void write_listener(const struct listener *listener, struct buf *text)
{
    buf_puts(text, "{\"text\":");
    json_write_string(text, str_of(listener->text));
    buf_puts(text, ",\"sockets\":[");
    for (unsigned i = 0; i < listener->count; i++)
        buf_printf(text, i ? ",%d" : "%d", listener->sockets[i]);
    buf_putc(text, ']');
    if (listener->address.any.sa_family == AF_UNIX) {
        buf_putc(text, ',');
        write_file("file", &listener->file, text);
    }
    buf_putc(text, '}');
}

void handover_write(const struct handover *handover, struct buf *text)
{
    buf_printf(text,
               "{\"version\":%d,\"layout\":%u,\"generation\":%lld,\"lock\":%d,\"counters\":%d,",
               HANDOVER_VERSION, handover->layout, (long long)handover->generation, handover->lock,
               handover->counters);
    write_file("control", &handover->control, text);
    buf_putc(text, ',');
    write_file("keeper", &handover->keeper, text);
    buf_puts(text, ",\"fixed\":");
    json_write_string(text, str_of(handover->fixed));
    buf_puts(text, ",\"listeners\":[");
    for (unsigned i = 0; i < handover->listeners.count; i++) {
        buf_puts(text, i ? "," : "");
        write_listener(&handover->listeners.at[i], text);
    }
    buf_puts(text, "],\"slots\":[");
    for (unsigned i = 0; i < handover->slots; i++)
        buf_printf(text, "%s[%d,%d,%s]", i ? "," : "", handover->log_pipes[i][0],
                   handover->log_pipes[i][1], handover->lent[i] ? "true" : "false");
    buf_puts(text, "]}");
}

/* --- reading --- */

static int64_t number(struct json_object *object, const char *name)
{
    return json_int_or(json_member(object, name, NULL), -1);
}

static bool take_descriptor(int64_t value, int *fd)
{
    *fd = value >= 0 && value <= INT_MAX ? (int)value : -1;
    return *fd >= 0;
}

static char *copy(struct str text)
{
    char *made = xcalloc(text.len + 1, 1);
    memcpy(made, text.at ? text.at : "", text.len);
    return made;
}

/* json_object_array_length of what may be none. */
static size_t length_of(struct json_object *list)
{
    return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

/* All 64 bits may be in use: what was above INT64_MAX is written as a negative number. */
static bool read_bits(struct json_object *object, const char *name, uint64_t *bits)
{
    struct json_object *value = json_member(object, name, NULL);
    *bits = (uint64_t)json_int_or(value, 0);
    return json_object_is_type(value, json_type_int);
}

static bool read_file(struct json_object *object, struct socket_file *file)
{
    struct str path = json_text(json_member(object, "path", NULL));
    uint64_t device, inode;
    *file = (struct socket_file){.fd = -1};
    if (!take_descriptor(number(object, "fd"), &file->fd) ||
        !read_bits(object, "device", &device) || !read_bits(object, "inode", &inode) || !path.at ||
        path.len >= sizeof file->path)
        return false;
    file->device = device;
    file->inode = inode;
    memcpy(file->path, path.at, path.len);
    return true;
}

static bool read_sockets(struct json_object *list, struct listener *listener)
{
    size_t count = length_of(list);
    listener->sockets = xcalloc(count + 1, sizeof *listener->sockets);
    listener->count = (unsigned)count;
    for (size_t i = 0; i < count; i++)
        if (!take_descriptor(json_int_or(json_object_array_get_idx(list, i), -1),
                             &listener->sockets[i]))
            return false;
    return count > 0;
}

static bool read_listener(struct json_object *object, struct listener *listener)
{
    struct str text = json_text(json_member(object, "text", NULL));
    socklen_t size = sizeof listener->address;
    if (!text.at || !read_sockets(json_member(object, "sockets", NULL), listener) ||
        getsockname(listener->sockets[0], &listener->address.any, &size) != 0)
        return false;
    listener->text = copy(text);
    return listener->address.any.sa_family != AF_UNIX ||
           read_file(json_member(object, "file", NULL), &listener->file);
}

static bool read_listeners(struct json_object *list, struct listeners *listeners)
{
    size_t count = length_of(list);
    listeners->at = xcalloc(count + 1, sizeof *listeners->at);
    for (size_t i = 0; i < count; i++) {
        struct listener *listener = &listeners->at[listeners->count++];
        if (!read_listener(json_object_array_get_idx(list, i), listener))
            return false;
        if (listener->address.any.sa_family != AF_UNIX && listener->count > listeners->sockets)
            listeners->sockets = listener->count;
    }
    return json_object_is_type(list, json_type_array);
}

static bool read_slot(struct json_object *slot, int log_pipe[2], bool *lent)
{
    if (length_of(slot) < 3)
        return false;
    for (size_t end = 0; end < 2; end++)
        if (!take_descriptor(json_int_or(json_object_array_get_idx(slot, end), -1), &log_pipe[end]))
            return false;
    struct json_object *said = json_object_array_get_idx(slot, 2);
    *lent = json_object_get_boolean(said);
    return json_object_is_type(said, json_type_boolean);
}

static bool read_slots(struct json_object *list, struct handover *handover)
{
    size_t count = length_of(list);
    handover->log_pipes = xcalloc(count + 1, sizeof *handover->log_pipes);
    handover->lent = xcalloc(count + 1, sizeof *handover->lent);
    handover->slots = (unsigned)count;
    for (size_t i = 0; i < count; i++)
        if (!read_slot(json_object_array_get_idx(list, i), handover->log_pipes[i],
                       &handover->lent[i]))
            return false;
    return count > 0;
}

static bool read_all(struct json_object *document, struct handover *handover)
{
    struct str fixed = json_text(json_member(document, "fixed", NULL));
    handover->generation = number(document, "generation");
    handover->fixed = copy(fixed);
    return fixed.at && handover->generation >= 0 &&
           take_descriptor(number(document, "lock"), &handover->lock) &&
           take_descriptor(number(document, "counters"), &handover->counters) &&
           read_file(json_member(document, "control", NULL), &handover->control) &&
           read_file(json_member(document, "keeper", NULL), &handover->keeper) &&
           read_listeners(json_member(document, "listeners", NULL), &handover->listeners) &&
           read_slots(json_member(document, "slots", NULL), handover);
}

/* Whether this binary can go on with what the other one has. */
static bool check(struct json_object *document, struct error *error)
{
    int64_t version = number(document, "version"), layout = number(document, "layout");
    if (version < 1)
        return error_set(error, "what was handed over has no version");
    if (version > HANDOVER_VERSION)
        return error_set(error,
                         "what is handed over has version %lld, and this binary reads up to %d: "
                         "restart needed",
                         (long long)version, HANDOVER_VERSION);
    if (layout != SHM_LAYOUT)
        return error_set(error,
                         "the shared memory has layout %lld, and this binary needs %d: restart "
                         "needed",
                         (long long)layout, SHM_LAYOUT);
    return true;
}

bool handover_read(struct str text, struct handover *handover, struct error *error)
{
    struct json_object *document;
    struct error why;
    *handover = (struct handover){.layout = SHM_LAYOUT};
    if (!json_read(text, &document, &why))
        return error_set(error, "what was handed over is no JSON: %.400s", why.message);
    bool good = check(document, error);
    if (good && !read_all(document, handover))
        good = error_set(error, "what was handed over is not whole");
    json_object_put(document);
    if (!good)
        handover_free(handover);
    return good;
}

void handover_free(struct handover *handover)
{
    for (unsigned i = 0; handover->listeners.at && i < handover->listeners.count; i++) {
        free(handover->listeners.at[i].sockets);
        free(handover->listeners.at[i].text);
    }
    free(handover->listeners.at);
    free(handover->log_pipes);
    free(handover->lent);
    free(handover->fixed);
    *handover = (struct handover){0};
}

/* --- exec --- */

static bool mark(int fd, bool closes)
{
    int flags = fcntl(fd, F_GETFD);
    return flags >= 0 && fcntl(fd, F_SETFD, closes ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC) == 0;
}

bool handover_mark(const struct handover *handover, bool closes)
{
    bool done = mark(handover->lock, closes) && mark(handover->counters, closes) &&
                mark(handover->control.fd, closes) && mark(handover->keeper.fd, closes);
    for (unsigned i = 0; i < handover->listeners.count; i++)
        for (unsigned j = 0; j < handover->listeners.at[i].count; j++)
            done = done && mark(handover->listeners.at[i].sockets[j], closes);
    for (unsigned i = 0; i < handover->slots; i++)
        done = done && mark(handover->log_pipes[i][0], closes) &&
               mark(handover->log_pipes[i][1], closes);
    return done;
}
