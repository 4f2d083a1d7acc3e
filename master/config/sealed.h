/* Sealed secrets: whoever has the public half of a pair of keys seals, only who has the secret half
 * opens (libsodium's sealed boxes: X25519 and XSalsa20-Poly1305). As text: "sealed:" and the box.
 *
 *   secret.pub   one line, "promptgate-public-key:" and the key
 *   secret.key   "promptgate-secret-key:" and the key, a line each: all of them open, so that while
 * the pair is being changed both what is sealed anew and what is not yet can be read
 *
 * Boxes and keys are in base64url without padding. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/error.h"
#include "shared/base/secret_memory.h"

#include <stdint.h>

#define SEALING_PUBLIC_FILE "secret.pub"
#define SEALING_KEY_FILE "secret.key"

struct sealing_public {
    uint8_t bytes[32];
};

/* A new pair, as the texts of both files. The caller wipes the secret one. */
void sealing_new_pair(struct buf *public_text, struct buf *secret_text);
/* Appends the text of a secret.pub. */
void sealing_public_write(const struct sealing_public *key, struct buf *text);
/* From such a text. */
bool sealing_read_public(struct str text, struct sealing_public *key, struct error *error)
    __attribute__((warn_unused_result));
/* The public half of the first key of secret.key's text. */
bool sealing_public_of(const char *keys, struct sealing_public *key, struct error *error)
    __attribute__((warn_unused_result));
bool sealing_public_equal(const struct sealing_public *a, const struct sealing_public *b);
/* How many keys the text of a secret.key has. */
size_t sealing_count(const char *keys);

bool sealed_is(const char *source);
/* Appends the text that stands for the secret. */
void sealed_write(const struct sealing_public *key, struct str secret, struct buf *out);
/* Whether it looks like a sealed text; no key is needed. */
bool sealed_check(const char *source, struct error *error) __attribute__((warn_unused_result));
/* With the keys of secret.key's text into `memory`, NUL-terminated. */
bool sealed_open(const char *source, const char *keys, struct secret_memory *memory,
                 const char **secret, struct error *error) __attribute__((warn_unused_result));
