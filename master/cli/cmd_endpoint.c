#include "master/cli/commands.h"
#include "master/cli/find.h"
#include "master/cli/options.h"
#include "master/cli/table.h"
#include "master/cli/words.h"
#include "master/config/config_load.h"
#include "shared/base/json.h"

#include <math.h>
#include <stdio.h>

static int usage(void)
{
    fputs("usage: promptgate endpoint list [--json] [--config DIR]\n"
          "       promptgate endpoint show PROJECT/SLUG [--json] [--config DIR]\n",
          stderr);
    return 2;
}

/* NULL, with what is wrong on stderr. */
static struct config *load(const char *directory)
{
    struct config_report report = {0};
    struct config *config = config_load_look(directory, &report);
    if (!config)
        config_report_print(&report, stderr);
    config_report_free(&report);
    return config;
}

/* --- an endpoint as JSON --- */

static void add(struct json_object *object, const char *name, struct json_object *value)
{
    json_object_object_add(object, name, value);
}

static struct json_object *text_or_null(const char *text)
{
    return text && *text ? json_object_new_string(text) : NULL;
}

static struct json_object *number_or_null(int64_t number, int64_t none)
{
    return number == none ? NULL : json_object_new_int64(number);
}

/* As it was written, not as the nearest double has it. */
static struct json_object *double_or_null(double number)
{
    char text[32];
    snprintf(text, sizeof text, "%.15g", number);
    return isnan(number) ? NULL : json_object_new_double_s(number, text);
}

static struct json_object *usd_or_null(int64_t nano_usd)
{
    struct buf text = {0};
    if (nano_usd == INT64_MAX)
        return NULL;
    cli_append_usd(&text, nano_usd);
    struct json_object *usd = json_object_new_double_s((double)nano_usd / 1e9, buf_cstr(&text));
    buf_free(&text);
    return usd;
}

static void add_target(struct json_object *object, const struct config_target *target)
{
    const struct config_credential *credential = target->credential;
    bool named = credential && !credential->built_in;
    add(object, "provider", json_object_new_string(provider_name(target->provider)));
    add(object, "model", text_or_null(target->model));
    add(object, "credential", text_or_null(named ? credential->name : NULL));
}

static struct json_object *json_of_target(const struct config_target *target)
{
    struct json_object *object = json_object_new_object();
    add_target(object, target);
    return object;
}

static struct json_object *json_of_failover(const struct config_endpoint *endpoint)
{
    struct json_object *list = json_object_new_array();
    for (size_t i = 0; i < endpoint->failover_count; i++)
        json_object_array_add(list, json_of_target(&endpoint->failover[i]));
    return list;
}

static struct json_object *json_of_rules(const struct config_endpoint *endpoint)
{
    struct json_object *list = json_object_new_array();
    for (size_t i = 0; i < endpoint->rules_count; i++) {
        struct json_object *rule = json_object_new_object();
        add(rule, "decision", text_or_null(endpoint->rules[i].rule.decision));
        add_target(rule, &endpoint->rules[i].target);
        json_object_array_add(list, rule);
    }
    return list;
}

static struct json_object *json_of_session(const struct config_session *session)
{
    struct json_object *object = session->on ? json_object_new_object() : NULL;
    if (!object)
        return NULL;
    add(object, "ttl_ms", json_object_new_int64(session->ttl_ms));
    add(object, "max_messages", json_object_new_int64(session->max_messages));
    add(object, "max_tokens", number_or_null(session->max_tokens, INT64_MAX));
    return object;
}

static struct json_object *json_of_limits(const struct config_endpoint *endpoint)
{
    struct json_object *object = json_object_new_object();
    add(object, "per_minute", number_or_null(endpoint->caps.per_minute, INT64_MAX));
    add(object, "per_hour", number_or_null(endpoint->caps.per_hour, INT64_MAX));
    add(object, "monthly_usd", usd_or_null(endpoint->caps.monthly_nano_usd));
    add(object, "request_tokens", number_or_null(endpoint->request_tokens, 0));
    return object;
}

static struct json_object *json_of_variables(const struct config_endpoint *endpoint)
{
    struct json_object *list = json_object_new_array();
    for (size_t i = 0; i < endpoint->variables_count; i++)
        json_object_array_add(list, json_object_new_string(endpoint->variables[i].name));
    return list;
}

static struct json_object *brief(const struct config_endpoint *endpoint)
{
    struct json_object *object = json_object_new_object();
    add(object, "project", json_object_new_string(endpoint->project->name));
    add(object, "endpoint", json_object_new_string(endpoint->slug));
    add(object, "description", text_or_null(endpoint->description));
    add(object, "active", json_object_new_boolean(endpoint->active && endpoint->project->active));
    add_target(object, &endpoint->target);
    add(object, "streaming", json_object_new_boolean(endpoint->streams));
    add(object, "sessions", json_object_new_boolean(endpoint->session.on));
    add(object, "monthly_usd", usd_or_null(endpoint->caps.monthly_nano_usd));
    return object;
}

