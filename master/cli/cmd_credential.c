#include "master/cli/commands.h"
#include "master/cli/options.h"
#include "master/cli/table.h"
#include "master/cli/terminal.h"
#include "master/cli/view.h"
#include "master/config/base_url.h"
#include "master/config/file_write.h"
#include "master/config/key_pair.h"
#include "master/config/secret.h"
#include "master/config/yaml_edit.h"
#include "shared/base/json.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

static int usage(void)
{
    fputs("usage: promptgate credential add NAME --provider PROVIDER [--base-url URL] "
          "[--allow-http]\n"
          "                                  [--config DIR]\n"
          "       promptgate credential add NAME --replace [--config DIR]\n"
          "       promptgate credential list [--json] [--config DIR]\n"
          "       promptgate credential rm NAME [--force] [--config DIR]\n"
          "       promptgate credential init [--config DIR]\n"
          "       promptgate credential reseal [--config DIR]\n"
          "The key is read from the terminal, without being shown, or from standard input.\n",
          stderr);
    return 2;
}

static int fail(const char *message)
{
    fprintf(stderr, "promptgate credential: %s\n", message);
    return 1;
}

static const struct config_file *find(const struct config_files *files, const char *name)
{
    for (size_t i = 0; i < files->count; i++)
        if (strcmp(files->at[i].name, name) == 0)
            return &files->at[i];
    return NULL;
}

/* A scalar of a credential; "" when there is none. */
static const char *text_of(const struct config_file *file, const char *key)
{
    const struct yaml_node *node = file->root ? yaml_node_get(file->root, key) : NULL;
    return node && node->kind == NODE_SCALAR && !yaml_node_is_null(node) ? node->text.at : "";
}

static bool take_name(int *argc, char **argv, const char **name)
{
    if (*argc != 2 || argv[1][0] == '-')
        return false;
    *name = argv[1];
    return true;
}

/* --- add --- */

struct addition {
    const char *directory, *name, *provider, *base_url;
    bool allow_http, replace, needs_key;
    char path[PATH_MAX];
    struct sealing_public public_key;
    char *secret; /* SECRET_MAX_BYTES + 1 of guarded memory */
};

static bool check_provider(struct addition *addition)
{
    for (enum provider_id id = 0; id < PROVIDER_COUNT; id++)
        if (strcmp(provider_name(id), addition->provider) == 0) {
            addition->needs_key = provider_needs_key(id);
            return true;
        }
    fprintf(stderr, "promptgate credential: there is no provider \"%s\":", addition->provider);
    for (enum provider_id id = 0; id < PROVIDER_COUNT; id++)
        fprintf(stderr, "%s %s", id ? "," : "", provider_name(id));
    fputs(" are known\n", stderr);
    return false;
}

static bool check_url(const struct addition *addition)
{
    struct error error;
    struct str kept;
    if (!addition->base_url ||
        base_url_check(str_of(addition->base_url), addition->allow_http, &kept, &error))
        return true;
    fprintf(stderr, "promptgate credential: --base-url %s\n", error.message);
    return false;
}

static bool ask_key(struct addition *addition)
{
    char prompt[256];
    struct error error;
    snprintf(prompt, sizeof prompt, "Key for %s (it is not shown%s): ", addition->name,
             addition->needs_key ? "" : "; none is needed");
    if (!cli_ask_secret(prompt, addition->secret, SECRET_MAX_BYTES + 1, &error)) {
        fprintf(stderr, "promptgate credential: the key: %s\n", error.message);
        return false;
    }
    if (!*addition->secret && !addition->needs_key)
        return true;
    if (!secret_check(addition->secret, SECRET_KEY, &error)) {
        fail(error.message);
        return false;
    }
    return true;
}

static void write_text(const struct addition *addition, const char *sealed, struct buf *text)
{
    buf_printf(text, "provider: %s\n", addition->provider);
    if (addition->base_url) {
        buf_puts(text, "base_url: ");
        json_write_string(text, str_of(addition->base_url)); /* a JSON string is one of YAML, too */
        buf_putc(text, '\n');
    }
    if (addition->allow_http)
        buf_puts(text, "allow_http: true\n");
    if (*sealed)
        buf_printf(text, "api_key: %s\n", sealed);
}

