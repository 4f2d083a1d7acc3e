/* Prompt templates: `{{input}}`, `{{input.a.0}}`, `{{name}}` for a variable, `{{{{` for a literal
 * `{{`. Compiled once at config load, rendered in one pass: what was substituted is never looked at
 * again. */
#pragma once

#include "shared/base/arena.h"
#include "shared/base/buf.h"
#include "shared/base/error.h"

struct json_object;

enum template_piece_kind { TEMPLATE_LITERAL, TEMPLATE_INPUT, TEMPLATE_VARIABLE };

struct template_piece {
    enum template_piece_kind kind;
    struct str text;    /* the literal; or the path as written, without "input." */
    struct str *path;   /* its steps */
    size_t path_length; /* 0 = the whole input */
    size_t variable;    /* its place among the names */
};

struct template
{
    struct template_piece *pieces;
    size_t count;
};

/* What a template may name beside `input`. */
struct template_names {
    const char *const *at;
    size_t count;
};

/* Compiles `source` into memory of `arena`. On failure the error names the placeholder, and
 * `*offset` is the byte in `source` where it stands. */
bool template_compile(struct str source, const struct template_names *names, struct arena *arena,
                      struct template **result, size_t *offset, struct error *error)
    __attribute__((warn_unused_result));

/* What a template reads. The input value is a JSON value, or a plain text (`value` NULL, `text`
 * set); both absent is JSON's null. */
struct template_input {
    struct json_object *value;
    struct str text;
    const struct str *variables; /* in the order of the names */
};

/* Appends the rendered text. A JSON string goes in as its text, any other value as compact JSON.
 * False when the input lacks a path: the error names it, and `out` is as it was. A path into a
 * text (plain or a JSON string): it is read as JSON first when it is an object or array. */
bool template_render(const struct template *template, const struct template_input *input,
                     struct buf *out, struct error *error) __attribute__((warn_unused_result));
