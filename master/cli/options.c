#include "master/cli/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void drop(int *argc, char **argv, int at, int count)
{
    memmove(argv + at, argv + at + count, (size_t)(*argc - at - count + 1) * sizeof *argv);
    *argc -= count;
}

static bool is_end(const char *argument)
{
    return strcmp(argument, "--") == 0;
}

bool cli_take_flag(int *argc, char **argv, const char *name)
{
    bool found = false;
    for (int i = 1; i < *argc && !is_end(argv[i]);) {
        if (strcmp(argv[i], name) != 0) {
            i++;
            continue;
        }
        drop(argc, argv, i, 1);
        found = true;
    }
    return found;
}

bool cli_take_value(int *argc, char **argv, const char *name, const char **value)
{
    size_t len = strlen(name);
    for (int i = 1; i < *argc && !is_end(argv[i]);) {
        bool joined = strncmp(argv[i], name, len) == 0 && argv[i][len] == '=';
        bool parted = strcmp(argv[i], name) == 0;
        if (!joined && !parted) {
            i++;
            continue;
        }
        const char *found = joined ? argv[i] + len + 1 : argv[i + 1];
        if (!found || !*found) {
            fprintf(stderr, "promptgate %s: %s needs a value\n", argv[0], name);
            return false;
        }
        *value = found;
        drop(argc, argv, i, joined ? 1 : 2);
    }
    return true;
}

bool cli_take_options(int *argc, char **argv, struct cli_options *options)
{
    const char *config = getenv("PROMPTGATE_CONFIG");
    if (!config || !*config)
        config = "/etc/promptgate";
    if (!cli_take_value(argc, argv, "--config", &config))
        return false;
    /* Messages put a slash behind it. The text may be the environment's: cut a copy. */
    static char directory[4096];
    size_t len = strlen(config);
    while (len > 1 && config[len - 1] == '/')
        len--;
    if (len >= sizeof directory) {
        fprintf(stderr, "promptgate %s: the configuration directory's name is too long\n", argv[0]);
        return false;
    }
    memcpy(directory, config, len);
    directory[len] = '\0';
    options->config = directory;
    options->json = cli_take_flag(argc, argv, "--json");
    return true;
}

bool cli_read_input(struct buf *out)
{
    enum { AT_ONCE = 65536 };
    ssize_t got;
    do {
        got = read(STDIN_FILENO, buf_reserve(out, AT_ONCE), AT_ONCE);
        out->len += got > 0 ? (size_t)got : 0;
    } while (got > 0);
    return got == 0;
}
