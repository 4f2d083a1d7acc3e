#include "master/privileges.h"
#include "test/unit/config_folder.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { NOBODY = 65534, STRANGER = 54321 };

/* Everything happens in a child, for no test can become root again. */
static int in_child(int (*run)(struct config_folder *), struct config_folder *folder)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(run(folder));
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

/* Leaves the child at the first promise that is broken; the line says which. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, strerror(errno));  \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static bool is_root(void)
{
    if (geteuid() == 0)
        return true;
    print_message("not tested: only root can become another user\n");
    return false;
}

static void write_service(struct config_folder *folder, const char *lines)
{
    char text[1024];
    snprintf(text, sizeof text, "state_dir: %s/state\nruntime_dir: %s/run\n%s", folder->path,
             folder->path, lines);
    folder_write(folder, "promptgate.yaml", text);
    folder_load(folder);
    assert_string_equal(folder_problems(folder), "");
    chmod(folder->path, 0755);
}

static bool make_directories(const struct config *config)
{
    struct error error;
    return privileges_make_directory(config, config->state_dir, &error) &&
           privileges_make_directory(config, config->runtime_dir, &error);
}

/* "CapEff" and its like out of /proc/self/status. */
static unsigned long long status_value(const char *name)
{
    char line[256];
    unsigned long long value = ~0ull;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
            value = strtoull(line + strlen(name) + 1, NULL, 16);
    if (status)
        fclose(status);
    return value;
}