static struct json_object *whole(const struct config_endpoint *endpoint)
{
    const struct config_target *target = &endpoint->target;
    struct json_object *object = json_object_new_object();
    char id[UUID_TEXT_LEN + 1];
    struct buf route = {0};
    buf_printf(&route, "POST /api/%s/%s", uuid_format(&endpoint->project->id, id), endpoint->slug);
    add(object, "project", json_object_new_string(endpoint->project->name));
    add(object, "endpoint", json_object_new_string(endpoint->slug));
    add(object, "route", json_object_new_string(buf_cstr(&route)));
    add(object, "description", text_or_null(endpoint->description));
    add(object, "active", json_object_new_boolean(endpoint->active && endpoint->project->active));
    add_target(object, target);
    add(object, "temperature", double_or_null(target->temperature));
    add(object, "top_p", double_or_null(target->top_p));
    add(object, "max_output_tokens", number_or_null(target->max_output_tokens, 0));
    add(object, "timeout_ms", json_object_new_int64(target->timeout_ms));
    add(object, "retries", json_object_new_int64(endpoint->retries));
    add(object, "failover", json_of_failover(endpoint));
    add(object, "rules", json_of_rules(endpoint));
    add(object, "limits", json_of_limits(endpoint));
    add(object, "streaming", json_object_new_boolean(endpoint->streams));
    add(object, "session", json_of_session(&endpoint->session));
    add(object, "system_prompt", json_object_new_boolean(endpoint->system_prompt != NULL));
    add(object, "user_prompt", json_object_new_boolean(endpoint->user_prompt != NULL));
    add(object, "variables", json_of_variables(endpoint));
    add(object, "input_schema", json_object_new_boolean(endpoint->input_schema != NULL));
    add(object, "output_schema", json_object_new_boolean(endpoint->output_schema != NULL));
    add(object, "output_repair", json_object_new_int64(endpoint->output_repair));
    buf_free(&route);
    return object;
}

/* --- list --- */

static void append_row(struct buf *out, const struct config_endpoint *endpoint)
{
    const struct config_target *target = &endpoint->target;
    struct buf name = {0}, budget = {0}, line = {0};
    buf_printf(&name, "%s/%s", endpoint->project->name, endpoint->slug);
    buf_puts(&budget, "-");
    if (endpoint->caps.monthly_nano_usd != INT64_MAX) {
        buf_clear(&budget);
        buf_printf(&budget, "%.2f", (double)endpoint->caps.monthly_nano_usd / 1e9);
    }
    buf_printf(&line, "%-32s %-10s %-28s %-8s %-6s %-8s %10s", buf_cstr(&name),
               provider_name(target->provider), target->model,
               endpoint->active && endpoint->project->active ? "active" : "inactive",
               endpoint->streams ? "yes" : "no", endpoint->session.on ? "yes" : "no",
               buf_cstr(&budget));
    cli_clean_line(&line);
    buf_str(out, buf_view(&line));
    buf_putc(out, '\n');
    buf_free(&name);
    buf_free(&budget);
    buf_free(&line);
}

static void append_all(const struct config *config, bool json, struct buf *out)
{
    const char *before = "[";
    for (size_t i = 0; i < config->projects_count; i++)
        for (size_t j = 0; j < config->projects[i].endpoints_count; j++) {
            const struct config_endpoint *endpoint = &config->projects[i].endpoints[j];
            if (!json) {
                append_row(out, endpoint);
                continue;
            }
            struct json_object *object = brief(endpoint);
            buf_puts(out, before);
            json_write(out, object);
            json_object_put(object);
            before = ",\n";
        }
    if (json)
        buf_puts(out, *before == '[' ? "[]\n" : "]\n");
}

static int endpoint_list(int argc, const struct cli_options *options)
{
    struct buf out = {0};
    if (argc > 1)
        return usage();
    struct config *config = load(options->config);
    if (!config)
        return 1;
    if (!options->json)
        buf_printf(&out, "%-32s %-10s %-28s %-8s %-6s %-8s %10s\n", "ENDPOINT", "PROVIDER", "MODEL",
                   "STATE", "STREAM", "SESSIONS", "USD/MONTH");
    append_all(config, options->json, &out);
    fwrite(out.data, 1, out.len, stdout);
    buf_free(&out);
    config_free(&config);
    return 0;
}

/* --- show --- */

static int endpoint_show(int argc, char **argv, const struct cli_options *options)
{
    struct config_project *project;
    struct config_endpoint *endpoint;
    if (argc != 2 || argv[1][0] == '-')
        return usage();
    struct config *config = load(options->config);
    bool found = config && cli_find_endpoint(config, argv[1], &project, &endpoint);
    if (found) {
        struct buf out = {0};
        struct json_object *object = whole(endpoint);
        if (options->json)
            json_write(&out, object);
        else
            cli_write_words(object, &out);
        printf("%.*s%s", STR_ARG(buf_view(&out)), options->json ? "\n" : "");
        json_object_put(object);
        buf_free(&out);
    }
    config_free(&config);
    return found ? 0 : 1;
}

int cmd_endpoint(int argc, char **argv)
{
    struct cli_options options;
    if (!cli_take_options(&argc, argv, &options) || argc < 2)
        return usage();
    if (strcmp(argv[1], "list") == 0)
        return endpoint_list(argc - 1, &options);
    if (strcmp(argv[1], "show") == 0)
        return endpoint_show(argc - 1, argv + 1, &options);
    return usage();
}
