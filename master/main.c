/* promptgate: one binary, the subcommand decides. */
#include "master/cli/commands.h"
#include "master/title.h"
#include "master/upgrade.h"

#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"serve", cmd_serve, "run the gateway"},
    {"reload", cmd_reload, "let the running gateway read its configuration again"},
    {"upgrade", cmd_upgrade, "let another binary take over from the running gateway"},
    {"stop", cmd_stop, "stop the running gateway"},
    {"status", cmd_status, "show the running gateway and its processes"},
    {"check", cmd_check, "read the configuration and print every error"},
    {"explain", cmd_explain, "say what would happen to a request"},
    {"schema", cmd_schema, "check a JSON Schema, or a value against one"},
    {"token", cmd_token, "create, list, revoke and rotate client tokens"},
    {"credential", cmd_credential, "add, list, remove or reseal provider keys"},
    {"endpoint", cmd_endpoint, "list endpoints, show what one comes to"},
    {"project", cmd_project, "create and list projects"},
    {"session", cmd_session, "list, show and delete conversations"},
    {"logs", cmd_logs, "show what was logged of requests"},
    {"spend", cmd_spend, "show what this month's requests have cost"},
    {"top", cmd_top, "watch requests, limits and spending as they are now"},
    {"models", cmd_models, "import prices into models.yaml"},
    {"db", cmd_db, "look at the store and the spool, bring the schema up to date"},
    {"version", cmd_version, "print the version"},
};

enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_usage(FILE *out)
{
    fprintf(out, "usage: promptgate COMMAND [--config DIR] [options]\n\ncommands:\n");
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "\nsee promptgate(8)\n");
}

int main(int argc, char **argv)
{
    if (argc > 0)
        upgrade_note_binary(argv[0]);
    title_setup(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    if (sodium_init() < 0) {
        fprintf(stderr, "promptgate: libsodium cannot be initialised\n");
        return 1;
    }
    if (argc < 2) {
        print_usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return 0;
    }
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "promptgate: no command '%s'\n", argv[1]);
    print_usage(stderr);
    return 2;
}
