/* A configuration directory of a test: made, filled, loaded, removed. */
#pragma once

#include "master/config/config_load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define HASH_OF(digit)                                                                             \
    "sha256:" digit digit digit digit digit digit digit digit digit digit digit digit digit digit  \
        digit digit
/* Sixteen times four digits. */
#define HASH_1 HASH_OF("1111")
#define HASH_2 HASH_OF("2222")
#define HASH_3 HASH_OF("3333")
#define UUID_1 "0192f0c1-7e7a-7cc3-98c4-dc0c0c073981"
#define UUID_2 "0192f0c1-7e7a-7cc3-98c4-dc0c0c073982"

struct config_folder {
    char path[64];
    struct config *config;
    struct config_report report;
};

static inline const char *folder_path(const struct config_folder *folder, const char *name)
{
    static char path[4][256];
    static unsigned turn;
    char *full = path[turn++ % 4];
    snprintf(full, sizeof path[0], "%s/%s", folder->path, name);
    return full;
}

static inline int folder_setup(void **state)
{
    struct config_folder *folder = calloc(1, sizeof *folder);
    strcpy(folder->path, "/tmp/promptgate-test-XXXXXX");
    if (!mkdtemp(folder->path))
        return -1;
    mkdir(folder_path(folder, "credentials.d"), 0750);
    mkdir(folder_path(folder, "templates.d"), 0750);
    mkdir(folder_path(folder, "projects.d"), 0750);
    mkdir(folder_path(folder, "tokens.d"), 0750);
    *state = folder;
    return 0;
}

static inline const struct config_token *folder_token(const struct config_folder *folder,
                                                      const uint8_t hash[SHA256_BYTES])
{
    for (size_t i = 0; i < folder->config->tokens_count; i++)
        if (memcmp(folder->config->tokens[i].hash, hash, SHA256_BYTES) == 0)
            return &folder->config->tokens[i];
    return NULL;
}

static inline void folder_forget(struct config_folder *folder)
{
    config_free(&folder->config);
    config_report_free(&folder->report);
}

static inline int folder_teardown(void **state)
{
    struct config_folder *folder = *state;
    char command[128];
    folder_forget(folder);
    snprintf(command, sizeof command, "rm -rf %s", folder->path);
    int status = system(command);
    free(folder);
    return status;
}

static inline void folder_bytes(const struct config_folder *folder, const char *name,
                                const char *text, size_t len)
{
    FILE *file = fopen(folder_path(folder, name), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    fclose(file);
}

static inline void folder_write(const struct config_folder *folder, const char *name,
                                const char *text)
{
    folder_bytes(folder, name, text, strlen(text));
}

static inline char *folder_read(const struct config_folder *folder, const char *name)
{
    static char text[65536];
    FILE *file = fopen(folder_path(folder, name), "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static inline void folder_load(struct config_folder *folder)
{
    folder_forget(folder);
    folder->config = config_load(folder->path, &folder->report);
    assert_true((folder->config == NULL) == (folder->report.errors > 0));
}

/* The problems, one a line, without the directory's name. */
static inline const char *folder_problems(const struct config_folder *folder)
{
    static char text[65536];
    size_t len = 0, skip = strlen(folder->path) + 1;
    text[0] = '\0';
    for (const struct config_problem *p = folder->report.first; p; p = p->next)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s\n",
                                strncmp(p->text, folder->path, skip - 1) == 0 ? p->text + skip
                                                                              : p->text);
    return text;
}

static inline void folder_expect(struct config_folder *folder, const char *problems)
{
    folder_load(folder);
    assert_string_equal(folder_problems(folder), problems);
}

static inline void folder_expect_ok(struct config_folder *folder)
{
    folder_expect(folder, "");
    assert_non_null(folder->config);
}
