/* What a master hands to the binary that takes its place: there and back, as the first version has
 * it, and what is refused. */
#include "master/handover.h"

#include "shared/base/json.h"
#include "test/unit/scratch.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* Descriptors of the golden text; nothing else is open there. */
enum { FIRST = 200, TCP = FIRST + 4, LOCAL = TCP + 2, PIPES = LOCAL + 1, END = PIPES + 4 };

static struct world {
    char directory[SCRATCH_PATH];
    struct listener listeners[2];
    int tcp[2], local[1], pipes[2][2];
    bool lent[2];
    struct handover handover;
    struct buf text;
    struct error error;
} world;

static int tcp_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void move(int *fd, int to)
{
    assert_int_equal(dup3(*fd, to, O_CLOEXEC), to);
    close(*fd);
    *fd = to;
}

static void open_file(struct socket_file *file, const char *name, int type, int at)
{
    char path[SCRATCH_PATH];
    scratch_path(world.directory, name, path);
    assert_true(socket_file_open(file, path, type, 0600, &world.error));
    move(&file->fd, at);
}

static void open_listeners(void)
{
    struct listener *tcp = &world.listeners[0], *local = &world.listeners[1];
    for (int i = 0; i < 2; i++) {
        world.tcp[i] = tcp_socket();
        move(&world.tcp[i], TCP + i);
    }
    *tcp = (struct listener){.text = (char[]){""}, .sockets = world.tcp, .count = 2};
    tcp->address.any.sa_family = AF_INET;
    open_file(&local->file, "http", SOCK_STREAM, LOCAL);
    world.local[0] = local->file.fd;
    local->sockets = world.local;
    local->count = 1;
    local->address.any.sa_family = AF_UNIX;
}

static void open_pipes(void)
{
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe2(world.pipes[i], O_CLOEXEC), 0);
        for (int end = 0; end < 2; end++)
            move(&world.pipes[i][end], PIPES + 2 * i + end);
    }
    world.lent[1] = true;
}

static int set_up(void **state)
{
    (void)state;
    world = (struct world){0};
    if (!scratch_make(world.directory))
        return -1;
    struct handover *handover = &world.handover;
    *handover = (struct handover){.generation = 7, .layout = SHM_LAYOUT};
    handover->lock = tcp_socket(); /* what they are does not matter */
    handover->counters = tcp_socket();
    move(&handover->lock, FIRST);
    move(&handover->counters, FIRST + 1);
    open_file(&handover->control, "control", SOCK_STREAM, FIRST + 2);
    open_file(&handover->keeper, "keeper", SOCK_SEQPACKET, FIRST + 3);
    open_listeners();
    open_pipes();
    world.listeners[0].text = (char *)"127.0.0.1:8080";
    world.listeners[1].text = (char *)"unix:/run/promptgate/http";
    handover->listeners = (struct listeners){world.listeners, 2, 2};
    handover->log_pipes = world.pipes;
    handover->lent = world.lent;
    handover->slots = 2;
    handover->fixed = (char *)"timezone -\n";
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (int fd = FIRST; fd < END; fd++)
        close(fd);
    buf_free(&world.text);
    scratch_remove(world.directory);
    return 0;
}

static struct str written(void)
{
    buf_clear(&world.text);
    handover_write(&world.handover, &world.text);
    return buf_view(&world.text);
}

static void read_good(struct str text, struct handover *read)
{
    if (!handover_read(text, read, &world.error))
        fail_msg("%s", world.error.message);
}

static void assert_same_file(const struct socket_file *a, const struct socket_file *b)
{
    assert_int_equal(a->fd, b->fd);
    assert_int_equal(a->device, b->device);
    assert_int_equal(a->inode, b->inode);
    assert_string_equal(a->path, b->path);
}

static void assert_same_listener(const struct listener *a, const struct listener *b)
{
    assert_string_equal(a->text, b->text);
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->sockets, b->sockets, b->count * sizeof *b->sockets);
    assert_int_equal(a->address.any.sa_family, b->address.any.sa_family);
}

static void assert_same_slots(const struct handover *a, const struct handover *b)
{
    assert_int_equal(a->slots, b->slots);
    assert_memory_equal(a->log_pipes, b->log_pipes, b->slots * sizeof *b->log_pipes);
    for (unsigned i = 0; i < b->slots; i++)
        assert_int_equal(a->lent[i], b->lent[i]);
}

