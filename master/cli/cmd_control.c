/* reload, upgrade, stop and status: what the running master is asked over its control socket. */
#include "master/cli/commands.h"
#include "master/cli/options.h"
#include "master/cli/status_view.h"
#include "master/config/runtime_dir.h"
#include "master/control_client.h"

#include <stdio.h>
#include <string.h>

static void print(const struct buf *text, FILE *out)
{
    fwrite(text->data, 1, text->len, out);
    if (text->len > 0 && text->data[text->len - 1] != '\n')
        putc('\n', out);
}

/* The answer's text is the caller's to free, also after a failure. */
static int ask(const char *verb, const char *directory, struct buf *answer)
{
    struct buf runtime_dir = {0};
    struct error error;
    config_find_runtime_dir(directory, &runtime_dir);
    enum control_result result =
        control_ask(buf_cstr(&runtime_dir), verb, strcmp(verb, "stop") == 0, answer, &error);
    buf_free(&runtime_dir);
    if (result == CONTROL_NO_MASTER || result == CONTROL_BROKEN)
        fprintf(stderr, "promptgate %s: %s\n", verb, error.message);
    if (result == CONTROL_REFUSED) {
        print(answer, stderr);
        fprintf(stderr, "promptgate %s: refused\n", verb);
    }
    return result == CONTROL_OK ? 0 : 1;
}

static int ask_and_print(int argc, char **argv, const char *verb)
{
    struct cli_options options;
    struct buf answer = {0};
    if (!cli_take_options(&argc, argv, &options) || argc > 1 || options.json) {
        fprintf(stderr, "usage: promptgate %s [--config DIR]\n", verb);
        return 2;
    }
    int status = ask(verb, options.config, &answer);
    if (status == 0)
        print(&answer, stdout);
    buf_free(&answer);
    return status;
}

int cmd_reload(int argc, char **argv)
{
    return ask_and_print(argc, argv, "reload");
}

int cmd_upgrade(int argc, char **argv)
{
    return ask_and_print(argc, argv, "upgrade");
}

int cmd_stop(int argc, char **argv)
{
    return ask_and_print(argc, argv, "stop");
}

int cmd_status(int argc, char **argv)
{
    struct cli_options options;
    struct buf answer = {0}, view = {0};
    struct error error;
    if (!cli_take_options(&argc, argv, &options) || argc > 1) {
        fputs("usage: promptgate status [--config DIR] [--json]\n", stderr);
        return 2;
    }
    int status = ask("status", options.config, &answer);
    if (status == 0 && options.json) {
        print(&answer, stdout);
    } else if (status == 0 && status_view(buf_view(&answer), &view, &error)) {
        print(&view, stdout);
    } else if (status == 0) {
        fprintf(stderr, "promptgate status: the answer is not JSON: %s\n", error.message);
        status = 1;
    }
    buf_free(&view);
    buf_free(&answer);
    return status;
}
