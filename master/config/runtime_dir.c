#include "master/config/runtime_dir.h"

#include "master/config/config_file.h"
#include "master/config/config_load.h"
#include "master/config/keys.h"

/* The value behind "runtime_dir:", without quotes and comment; absent when it isn't a path. */
static struct str value_of(struct str line)
{
    struct str value = line;
    str_split(&value, ':');
    value = str_trim(value);
    if (value.len > 0 && (value.at[0] == '"' || value.at[0] == '\'')) {
        struct str rest = {value.at + 1, value.len - 1};
        value = str_split(&rest, value.at[0]);
    } else {
        const char *comment = memmem(value.at, value.len, " #", 2);
        value.len = comment ? (size_t)(comment - value.at) : value.len;
        while (value.len > 0 && strchr(" \t\r", value.at[value.len - 1]))
            value.len--;
    }
    return value.len > 0 && value.at[0] == '/' ? value : STR_ABSENT;
}

static struct str find_line(struct str text)
{
    while (text.at) {
        struct str line = str_split(&text, '\n');
        if (str_starts(line, STR("runtime_dir:")))
            return value_of(line);
    }
    return STR_ABSENT;
}

static void search(const char *directory, struct buf *path)
{
    struct arena arena = {0};
    struct error error;
    struct str text, found = STR_ABSENT;
    const char *file = arena_printf(&arena, "%s/promptgate.yaml", directory);
    if (config_file_bytes(file, CONFIG_FILE_MAX_BYTES, &arena, &text, &error))
        found = find_line(text);
    buf_str(path, found.at ? found : str_of(config_keys[SERVICE_runtime_dir].standard));
    arena_free(&arena);
}

void config_find_runtime_dir(const char *directory, struct buf *path)
{
    struct config_report report = {0};
    struct config *config = config_load_service(directory, &report);
    buf_clear(path);
    if (config)
        buf_puts(path, config->runtime_dir);
    else
        search(directory, path);
    config_free(&config);
    config_report_free(&report);
}