static bool add_file(const struct addition *addition, const char *sealed, struct error *error)
{
    struct buf text = {0};
    bool exists = false;
    write_text(addition, sealed, &text);
    bool good = folder_make(addition->directory, "credentials.d", error) &&
                file_create(addition->path, buf_view(&text), FILE_OF_GROUP, &exists, error);
    buf_free(&text);
    if (exists)
        error_set(error, "there is %.300s already: --replace changes its key", addition->path);
    return good;
}

static bool replace_key(const struct addition *addition, const struct config_file *file,
                        const char *sealed, struct error *error)
{
    struct buf text = {0};
    struct yaml_edit edit = {file->root, "api_key", sealed};
    bool good = (file->root && file->root->kind == NODE_MAP && file->root->count > 0 &&
                 yaml_edit(file->text, file->root, &edit, 1, &text)) ||
                error_set(error,
                          "%.300s cannot be edited safely: write api_key there as one plain value, "
                          "without anchors and aliases",
                          addition->path);
    good = good && file_replace(addition->path, buf_view(&text), error);
    buf_free(&text);
    return good;
}

static bool store_key(struct addition *addition, const struct config_file *file)
{
    struct buf sealed = {0};
    struct error error;
    if (*addition->secret)
        sealed_write(&addition->public_key, str_of(addition->secret), &sealed);
    bool good = file ? replace_key(addition, file, buf_cstr(&sealed), &error)
                     : add_file(addition, buf_cstr(&sealed), &error);
    buf_free(&sealed);
    if (!good) {
        fail(error.message);
        return false;
    }
    fprintf(stderr,
            "Credential %s is in %s%s. A running gateway knows it after `promptgate reload`.\n",
            addition->name, addition->path, *addition->secret ? ", its key sealed" : "");
    return true;
}

/* Nobody else is kept waiting while the key is typed; what was there before may be another by then.
 */
static bool add_locked(struct addition *addition)
{
    struct error error;
    struct cli_view view;
    int lock = key_pair_lock(addition->directory, &error);
    bool good = lock >= 0 && key_pair_public(addition->directory, &addition->public_key, &error);
    if (!good)
        fail(error.message);
    cli_view_open(&view, addition->directory);
    struct config_files files = cli_view_folder(&view, "credentials.d");
    const struct config_file *file = find(&files, addition->name);
    if (good && addition->replace && !file) {
        fprintf(stderr, "promptgate credential: there is no %s\n", addition->path);
        good = false;
    }
    good = good && store_key(addition, addition->replace ? file : NULL);
    cli_view_close(&view);
    if (lock >= 0)
        close(lock);
    return good;
}

/* What is wrong before anything is asked. */
static bool can_add(struct addition *addition)
{
    struct error error;
    bool exists = access(addition->path, F_OK) == 0;
    if (addition->replace && !exists)
        error_set(&error, "there is no %.300s", addition->path);
    else if (!addition->replace && exists)
        error_set(&error, "there is %.300s already: --replace changes its key", addition->path);
    else if (key_pair_public(addition->directory, &addition->public_key, &error))
        return true;
    fail(error.message);
    return false;
}

static int credential_add(int argc, char **argv, const struct cli_options *options)
{
    struct addition addition = {.directory = options->config, .needs_key = true};
    addition.allow_http = cli_take_flag(&argc, argv, "--allow-http");
    addition.replace = cli_take_flag(&argc, argv, "--replace");
    if (!cli_take_value(&argc, argv, "--provider", &addition.provider) ||
        !cli_take_value(&argc, argv, "--base-url", &addition.base_url) ||
        !take_name(&argc, argv, &addition.name) || options->json ||
        !addition.replace == !addition.provider ||
        (addition.replace && (addition.base_url || addition.allow_http)))
        return usage();
    if (!config_name_valid(str_of(addition.name)))
        return fail("the name must be lower-case letters, digits, - and _, and begin with a letter "
                    "or digit");
    if ((addition.provider && !check_provider(&addition)) || !check_url(&addition))
        return 1;
    snprintf(addition.path, sizeof addition.path, "%s/credentials.d/%s.yaml", options->config,
             addition.name);
    addition.secret = sodium_malloc(SECRET_MAX_BYTES + 1);
    if (!addition.secret)
        return fail("there is no memory for the key");
    bool good = can_add(&addition) && ask_key(&addition) && add_locked(&addition);
    sodium_free(addition.secret);
    return good ? 0 : 1;
}