static void assert_same(const struct handover *a, const struct handover *b)
{
    assert_int_equal(a->generation, b->generation);
    assert_int_equal(a->layout, b->layout);
    assert_int_equal(a->lock, b->lock);
    assert_int_equal(a->counters, b->counters);
    assert_same_file(&a->control, &b->control);
    assert_same_file(&a->keeper, &b->keeper);
    assert_string_equal(a->fixed, b->fixed);
    assert_int_equal(a->listeners.count, b->listeners.count);
    assert_int_equal(a->listeners.sockets, b->listeners.sockets);
    for (unsigned i = 0; i < b->listeners.count; i++)
        assert_same_listener(&a->listeners.at[i], &b->listeners.at[i]);
    assert_same_slots(a, b);
}

static void there_and_back(void **state)
{
    (void)state;
    struct handover read;
    struct sockaddr_in bound;
    socklen_t size = sizeof bound;
    world.handover.generation = INT64_MAX;
    world.handover.fixed = (char *)"a \"quoted\" \\ line\nand\tanother\xC3\xBC\n";
    read_good(written(), &read);
    assert_same(&read, &world.handover);
    assert_same_file(&read.listeners.at[1].file, &world.listeners[1].file);
    getsockname(world.tcp[0], (struct sockaddr *)&bound, &size);
    assert_int_equal(read.listeners.at[0].address.v4.sin_port, bound.sin_port);
    assert_string_equal(read.listeners.at[1].address.local.sun_path, world.listeners[1].file.path);
    handover_free(&read);
    assert_null(read.fixed);
    handover_free(&read); /* once more does no harm */
}

/* A file system's numbers may take all 64 bits. */
static void large_numbers_of_files(void **state)
{
    (void)state;
    struct handover read;
    world.handover.control.inode = UINT64_MAX - 1;
    world.handover.keeper.inode = UINT64_MAX;
    read_good(written(), &read);
    assert_same(&read, &world.handover);
    handover_free(&read);
}

/* Who took the lists over leaves none. */
static void what_was_taken_is_not_freed(void **state)
{
    (void)state;
    struct handover read;
    read_good(written(), &read);
    int(*pipes)[2] = read.log_pipes;
    struct listeners listeners = read.listeners;
    read.log_pipes = NULL;
    read.listeners = (struct listeners){0};
    handover_free(&read);
    assert_int_equal(pipes[1][1], world.pipes[1][1]);
    free(pipes);
    read.listeners = listeners;
    handover_free(&read);
}

/* --- the first version --- */

#define VERSION_1                                                                                  \
    "{\"version\":1,\"layout\":%d,\"generation\":7,\"lock\":200,\"counters\":201,"                 \
    "\"control\":{\"fd\":202,\"device\":11,\"inode\":12,"                                          \
    "\"path\":\"/run/promptgate/control\"},"                                                       \
    "\"keeper\":{\"fd\":203,\"device\":11,\"inode\":13,\"path\":\"/run/promptgate/keeper\"},"      \
    "\"fixed\":\"timezone -\\n\",\"listeners\":["                                                  \
    "{\"text\":\"127.0.0.1:8080\",\"sockets\":[204,205]},"                                         \
    "{\"text\":\"unix:/run/promptgate/http\",\"sockets\":[206],\"file\":"                          \
    "{\"fd\":206,\"device\":11,\"inode\":14,\"path\":\"/run/promptgate/http\"}}],"                 \
    "\"slots\":[[207,208,false],[209,210,true]]}"

static const char *version_1(char text[1024])
{
    snprintf(text, 1024, VERSION_1, SHM_LAYOUT);
    return text;
}

static void name_file(struct socket_file *file, ino_t inode, const char *path)
{
    file->device = 11;
    file->inode = inode;
    snprintf(file->path, sizeof file->path, "%s", path);
}

/* A running gateway of that version says it like that. */
static void the_first_version(void **state)
{
    (void)state;
    char text[1024];
    struct handover read;
    name_file(&world.handover.control, 12, "/run/promptgate/control");
    name_file(&world.handover.keeper, 13, "/run/promptgate/keeper");
    name_file(&world.listeners[1].file, 14, "/run/promptgate/http");
    read_good(str_of(version_1(text)), &read);
    assert_same(&read, &world.handover);
    assert_same_file(&read.listeners.at[1].file, &world.listeners[1].file);
    handover_free(&read);
    assert_int_equal(HANDOVER_VERSION, 1); /* else the texts of both are to stand here */
    written();
    assert_string_equal(buf_cstr(&world.text), text);
}

