/* OpenAI's chat shape, taken apart for providers with another one, and put together from theirs. */
#pragma once

#include "worker/provider/provider.h"

#include "shared/base/json.h"

/* --- the request --- */

enum chat_role {
    CHAT_SYSTEM, /* developer, too */
    CHAT_USER,
    CHAT_ASSISTANT,
    CHAT_TOOL,
};

enum chat_role chat_role_of(struct json_object *message);
/* How many a list has; 0 for what is no list. */
size_t chat_count(struct json_object *list);

/* A message whose content is this text. */
struct json_object *chat_new_message(const char *role, struct str text);
/* Adds to the list what `more` has from place `first` on. */
void chat_add_from(struct json_object *list, struct json_object *more, size_t first);

enum chat_part_kind { CHAT_TEXT, CHAT_IMAGE, CHAT_OTHER };

/* A part of a content; a content that is a string has just one. */
struct chat_part {
    enum chat_part_kind kind;
    struct str text; /* an image's URL; the type of another kind */
};

size_t chat_count_parts(struct json_object *content);
struct chat_part chat_part_at(struct json_object *content, size_t i);
bool chat_refuse_part(const struct chat_part *part, struct error *error); /* false */
/* The texts of a content, one behind the other. */
void chat_append_texts(struct json_object *content, struct buf *out);
/* All system messages' texts, an empty line between two; nothing when there are none. */
void chat_append_system(struct json_object *messages, struct buf *out);
/* "data:image/png;base64,AAAA" is taken apart; false for another URL. */
bool chat_read_data_url(struct str url, struct str *type, struct str *base64);

/* A call of a function that the model made earlier. */
struct chat_call {
    struct str id, name;
    struct json_object *arguments; /* an object, owned by the reader */
};

bool chat_read_call(struct json_object *call, struct chat_call *read, struct error *error);
/* The function that was called with this id; absent when nobody was. */
struct str chat_called_name(struct json_object *messages, struct str id);

enum chat_choice { CHAT_CHOICE_UNSAID, CHAT_AUTO, CHAT_NONE, CHAT_REQUIRED, CHAT_NAMED };

/* `name`: of the function to call with CHAT_NAMED. */
enum chat_choice chat_choice_of(struct json_object *tool_choice, struct str *name);
/* The client's, else the endpoint's, no less than `least` and no more than `most`. NaN = not sent.
 */
double chat_number(struct json_object *given, double otherwise, double least, double most);
/* A stop text or list of them as a list; NULL when there is none. */
struct json_object *chat_stop_list(struct json_object *stop);

/* --- a body as an object; values are taken over, NULL and NaN are left out --- */

struct json_object *chat_string(struct str text);
void chat_put(struct json_object *object, const char *name, struct json_object *value);
void chat_put_string(struct json_object *object, const char *name, struct str text);
void chat_put_number(struct json_object *object, const char *name, double value);
/* JSON that was written here: what it says; NULL for NULL. */
struct json_object *chat_read(const char *text);
/* The body's text, with what the configuration adds (members as JSON, or NULL): members of an
 * object that is in both are joined, and what the body has stays. */
void chat_write_body(struct json_object *body, const char *parameters, struct buf *out);

/* --- the answer --- */

/* A reason to end: NULL = the model failed. */
struct chat_reason {
    const char *said, *meant;
};

/* An unknown one is "stop". */
const char *chat_finish_reason(const struct chat_reason *reasons, size_t count, struct str said);
bool chat_read_object(const struct upstream_reply *reply, struct completion *completion,
                      struct error *error);
/* An id for a call that came without one: the same for the same answer and place. */
void chat_make_id(struct str answer_id, size_t place, struct buf *id);
/* A call in OpenAI's shape. An absent id is made up; arguments may be their text, too. */
struct json_object *chat_new_call(struct str id, struct str name, struct json_object *arguments,
                                  struct str answer_id, size_t place);
/* What was collected of an answer becomes the completion's; `calls` is taken over. */
void chat_complete(struct completion *completion, const struct buf *text, struct json_object *calls,
                   struct arena *arena);
void chat_set_usage(struct usage *usage, int64_t prompt, int64_t completion);