/* --- list --- */

/* Where the key is, without it: env:NAME and file:PATH name a place. */
static const char *shown_key(const struct config_file *file)
{
    const char *key = text_of(file, "api_key");
    if (!*key)
        return "none";
    if (sealed_is(key))
        return "sealed";
    return strncmp(key, "env:", 4) == 0 || strncmp(key, "file:", 5) == 0 ? key : "plain";
}

/* One that `check` refuses may hold a password. */
static const char *shown_url(const struct config_file *file)
{
    const char *url = text_of(file, "base_url");
    struct error error;
    struct str kept;
    return !*url || base_url_check(str_of(url), true, &kept, &error) ? url : "(not a base URL)";
}

static void append_json(struct buf *out, const struct config_file *file)
{
    const char *url = shown_url(file);
    buf_puts(out, "{\"name\":");
    json_write_string(out, str_of(file->name));
    buf_puts(out, ",\"provider\":");
    json_write_string(out, str_of(text_of(file, "provider")));
    buf_puts(out, ",\"base_url\":");
    json_write_string_or_null(out, str_of(*url ? url : NULL));
    buf_puts(out, ",\"key\":");
    json_write_string(out, str_of(shown_key(file)));
    buf_putc(out, '}');
}

static void append_row(struct buf *out, const struct config_file *file)
{
    const char *url = shown_url(file);
    buf_printf(out, "%-24s %-10s %-24s %s", file->name, text_of(file, "provider"), shown_key(file),
               *url ? url : "the provider's own");
    cli_clean_line(out);
}

static int credential_list(int argc, const struct cli_options *options)
{
    struct cli_view view;
    struct buf line = {0};
    bool any = false;
    if (argc > 1)
        return usage();
    cli_view_open(&view, options->config);
    struct config_files files = cli_view_folder(&view, "credentials.d");
    if (!options->json)
        printf("%-24s %-10s %-24s %s\n", "NAME", "PROVIDER", "KEY", "BASE URL");
    for (size_t i = 0; i < files.count; i++) {
        if (!files.at[i].root)
            continue;
        buf_clear(&line);
        if (options->json)
            buf_puts(&line, any ? ",\n" : "[");
        (options->json ? append_json : append_row)(&line, &files.at[i]);
        any = true;
        printf("%s%s", buf_cstr(&line), options->json ? "" : "\n");
    }
    if (options->json)
        puts(any ? "]" : "[]");
    buf_free(&line);
    return cli_view_close(&view) ? 1 : 0;
}

/* --- rm --- */

/* Prints where a tree names the credential; how often. */
static unsigned print_uses(const struct config_file *file, const struct yaml_node *node,
                           const char *name)
{
    unsigned uses = 0;
    for (size_t i = 0; node && i < node->count; i++) {
        const struct yaml_entry *entry = &node->entries[i];
        bool is_use = entry->key && str_eq(entry->key->text, STR("credential")) &&
                      entry->value->kind == NODE_SCALAR && str_eq(entry->value->text, str_of(name));
        if (is_use)
            fprintf(stderr, "%s:%u:%u: uses %s\n", file->path, entry->value->mark.line,
                    entry->value->mark.column, name);
        uses += is_use + print_uses(file, entry->value, name);
    }
    return uses;
}

