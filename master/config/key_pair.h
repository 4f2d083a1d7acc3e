/* The pair of keys of a configuration, secret.pub and secret.key, and everything that is sealed
 * with it. Whatever is interrupted here leaves all of it readable, and can be done again. */
#pragma once

#include "master/config/sealed.h"

/* Those who change the pair or seal for it come one after the other. Returns a descriptor to be
 * closed when done, -1 with the reason. */
int key_pair_lock(const char *directory, struct error *error) __attribute__((warn_unused_result));
enum key_pair_made {
    KEY_PAIR_MADE,
    KEY_PAIR_COMPLETED, /* secret.pub from secret.key, which may be the service manager's */
    KEY_PAIR_THERE,     /* nothing was missing */
};

/* Both files, unless they are there; never another key in the place of one. */
bool key_pair_make(const char *directory, enum key_pair_made *made, struct error *error)
    __attribute__((warn_unused_result));
/* Whom to seal for. Where this process may read secret.key, too, the halves must fit. */
bool key_pair_public(const char *directory, struct sealing_public *key, struct error *error)
    __attribute__((warn_unused_result));
/* Another pair, and everything that is sealed in promptgate.yaml and credentials.d sealed anew:
 * first secret.key gets the new key beside the old one, which goes when nothing needs it any more.
 * One that was interrupted goes on. `*resealed` counts texts. */
bool key_pair_change(const char *directory, unsigned *resealed, struct error *error)
    __attribute__((warn_unused_result));
