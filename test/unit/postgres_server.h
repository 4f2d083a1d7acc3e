/* A PostgreSQL of the test's own: a cluster in a scratch directory, reached by a UNIX socket there,
 * never run by the superuser. */
#pragma once

#include "test/unit/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <libpq-fe.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { NOBODY = 65534, SERVER_PATIENCE_MS = 60000 };

struct postgres_server {
    char directory[SCRATCH_PATH], data[SCRATCH_PATH], programs[SCRATCH_PATH];
    pid_t pid;
};

/* "/usr/lib/postgresql/15/bin", the newest; empty where there is none. */
static inline void server_find(struct postgres_server *server)
{
    glob_t found;
    server->programs[0] = '\0';
    if (glob("/usr/lib/postgresql/*/bin", 0, NULL, &found) == 0)
        snprintf(server->programs, SCRATCH_PATH, "%.300s", found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
}

/* In a child: becomes `program`, which says nothing. */
static inline void server_exec(const struct postgres_server *server, const char *program,
                               const char *const *arguments)
{
    char path[2 * SCRATCH_PATH];
    snprintf(path, sizeof path, "%s/%s", server->programs, program);
    if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0))
        _exit(97);
    prctl(PR_SET_PDEATHSIG, SIGQUIT);
    int log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execv(path, (char *const *)(uintptr_t)arguments);
    _exit(98);
}

static inline pid_t server_fork(const struct postgres_server *server, const char *program,
                                const char *const *arguments)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    if (chdir(server->directory) != 0)
        _exit(96);
    server_exec(server, program, arguments);
    return -1;
}

static inline PGconn *server_connect(const struct postgres_server *server, const char *user,
                                     const char *database)
{
    char dsn[2 * SCRATCH_PATH];
    snprintf(dsn, sizeof dsn, "host=%s dbname=%s user=%s", server->directory, database, user);
    return PQconnectdb(dsn);
}

static inline bool server_begin(struct postgres_server *server)
{
    const char *const arguments[] = {"postgres",           "-D", server->data,        "-k",
                                     server->directory,    "-c", "listen_addresses=", "-c",
                                     "max_connections=40", NULL};
    server->pid = server_fork(server, "postgres", arguments);
    for (int waited_ms = 0; waited_ms < SERVER_PATIENCE_MS; waited_ms += 20) {
        PGconn *conn = server_connect(server, "postgres", "postgres");
        bool there = PQstatus(conn) == CONNECTION_OK;
        PQfinish(conn);
        if (there)
            return true;
        usleep(20000);
    }
    return false;
}

/* SIGINT: the fast shutdown; SIGQUIT: as if it crashed. */
static inline void server_end(struct postgres_server *server, int signal)
{
    if (server->pid <= 0)
        return;
    kill(server->pid, signal);
    waitpid(server->pid, NULL, 0);
    server->pid = 0;
}

/* False where no server is installed, with `*installed` false, or when it doesn't start. */
static inline bool server_start(struct postgres_server *server, bool *installed)
{
    server_find(server);
    *installed = server->programs[0] != '\0';
    if (!*installed || !scratch_make(server->directory) ||
        (geteuid() == 0 && chown(server->directory, NOBODY, NOBODY) != 0))
        return false;
    scratch_path(server->directory, "data", server->data);
    const char *const arguments[] = {"initdb",     "-D", server->data, "-A",
                                     "trust",      "-U", "postgres",   "--encoding=UTF8",
                                     "--locale=C", "-N", NULL};
    int status = -1;
    waitpid(server_fork(server, "initdb", arguments), &status, 0);
    return status == 0 && server_begin(server);
}

static inline void server_remove(struct postgres_server *server)
{
    server_end(server, SIGQUIT);
    if (server->directory[0])
        scratch_remove(server->directory);
}

/* One statement, by the superuser or whoever `conn` is; fails the test when it does. */
static inline void server_run(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    PQclear(result);
}