/* `*unread` counts files that could not be looked at. */
static unsigned print_all_uses(struct cli_view *view, const char *name, unsigned *unread)
{
    static const char *const folders[] = {"templates.d", "projects.d"};
    unsigned uses = 0;
    *unread = 0;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        struct config_files files = cli_view_folder(view, folders[i]);
        *unread += files.folder.unreadable != NULL;
        for (size_t j = 0; j < files.count; j++) {
            *unread += !files.at[j].root;
            uses += print_uses(&files.at[j], files.at[j].root, name);
        }
    }
    return uses;
}

static bool remove_one(struct cli_view *view, const char *name, bool force)
{
    struct config_files files = cli_view_folder(view, "credentials.d");
    const struct config_file *file = find(&files, name);
    if (!file) {
        fprintf(stderr, "promptgate credential: there is no credential %s in %s/credentials.d\n",
                name, view->reading.directory);
        return false;
    }
    unsigned unread;
    if (print_all_uses(view, name, &unread) > 0 && !force) {
        fail("it is in use: change that first, or say --force");
        return false;
    }
    if (unread > 0 && !force) {
        fail("files that cannot be read may use it: mend them first, or say --force");
        return false;
    }
    if (unlink(file->path) != 0) {
        fprintf(stderr, "promptgate credential: %s: %s\n", file->path, strerror(errno));
        return false;
    }
    fprintf(stderr,
            "Credential %s is gone. A running gateway goes on with it until it is reloaded.\n",
            name);
    return true;
}

static int credential_rm(int argc, char **argv, const struct cli_options *options)
{
    const char *name;
    bool force = cli_take_flag(&argc, argv, "--force");
    if (!take_name(&argc, argv, &name) || options->json)
        return usage();
    struct cli_view view;
    cli_view_open(&view, options->config);
    bool good = remove_one(&view, name, force);
    cli_view_close(&view);
    return good ? 0 : 1;
}

/* --- the pair of keys --- */

static int with_lock(int argc, const struct cli_options *options,
                     bool (*act)(const char *directory, struct error *error))
{
    struct error error;
    if (argc > 1 || options->json)
        return usage();
    int lock = key_pair_lock(options->config, &error);
    bool good = lock >= 0 && act(options->config, &error);
    if (lock >= 0)
        close(lock);
    return good ? 0 : fail(error.message);
}

static bool init(const char *directory, struct error *error)
{
    enum key_pair_made made;
    if (!key_pair_make(directory, &made, error))
        return false;
    if (made == KEY_PAIR_MADE)
        fprintf(stderr,
                "A pair of keys is in %s: " SEALING_PUBLIC_FILE
                " seals, and only who can read " SEALING_KEY_FILE
                " opens what is sealed. Keep a copy of that one in a safe place.\n",
                directory);
    else
        fputs(made == KEY_PAIR_COMPLETED ? SEALING_PUBLIC_FILE
                  " was missing, and is made from " SEALING_KEY_FILE ".\n"
                                         : "There is a pair of keys already.\n",
              stderr);
    return true;
}

static bool reseal(const char *directory, struct error *error)
{
    unsigned count = 0;
    struct error why;
    if (!key_pair_change(directory, &count, &why))
        return error_set(error, "%.400s: nothing is lost, say it again when that is mended",
                         why.message);
    fprintf(stderr,
            "There is a new pair of keys, and %u text%s %s sealed for it. A running gateway that "
            "has " SEALING_KEY_FILE
            " from systemd, or was started as root, needs a restart before its next "
            "reload.\n",
            count, count == 1 ? "" : "s", count == 1 ? "is" : "are");
    return true;
}

int cmd_credential(int argc, char **argv)
{
    struct cli_options options;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (!cli_take_options(&argc, argv, &options) || argc < 2)
        return usage();
    if (strcmp(argv[1], "add") == 0)
        return credential_add(argc - 1, argv + 1, &options);
    if (strcmp(argv[1], "list") == 0)
        return credential_list(argc - 1, &options);
    if (strcmp(argv[1], "rm") == 0)
        return credential_rm(argc - 1, argv + 1, &options);
    if (strcmp(argv[1], "init") == 0)
        return with_lock(argc - 1, &options, init);
    if (strcmp(argv[1], "reseal") == 0)
        return with_lock(argc - 1, &options, reseal);
    return usage();
}