/* --- other texts --- */

/* The first version's text with `to` in the place of `from`. */
static struct str changed(const char *from, const char *to)
{
    char text[1024];
    const char *found = strstr(version_1(text), from);
    if (!found)
        fail_msg("%s is not in the text", from);
    buf_clear(&world.text);
    buf_append(&world.text, text, (size_t)(found - text));
    buf_puts(&world.text, to);
    buf_puts(&world.text, found + strlen(from));
    return buf_view(&world.text);
}

static void expect_refused(struct str text, const char *reason)
{
    struct handover read;
    if (handover_read(text, &read, &world.error))
        fail_msg("taken: %.*s", STR_ARG(text));
    if (!strstr(world.error.message, reason))
        fail_msg("%s, not %s: %.*s", world.error.message, reason, STR_ARG(text));
    assert_null(read.fixed);
    assert_null(read.listeners.at);
    assert_null(read.log_pipes);
    assert_null(read.lent);
}

static void what_is_not_known_is_passed_over(void **state)
{
    (void)state;
    static const char *const changes[][2] = {
        {"{\"version\"", "{\"later\":{\"more\":[1,2]},\"version\""},
        {"{\"fd\":202", "{\"mode\":432,\"fd\":202"},
        {"{\"text\"", "{\"backlog\":null,\"text\""},
        {"[209,210,true]", "[209,210,true,211]"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct handover read;
        read_good(changed(changes[i][0], changes[i][1]), &read);
        assert_same_slots(&read, &world.handover);
        handover_free(&read);
    }
}

static void other_versions_need_a_restart(void **state)
{
    (void)state;
    char layout[32], other[32];
    expect_refused(changed("\"version\":1", "\"version\":2"), "version 2");
    expect_refused(changed("\"version\":1", "\"version\":2"), "restart needed");
    expect_refused(STR("{\"version\":3}"), "version 3, and this binary reads up to 1: restart");
    snprintf(layout, sizeof layout, "\"layout\":%d", SHM_LAYOUT);
    snprintf(other, sizeof other, "\"layout\":%d", SHM_LAYOUT + 1);
    expect_refused(changed(layout, other), "restart needed");
    snprintf(other, sizeof other, "\"layout\":%d", SHM_LAYOUT - 1);
    expect_refused(changed(layout, other), other + sizeof "\"layout\":" - 1);
    expect_refused(changed("\"version\":1", "\"version\":0"), "has no version");
    expect_refused(changed("\"version\":1", "\"version\":\"1\""), "has no version");
    expect_refused(changed("\"version\":1,", ""), "has no version");
}

static void what_is_no_such_text_is_refused(void **state)
{
    (void)state;
    char text[1024];
    size_t len = strlen(version_1(text));
    for (size_t cut = 0; cut < len; cut++)
        expect_refused((struct str){text, cut}, "is no JSON");
    expect_refused(STR("null"), "has no version");
    expect_refused(STR("[1]"), "has no version");
    expect_refused(STR("\"version\""), "has no version");
    expect_refused(STR("{}"), "has no version");
}

static struct json_object *parsed(const char *text)
{
    struct json_object *value;
    if (!json_read(str_of(text), &value, &world.error))
        fail_msg("%s", world.error.message);
    return value;
}

/* `document` with another value in the place of a member of `object`, which is in it, or none. */
static void expect_needed(struct json_object *document, struct json_object *object,
                          const char *name)
{
    static const char *const wrong[] = {NULL, "null", "true", "1.5"};
    struct json_object *right = json_object_get(json_member(object, name, NULL));
    assert_non_null(right);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_object_object_del(object, name);
        if (wrong[i])
            json_object_object_add(object, name, parsed(wrong[i]));
        buf_clear(&world.text);
        json_write(&world.text, document);
        expect_refused(buf_view(&world.text), "");
    }
    json_object_object_del(object, name);
    json_object_object_add(object, name, right);
}

static void expect_all_needed(struct json_object *document, struct json_object *object)
{
    const char *names[16];
    size_t count = 0;
    json_object_object_foreach(object, name, value)
    {
        (void)value;
        names[count] = strdup(name);
        count++;
    }
    assert_true(count >= 2);
    while (count-- > 0) {
        expect_needed(document, object, names[count]);
        free((char *)names[count]);
    }
}

