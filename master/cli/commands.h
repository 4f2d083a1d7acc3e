/* The subcommands. Each takes its own argv (argv[0] is its name) and returns the exit status:
 * 0 done, 1 refused or failed, 2 wrong usage. */
#pragma once

int cmd_serve(int argc, char **argv);
int cmd_reload(int argc, char **argv);
int cmd_upgrade(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_schema(int argc, char **argv);
int cmd_token(int argc, char **argv);
int cmd_credential(int argc, char **argv);
int cmd_endpoint(int argc, char **argv);
int cmd_project(int argc, char **argv);
int cmd_session(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_spend(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_models(int argc, char **argv);
int cmd_db(int argc, char **argv);
int cmd_version(int argc, char **argv);
