/* Runs a fuzz target over the files of the folders given, without a fuzzer: each input that ever
 * made trouble is tried again by every build. */
#include "shared/base/buf.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool read_file(const char *path, struct buf *content)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    size_t got;
    do {
        got = fread(buf_reserve(content, 65536), 1, 65536, file);
        content->len += got;
    } while (got > 0);
    bool ok = !ferror(file);
    fclose(file);
    return ok;
}

/* The input gets memory of exactly its size, so that a sanitizer sees the first byte beyond. */
static bool replay_file(const char *path)
{
    struct buf content = {0};
    if (!read_file(path, &content)) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        buf_free(&content);
        return false;
    }
    uint8_t *exact = malloc(content.len);
    if (content.len && !exact)
        abort();
    if (content.len)
        memcpy(exact, content.data, content.len);
    LLVMFuzzerTestOneInput(exact, content.len);
    free(exact);
    buf_free(&content);
    return true;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* How many inputs the folder has, or -1. */
static int replay_folder(const char *folder)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, is_visible, alphasort);
    bool ok = count >= 0;
    if (!ok)
        perror(folder);
    for (int i = 0; i < count; i++) {
        struct buf path = {0};
        buf_printf(&path, "%s/%s", folder, entries[i]->d_name);
        ok = replay_file(buf_cstr(&path)) && ok;
        buf_free(&path);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return ok ? count : -1;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        int count = replay_folder(argv[i]);
        if (count <= 0) {
            fprintf(stderr, "%s: no input replayed from %s\n", argv[0], argv[i]);
            return 1;
        }
        printf("%s: %d inputs\n", argv[i], count);
    }
    return argc > 1 ? 0 : 1;
}
