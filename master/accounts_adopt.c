#include "master/accounts_adopt.h"

#include "shared/base/buf.h"

enum { PER_ENDPOINT = 2 }; /* its own account and its target's */

static const int64_t no_caps[CAP_COUNT] = {
    [CAP_PER_MINUTE] = CAP_UNLIMITED,
    [CAP_PER_HOUR] = CAP_UNLIMITED,
    [CAP_MONTHLY_NANO_USD] = CAP_UNLIMITED,
};

static size_t count_wanted(const struct config *config)
{
    size_t wanted = config->projects_count + config->tokens_count;
    for (size_t i = 0; i < config->projects_count; i++)
        wanted += PER_ENDPOINT * config->projects[i].endpoints_count;
    return wanted;
}

static uint32_t claim_target(struct accounts *accounts, const struct config_target *target)
{
    char label[ACCOUNT_LABEL_BYTES];
    struct buf name = {0};
    const char *provider = provider_name(target->provider);
    buf_printf(&name, "%s/%s/%s", provider, target->credential->name, target->model);
    account_target_label(label, str_of(provider), str_of(target->model),
                         str_of(target->credential->name));
    uint32_t account = accounts_claim(accounts, ACCOUNT_TARGET, buf_view(&name),
                                      (struct str){label, sizeof label}, no_caps);
    buf_free(&name);
    return account;
}

/* Projects are known by their id and endpoints by project and slug: what they are called may
 * change. */
static void claim_project(struct accounts *accounts, struct config_project *project)
{
    char id[UUID_TEXT_LEN + 1];
    struct buf name = {0};
    uuid_format(&project->id, id);
    project->account =
        accounts_claim(accounts, ACCOUNT_PROJECT, str_of(id), str_of(project->name), no_caps);
    for (size_t i = 0; i < project->endpoints_count; i++) {
        struct config_endpoint *endpoint = &project->endpoints[i];
        buf_clear(&name);
        buf_printf(&name, "%s/%s", id, endpoint->slug);
        endpoint->account = accounts_claim(accounts, ACCOUNT_ENDPOINT, buf_view(&name),
                                           str_of(endpoint->slug), no_caps);
        endpoint->target.account = claim_target(accounts, &endpoint->target);
    }
    buf_free(&name);
}

bool accounts_adopt(struct config *config, struct counters *counters, int64_t generation,
                    int64_t oldest, struct error *error)
{
    struct accounts accounts;
    if (!accounts_begin(&accounts, counters, generation, count_wanted(config), error))
        return false;
    for (size_t i = 0; i < config->projects_count; i++)
        claim_project(&accounts, &config->projects[i]);
    for (size_t i = 0; i < config->tokens_count; i++) {
        struct config_token *token = &config->tokens[i];
        token->account = accounts_claim(&accounts, ACCOUNT_TOKEN, str_of(token->name),
                                        str_of(token->name), no_caps);
    }
    accounts_end(&accounts, oldest);
    return true;
}
