#include "master/cli/commands.h"
#include "master/cli/options.h"
#include "master/config/config_load.h"
#include "master/config/keys.h"
#include "shared/base/json.h"

#include <stdio.h>

static int usage(void)
{
    fputs("usage: promptgate check [--config DIR] [--keys [--json]]\n", stderr);
    return 2;
}

static void print_keys(void)
{
    printf("%-11s %-28s %-10s %-24s %-26s %-8s %s\n", "SECTION", "KEY", "TYPE", "LIMITS", "DEFAULT",
           "RELOAD", "HELP");
    for (size_t i = 0; i < KEYS_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        const char *standard = key->required ? "(required)" : key_standard_shown(key);
        const char *limits = key_limits_shown(key);
        printf("%-11s %-28s %-10s %-24s %-26s %-8s %s\n", key_section_name(key->section), key->path,
               value_type_name(key->type), *limits ? limits : "-", *standard ? standard : "-",
               key->reloadable ? "yes" : "restart", key->help);
    }
}

static void member(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, ",\"%s\":", name);
    json_write_string_or_null(out, str_of(value));
}

static void print_keys_json(void)
{
    struct buf out = {0};
    for (size_t i = 0; i < KEYS_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        buf_puts(&out, i ? ",\n{\"section\":" : "[{\"section\":");
        json_write_string(&out, str_of(key_section_name(key->section)));
        member(&out, "key", key->path);
        member(&out, "type", value_type_name(key->type));
        member(&out, "limits", *key->limits ? key_limits_shown(key) : NULL);
        buf_printf(&out, ",\"required\":%s", key->required ? "true" : "false");
        member(&out, "default", key->standard ? key_standard_shown(key) : NULL);
        buf_printf(&out, ",\"reloadable\":%s", key->reloadable ? "true" : "false");
        member(&out, "help", key->help);
        buf_putc(&out, '}');
    }
    buf_puts(&out, "]\n");
    fwrite(out.data, 1, out.len, stdout);
    buf_free(&out);
}

static const char *plural(size_t count)
{
    return count == 1 ? "" : "s";
}

static void print_counts(const char *directory, const struct config *config, unsigned warnings)
{
    size_t endpoints = 0, credentials = 0;
    for (size_t i = 0; i < config->projects_count; i++)
        endpoints += config->projects[i].endpoints_count;
    for (size_t i = 0; i < config->credentials_count; i++)
        credentials += !config->credentials[i].built_in;
    printf("%s: ok (%zu project%s, %zu endpoint%s, %zu credential%s, %zu token%s)", directory,
           config->projects_count, plural(config->projects_count), endpoints, plural(endpoints),
           credentials, plural(credentials), config->tokens_count, plural(config->tokens_count));
    if (warnings)
        printf(", %u warning%s", warnings, plural(warnings));
    putchar('\n');
}

static int check(const char *directory)
{
    struct config_report report = {0};
    struct config *config = config_load_look(directory, &report);
    config_report_print(&report, stderr);
    int status = config ? 0 : 1;
    if (config)
        print_counts(directory, config, report.warnings);
    else
        fprintf(stderr, "%s: %u error%s, %u warning%s\n", directory, report.errors,
                plural(report.errors), report.warnings, plural(report.warnings));
    config_free(&config);
    config_report_free(&report);
    return status;
}

int cmd_check(int argc, char **argv)
{
    struct cli_options options;
    if (!cli_take_options(&argc, argv, &options))
        return usage();
    bool keys = cli_take_flag(&argc, argv, "--keys");
    if (argc > 1 || (options.json && !keys))
        return usage();
    if (!keys)
        return check(options.config);
    if (options.json)
        print_keys_json();
    else
        print_keys();
    return 0;
}
