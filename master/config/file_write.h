/* Files of the configuration, written so that a reader or a crash sees all of the text or none. */
#pragma once

#include "shared/base/error.h"
#include "shared/base/str.h"

#include <sys/types.h>

/* Makes the folder NAME of the configuration in `directory`, whose group it gets, unless it is
 * there. */
bool folder_make(const char *directory, const char *name, struct error *error)
    __attribute__((warn_unused_result));
enum { FILE_OF_GROUP = 0640, FILE_OF_OWNER = 0600, FILE_OF_ALL = 0644 };

/* A new file with that mode and its folder's group. False with `*exists` set when there is one by
 * that name already. */
bool file_create(const char *path, struct str text, mode_t mode, bool *exists, struct error *error)
    __attribute__((warn_unused_result));
/* Puts `text` in place of a file's; its mode, owner and group stay. A symbolic link stays, too:
 * what it names is replaced. */
bool file_replace(const char *path, struct str text, struct error *error)
    __attribute__((warn_unused_result));
