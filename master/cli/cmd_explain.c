/* explain: what would happen to a request, on the counters of the running gateway. */
#include "master/cli/commands.h"
#include "master/cli/find.h"
#include "master/cli/live.h"
#include "master/cli/options.h"
#include "master/cli/words.h"
#include "master/config/config_load.h"
#include "shared/base/json.h"
#include "worker/explain.h"

#include <stdio.h>
#include <stdlib.h>

static int usage(void)
{
    fputs("usage: promptgate explain [--config DIR] [--token NAME] [--json] PROJECT/SLUG "
          "[BODY|-]\n",
          stderr);
    return 2;
}

/* --- whose counters --- */

static bool find(const struct counters *counters, enum account_kind kind, const char *name,
                 const char *group, uint32_t *account)
{
    *account = live_find(counters, kind, str_of(name), str_of(group));
    return *account != ACCOUNT_NONE;
}

struct subject {
    struct config *config;
    struct config_project *project;
    struct config_endpoint *endpoint;
    struct config_token *token; /* NULL = none named */
};

/* False when the running gateway doesn't know all of it: the configuration was not reloaded. */
static bool find_accounts(const struct counters *counters, struct subject *subject)
{
    struct config_project *project = subject->project;
    bool found = find(counters, ACCOUNT_PROJECT, project->name, "", &project->account) &&
                 find(counters, ACCOUNT_ENDPOINT, subject->endpoint->slug, project->name,
                      &subject->endpoint->account);
    if (subject->token)
        found = found && find(counters, ACCOUNT_TOKEN, subject->token->name, project->name,
                              &subject->token->account);
    for (size_t i = 0; i < subject->config->credentials_count; i++) {
        struct config_credential *credential = &subject->config->credentials[i];
        found = found && find(counters, ACCOUNT_CREDENTIAL, credential->name,
                              provider_name(credential->provider), &credential->account);
    }
    return found;
}

static void set_caps(struct shm_account *account, const struct config_caps *caps)
{
    atomic_store(&account->caps[CAP_PER_MINUTE], caps->per_minute);
    atomic_store(&account->caps[CAP_PER_HOUR], caps->per_hour);
    atomic_store(&account->caps[CAP_MONTHLY_NANO_USD], caps->monthly_nano_usd);
}

/* As of a gateway that begins: nothing is spent. */
static void begin_anew(struct subject *subject, struct counters *counters,
                       struct shm_header *header)
{
    enum { PROJECT, ENDPOINT, TOKEN, CREDENTIALS };
    struct config *config = subject->config;
    size_t bytes = (CREDENTIALS + config->credentials_count) * sizeof *counters->accounts;
    *counters = (struct counters){.header = header, .fd = -1};
    counters->accounts = aligned_alloc(_Alignof(struct shm_account), bytes);
    if (!counters->accounts)
        abort();
    memset((void *)counters->accounts, 0, bytes);
    subject->project->account = PROJECT;
    subject->endpoint->account = ENDPOINT;
    set_caps(&counters->accounts[PROJECT], &subject->project->caps);
    set_caps(&counters->accounts[ENDPOINT], &subject->endpoint->caps);
    if (subject->token) {
        subject->token->account = TOKEN;
        set_caps(&counters->accounts[TOKEN], &subject->token->caps);
    }
    for (size_t i = 0; i < config->credentials_count; i++)
        config->credentials[i].account = CREDENTIALS + (uint32_t)i;
}

/* --- what is asked for --- */

static bool find_token(struct subject *subject, const char *name)
{
    struct config *config = subject->config;
    for (size_t i = 0; name && i < config->tokens_count; i++)
        if (config->tokens[i].project == subject->project &&
            strcmp(config->tokens[i].name, name) == 0)
            subject->token = &config->tokens[i];
    if (name && !subject->token)
        fprintf(stderr, "promptgate explain: project %s has no token %s\n", subject->project->name,
                name);
    return !name || subject->token;
}

static bool explain_subject(struct subject *subject, const struct cli_options *options,
                            struct str body)
{
    struct counters counters;
    struct shm_header blank = {0};
    struct buf out = {0};
    struct json_object *told;
    const char *source = "those of the gateway";
    bool opened = live_open(options->config, &counters);
    bool live = opened && find_accounts(&counters, subject);
    if (opened && !live)
        counters_close(&counters);
    if (!live) {
        begin_anew(subject, &counters, &blank);
        source = opened ? "none: the gateway has not loaded this configuration yet"
                        : "none: no gateway has run here since the machine was started";
    }
    const struct explain_subject asked = {
        .config = subject->config,
        .project = subject->project,
        .endpoint = subject->endpoint,
        .token = subject->token,
        .counters = &counters,
        .generation = live ? atomic_load(&counters.header->serving_generation) : 1,
    };
    bool sent = explain(&asked, body, &told);
    json_object_object_add(told, "counters", json_object_new_string(source));
    if (options->json)
        json_write(&out, told);
    else
        cli_write_words(told, &out);
    printf("%.*s%s", STR_ARG(buf_view(&out)), options->json ? "\n" : "");
    buf_free(&out);
    json_object_put(told);
    if (live)
        counters_close(&counters);
    else
        free(counters.accounts);
    return sent;
}

int cmd_explain(int argc, char **argv)
{
    struct cli_options options;
    struct config_report report = {0};
    const char *token = NULL;
    struct buf input = {0};
    if (!cli_take_options(&argc, argv, &options) ||
        !cli_take_value(&argc, argv, "--token", &token) || argc < 2 || argc > 3)
        return usage();
    const char *body = argc == 3 ? argv[2] : "{}";
    struct subject subject = {.config = config_load_look(options.config, &report)};
    if (!subject.config)
        config_report_print(&report, stderr);
    config_report_free(&report);
    bool found = subject.config &&
                 cli_find_endpoint(subject.config, argv[1], &subject.project, &subject.endpoint) &&
                 find_token(&subject, token);
    if (found && strcmp(body, "-") == 0 && !cli_read_input(&input)) {
        perror("promptgate explain: standard input");
        found = false;
    }
    struct str text = strcmp(body, "-") == 0 ? buf_view(&input) : str_of(body);
    bool sent = found && explain_subject(&subject, &options, text);
    buf_free(&input);
    config_free(&subject.config);
    return sent ? 0 : 1;
}
