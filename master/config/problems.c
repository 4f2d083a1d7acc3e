#include "master/config/problems.h"

#include "shared/base/xalloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* One line each, whatever text of a file is quoted in it. */
static char *on_one_line(char *text)
{
    for (char *at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7F)
            *at = ' ';
    return text;
}

static const char *place(struct arena *arena, const char *file, struct yaml_mark mark)
{
    if (mark.line == 0)
        return file;
    return arena_printf(arena, "%s:%u:%u", file, mark.line, mark.column);
}

static void add(struct problems *problems, const struct config_file *file, struct yaml_mark mark,
                bool warning, const char *path, const char *what)
{
    if (problems->count == problems->capacity) {
        problems->capacity = problems->capacity ? problems->capacity * 2 : 16;
        problems->items = xrealloc(problems->items, problems->capacity * sizeof *problems->items);
    }
    problems->items[problems->count] = (struct problem){
        .file_order = file->order,
        .sequence = (unsigned)problems->count,
        .mark = mark,
        .warning = warning,
        .text = on_one_line(
            arena_printf(problems->arena, "%s: %s%s%s%s", place(problems->arena, file->path, mark),
                         warning ? "warning: " : "", path, *path ? ": " : "", what)),
    };
    problems->count++;
    problems->errors += !warning;
}

static char *format_text(const char *format, va_list args)
{
    char *text = NULL;
    if (vasprintf(&text, format, args) < 0)
        return xstrdup("a problem without words");
    return text;
}

void problem_error(struct problems *problems, const struct config_file *file, struct yaml_mark mark,
                   const char *path, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *what = format_text(format, args);
    va_end(args);
    add(problems, file, mark, false, path, what);
    free(what);
}

void problem_warning(struct problems *problems, const struct config_file *file,
                     struct yaml_mark mark, const char *path, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *what = format_text(format, args);
    va_end(args);
    add(problems, file, mark, true, path, what);
    free(what);
}

static int compare(unsigned a, unsigned b)
{
    return (a > b) - (a < b);
}

static int compare_problems(const void *left, const void *right)
{
    const struct problem *a = left, *b = right;
    int order = compare(a->file_order, b->file_order);
    if (order == 0)
        order = compare(a->mark.line, b->mark.line);
    if (order == 0)
        order = compare(a->mark.column, b->mark.column);
    return order != 0 ? order : compare(a->sequence, b->sequence);
}

static void append(struct config_report *report, bool warning, char *text)
{
    struct config_problem *problem = arena_alloc(&report->arena, sizeof *problem);
    problem->warning = warning;
    problem->text = text;
    if (report->last)
        report->last->next = problem;
    else
        report->first = problem;
    report->last = problem;
}

void problems_finish(struct problems *problems, struct config_report *report)
{
    if (problems->count)
        qsort(problems->items, problems->count, sizeof *problems->items, compare_problems);
    bool hidden_error = false;
    for (size_t i = 0; i < problems->count; i++) {
        const struct problem *problem = &problems->items[i];
        report->errors += !problem->warning;
        report->warnings += problem->warning;
        if (i < PROBLEMS_SHOWN_MAX)
            append(report, problem->warning, arena_strdup(&report->arena, problem->text));
        else
            hidden_error |= !problem->warning;
    }
    if (problems->count > PROBLEMS_SHOWN_MAX)
        append(report, !hidden_error,
               arena_printf(&report->arena, "and %zu more problems",
                            problems->count - PROBLEMS_SHOWN_MAX));
}

void problems_free(struct problems *problems)
{
    free(problems->items);
    *problems = (struct problems){0};
}
