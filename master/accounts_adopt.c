#include "master/accounts_adopt.h"

#include "shared/base/buf.h"
#include "shared/base/clock.h"

static const struct config_caps no_caps = {CAP_UNLIMITED, CAP_UNLIMITED, CAP_UNLIMITED};

/* Its own, its chain's, its rules'. */
static size_t count_targets(const struct config_endpoint *endpoint)
{
    return 1 + endpoint->failover_count + endpoint->rules_count;
}

static size_t count_wanted(const struct config *config)
{
    size_t wanted = config->projects_count + config->tokens_count + config->credentials_count;
    for (size_t i = 0; i < config->projects_count; i++)
        for (size_t j = 0; j < config->projects[i].endpoints_count; j++)
            wanted += 1 + count_targets(&config->projects[i].endpoints[j]);
    return wanted;
}

/* What is counted: by what it is known, what rows call it, and where its account's number is. */
struct counted {
    enum account_kind kind;
    struct str name, label;
    const struct config_caps *caps;
    uint32_t *account;
};

typedef void counted_fn(void *context, const struct counted *counted);

static void visit_target(struct config_target *target, counted_fn *visit, void *context)
{
    char label[ACCOUNT_LABEL_BYTES];
    struct buf name = {0};
    const char *provider = provider_name(target->provider);
    buf_printf(&name, "%s/%s/%s", provider, target->credential->name, target->model);
    account_target_label(label, str_of(provider), str_of(target->model),
                         str_of(target->credential->name));
    const struct counted counted = {ACCOUNT_TARGET, buf_view(&name),
                                    (struct str){label, sizeof label}, &no_caps, &target->account};
    visit(context, &counted);
    buf_free(&name);
}

/* What rows call it, and the project that it is of. */
static void write_label(const char *name, const struct config_project *project, struct buf *label)
{
    buf_puts(label, name);
    buf_putc(label, '\0');
    buf_puts(label, project ? project->name : "");
}

static void visit_endpoint(const char *project_id, struct config_endpoint *endpoint,
                           counted_fn *visit, void *context)
{
    struct buf name = {0}, label = {0};
    buf_printf(&name, "%s/%s", project_id, endpoint->slug);
    write_label(endpoint->slug, endpoint->project, &label);
    const struct counted counted = {ACCOUNT_ENDPOINT, buf_view(&name), buf_view(&label),
                                    &endpoint->caps, &endpoint->account};
    visit(context, &counted);
    buf_free(&name);
    buf_free(&label);
    visit_target(&endpoint->target, visit, context);
    for (size_t i = 0; i < endpoint->failover_count; i++)
        visit_target(&endpoint->failover[i], visit, context);
    for (size_t i = 0; i < endpoint->rules_count; i++)
        visit_target(&endpoint->rules[i].target, visit, context);
}

static void visit_credential(struct config_credential *credential, counted_fn *visit, void *context)
{
    struct buf name = {0}, label = {0};
    const char *provider = provider_name(credential->provider);
    buf_printf(&name, "%s/%s", provider, credential->name);
    buf_puts(&label, credential->name);
    buf_putc(&label, '\0');
    buf_puts(&label, provider);
    const struct counted counted = {ACCOUNT_CREDENTIAL, buf_view(&name), buf_view(&label), &no_caps,
                                    &credential->account};
    visit(context, &counted);
    buf_free(&name);
    buf_free(&label);
}

/* Projects are known by their id and endpoints by project and slug: what they are called may
 * change. */
static void visit_project(struct config_project *project, counted_fn *visit, void *context)
{
    char id[UUID_TEXT_LEN + 1];
    uuid_format(&project->id, id);
    const struct counted counted = {ACCOUNT_PROJECT, str_of(id), str_of(project->name),
                                    &project->caps, &project->account};
    visit(context, &counted);
    for (size_t i = 0; i < project->endpoints_count; i++)
        visit_endpoint(id, &project->endpoints[i], visit, context);
}

static void visit_tokens(struct config_token *tokens, size_t count, counted_fn *visit,
                         void *context)
{
    struct buf label = {0};
    for (size_t i = 0; i < count; i++) {
        buf_clear(&label);
        write_label(tokens[i].name, tokens[i].project, &label);
        const struct counted counted = {ACCOUNT_TOKEN, str_of(tokens[i].name), buf_view(&label),
                                        &tokens[i].caps, &tokens[i].account};
        visit(context, &counted);
    }
    buf_free(&label);
}

static void visit_all(struct config *config, counted_fn *visit, void *context)
{
    for (size_t i = 0; i < config->projects_count; i++)
        visit_project(&config->projects[i], visit, context);
    for (size_t i = 0; i < config->credentials_count; i++)
        visit_credential(&config->credentials[i], visit, context);
    visit_tokens(config->tokens, config->tokens_count, visit, context);
}

static void claim(void *context, const struct counted *counted)
{
    *counted->account = accounts_claim(context, counted->kind, counted->name, counted->label);
}

bool accounts_adopt(struct config *config, struct counters *counters, int64_t generation,
                    int64_t oldest, struct error *error)
{
    struct accounts accounts;
    if (!accounts_begin(&accounts, counters, generation, count_wanted(config), error))
        return false;
    accounts.month = month_number(&config->store.months, clock_wall_ms());
    visit_all(config, claim, &accounts);
    accounts_end(&accounts, oldest);
    return true;
}

static void enforce(void *context, const struct counted *counted)
{
    struct counters *counters = context;
    const int64_t caps[CAP_COUNT] = {
        [CAP_PER_MINUTE] = counted->caps->per_minute,
        [CAP_PER_HOUR] = counted->caps->per_hour,
        [CAP_MONTHLY_NANO_USD] = counted->caps->monthly_nano_usd,
    };
    account_set(&counters->accounts[*counted->account], counted->label, caps);
}

void accounts_enforce(struct config *config, struct counters *counters)
{
    visit_all(config, enforce, counters);
}

bool accounts_adopt_tokens(struct config_token *tokens, size_t count, struct counters *counters,
                           int64_t generation, struct error *error)
{
    struct accounts accounts;
    if (!accounts_begin(&accounts, counters, generation, count, error))
        return false;
    visit_tokens(tokens, count, claim, &accounts);
    accounts_end(&accounts, 0);
    visit_tokens(tokens, count, enforce, counters);
    return true;
}