static bool can_bind(in_port_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool bound = bind(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EADDRINUSE;
    close(fd);
    return bound;
}

static bool could_bind_low_ports(void)
{
    return status_value("CapPrm") >> 10 & 1;
}

static int becomes_the_user(struct config_folder *folder)
{
    struct error error = {""};
    gid_t group;
    bool low = could_bind_low_ports();
    CHECK(make_directories(folder->config));
    if (!privileges_take(folder->config, &error)) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    CHECK(getuid() == STRANGER && geteuid() == STRANGER);
    CHECK(getgid() == NOBODY && getegid() == NOBODY);
    CHECK(getgroups(1, &group) == 1 && group == NOBODY);
    CHECK(setuid(0) != 0);
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
    CHECK(status_value("CapEff") == (low ? 1u << 10 : 0));
    CHECK(status_value("CapPrm") == (low ? 1u << 10 : 0));
    CHECK(!low || can_bind(79));
    CHECK(access(folder->config->state_dir, W_OK) == 0);
    privileges_drop_in_child();
    CHECK(status_value("CapEff") == 0 && status_value("CapPrm") == 0);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
    return 0;
}

static void root_becomes_the_user_and_keeps_one_right(void **state)
{
    struct config_folder *folder = *state;
    struct stat status;
    if (!is_root())
        return;
    write_service(folder, "user: \"54321\"\ngroup: \"65534\"\n");
    assert_int_equal(in_child(becomes_the_user, folder), 0);
    assert_int_equal(stat(folder->config->state_dir, &status), 0);
    assert_int_equal(status.st_uid, STRANGER);
    assert_int_equal(status.st_gid, NOBODY);
    assert_int_equal(status.st_mode & 0777, 0750);
}

static int becomes_by_name(struct config_folder *folder)
{
    struct error error;
    CHECK(make_directories(folder->config));
    CHECK(privileges_take(folder->config, &error));
    CHECK(getuid() == NOBODY);
    CHECK(getegid() == getgrnam("nogroup")->gr_gid);
    return 0;
}

static void names_are_looked_up(void **state)
{
    struct config_folder *folder = *state;
    if (!is_root())
        return;
    write_service(folder, "user: nobody\n");
    assert_int_equal(in_child(becomes_by_name, folder), 0);
}

static int is_told_of_the_directory(struct config_folder *folder)
{
    struct error error;
    char expected[256];
    CHECK(make_directories(folder->config));
    CHECK(!privileges_take(folder->config, &error));
    snprintf(expected, sizeof expected,
             "54321 cannot work in state_dir: chown 54321 %s/state: Permission denied",
             folder->path);
    CHECK(strcmp(error.message, expected) == 0);
    return 0;
}

/* Root's directory from an earlier start stays root's, and that is told. */
static void a_directory_that_is_there_is_left_alone(void **state)
{
    struct config_folder *folder = *state;
    struct stat status;
    if (!is_root())
        return;
    write_service(folder, "user: \"54321\"\n");
    assert_int_equal(mkdir(folder->config->state_dir, 0750), 0);
    assert_int_equal(in_child(is_told_of_the_directory, folder), 0);
    assert_int_equal(stat(folder->config->state_dir, &status), 0);
    assert_int_equal(status.st_uid, 0);
}

static int stays_what_it_is(struct config_folder *folder)
{
    struct error error;
    uid_t uid = geteuid();
    if (uid == 0)
        CHECK(setresuid(STRANGER, STRANGER, STRANGER) == 0);
    uid = geteuid();
    CHECK(privileges_take(folder->config, &error));
    CHECK(geteuid() == uid);
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
    CHECK(!make_directories(folder->config) || access(folder->config->state_dir, W_OK) == 0);
    privileges_drop_in_child();
    CHECK(status_value("CapEff") == 0);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    return 0;
}

static void others_stay_what_they_are(void **state)
{
    struct config_folder *folder = *state;
    write_service(folder, "user: nobody\n");
    assert_int_equal(in_child(stays_what_it_is, folder), 0);
}

static int root_stays_root(struct config_folder *folder)
{
    struct error error;
    unsigned long long rights = status_value("CapEff");
    CHECK(make_directories(folder->config));
    CHECK(privileges_take(folder->config, &error));
    CHECK(geteuid() == 0 && status_value("CapEff") == rights);
    privileges_drop_in_child();
    CHECK(geteuid() == 0 && status_value("CapEff") == rights);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
    return 0;
}

static void without_a_user_root_stays_root(void **state)
{
    struct config_folder *folder = *state;
    if (!is_root())
        return;
    write_service(folder, "");
    assert_int_equal(in_child(root_stays_root, folder), 0);
}

/* Runs privileges_warn_unreadable as the user, and hands out what it said. */
static const char *said;

static int warns(struct config_folder *folder)
{
    struct error error;
    char path[128];
    CHECK(make_directories(folder->config));
    CHECK(privileges_take(folder->config, &error));
    snprintf(path, sizeof path, "%s/run/said", folder->path);
    CHECK(freopen(path, "w", stderr) != NULL);
    privileges_warn_unreadable(folder->path, folder->config);
    fflush(stderr);
    return 0;
}

static void look_what_was_said(struct config_folder *folder)
{
    assert_int_equal(in_child(warns, folder), 0);
    said = folder_read(folder, "run/said");
}

static void an_unreadable_configuration_is_told(void **state)
{
    struct config_folder *folder = *state;
    if (!is_root())
        return;
    folder_write(folder, "key", "sk-1");
    folder_write(folder, "credentials.d/main.yaml", "provider: openai\napi_key: file:key\n");
    write_service(folder, "user: \"54321\"\n");
    static const char *const names[] = {"credentials.d", "templates.d", "projects.d", "tokens.d"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        chmod(folder_path(folder, names[i]), 0755);
    chmod(folder_path(folder, "promptgate.yaml"), 0644);
    chmod(folder_path(folder, "credentials.d/main.yaml"), 0644);
    chmod(folder_path(folder, "key"), 0644);
    look_what_was_said(folder);
    assert_string_equal(said, "");
    chmod(folder_path(folder, "key"), 0600);
    look_what_was_said(folder);
    assert_non_null(strstr(said, "54321 cannot read the configuration, so a reload will fail: "));
    assert_non_null(strstr(said, "api_key: the file"));
    chmod(folder_path(folder, "promptgate.yaml"), 0600);
    look_what_was_said(folder);
    assert_non_null(strstr(said, "promptgate.yaml: cannot be read: Permission denied"));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, folder_setup, folder_teardown)
    const struct CMUnitTest tests[] = {
        TEST(root_becomes_the_user_and_keeps_one_right),
        TEST(names_are_looked_up),
        TEST(a_directory_that_is_there_is_left_alone),
        TEST(others_stay_what_they_are),
        TEST(without_a_user_root_stays_root),
        TEST(an_unreadable_configuration_is_told),
    };
    return cmocka_run_group_tests_name("privileges", tests, NULL, NULL);
}