static void every_member_is_needed(void **state)
{
    (void)state;
    char text[1024];
    struct handover read;
    struct json_object *document = parsed(version_1(text));
    struct json_object *listeners = json_member(document, "listeners", NULL);
    struct json_object *local = json_object_array_get_idx(listeners, 1);
    expect_all_needed(document, document);
    expect_all_needed(document, json_member(document, "control", NULL));
    expect_all_needed(document, json_member(document, "keeper", NULL));
    expect_all_needed(document, json_object_array_get_idx(listeners, 0));
    expect_all_needed(document, local);
    expect_all_needed(document, json_member(local, "file", NULL));
    buf_clear(&world.text);
    json_write(&world.text, document);
    json_object_put(document);
    read_good(buf_view(&world.text), &read); /* in another order, and whole */
    handover_free(&read);
}

static void wrong_values_are_refused(void **state)
{
    (void)state;
    static const char *const changes[][2] = {
        {"\"generation\":7", "\"generation\":-7"},
        {"\"lock\":200", "\"lock\":-1"},
        {"\"counters\":201", "\"counters\":2147483648"},
        {"\"fd\":202", "\"fd\":-2"},
        {"\"fd\":206", "\"fd\":\"206\""},
        {"[204,205]", "[]"},
        {"[204,205]", "[204,-1]"},
        {"[204,205]", "[204,null]"},
        {"[204,205]", "204"},
        {"[206]", "[999]"}, /* is not open */
        {"[[207", "[null,[207"},
        {"[207,208,false]", "[207,208]"},
        {"[207,208,false]", "[-207,208,false]"},
        {"[207,208,false]", "[207,\"208\",false]"},
        {"[207,208,false]", "[207,208,0]"},
        {"[207,208,false]", "[207,208,null]"},
        {"[209,210,true]", "{\"0\":209,\"1\":210,\"2\":true}"},
        {"[[207,208,false],[209,210,true]]", "[]"},
        {"[{\"text\"", "[7,{\"text\""},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        expect_refused(changed(changes[i][0], changes[i][1]), "is not whole");
}

static void paths_fit_or_are_refused(void **state)
{
    (void)state;
    enum { ROOM = sizeof(((struct socket_file *)0)->path) };
    char path[ROOM + 1];
    struct handover read;
    memset(path, 'x', ROOM);
    path[ROOM] = '\0';
    expect_refused(changed("/run/promptgate/control", path), "is not whole");
    path[ROOM - 1] = '\0';
    read_good(changed("/run/promptgate/control", path), &read);
    assert_string_equal(read.control.path, path);
    handover_free(&read);
}

/* --- exec --- */

static bool closes_at_exec(int fd)
{
    return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

static void all_go_through_exec_or_none(void **state)
{
    (void)state;
    assert_true(handover_mark(&world.handover, false));
    for (int fd = FIRST; fd < END; fd++)
        assert_false(closes_at_exec(fd));
    assert_true(handover_mark(&world.handover, true));
    for (int fd = FIRST; fd < END; fd++)
        assert_true(closes_at_exec(fd));
}

static void a_closed_descriptor_is_told(void **state)
{
    (void)state;
    for (int fd = FIRST; fd < END; fd++) {
        int spare = fcntl(fd, F_DUPFD_CLOEXEC, END);
        close(fd);
        assert_false(handover_mark(&world.handover, false));
        assert_false(handover_mark(&world.handover, true));
        assert_int_equal(dup3(spare, fd, O_CLOEXEC), fd);
        close(spare);
        assert_true(handover_mark(&world.handover, true));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(there_and_back),
        TEST(large_numbers_of_files),
        TEST(what_was_taken_is_not_freed),
        TEST(the_first_version),
        TEST(what_is_not_known_is_passed_over),
        TEST(other_versions_need_a_restart),
        TEST(what_is_no_such_text_is_refused),
        TEST(every_member_is_needed),
        TEST(wrong_values_are_refused),
        TEST(paths_fit_or_are_refused),
        TEST(all_go_through_exec_or_none),
        TEST(a_closed_descriptor_is_told),
    };
    return cmocka_run_group_tests_name("handover", tests, NULL, NULL);
}
