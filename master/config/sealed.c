#include "master/config/sealed.h"

#include "shared/base/xalloc.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(crypto_box_PUBLICKEYBYTES == 32 && crypto_box_SECRETKEYBYTES == 32, "X25519");

#define PUBLIC_MARK "promptgate-public-key:"
#define SECRET_MARK "promptgate-secret-key:"
#define SEALED_MARK "sealed:"

/* For two keys, as while a pair is being changed. */
enum { SECRET_TEXT_ROOM = 256 };
enum { KEY_BYTES = 32, KEY_TEXT_LEN = 43, BASE64 = sodium_base64_VARIANT_URLSAFE_NO_PADDING };

static bool decode(struct str text, uint8_t *out, size_t size, size_t *len)
{
    return text.len > 0 &&
           sodium_base642bin(out, size, text.at, text.len, NULL, len, NULL, BASE64) == 0;
}

static void encode(const uint8_t *bytes, size_t len, struct buf *out)
{
    size_t size = sodium_base64_ENCODED_LEN(len, BASE64);
    sodium_bin2base64(buf_reserve(out, size), size, bytes, len, BASE64);
    out->len += size - 1;
}

/* --- keys --- */

/* A line with `mark` and a key behind it. */
static bool read_key(struct str line, const char *mark, uint8_t key[KEY_BYTES])
{
    size_t mark_len = strlen(mark), len;
    return line.len == mark_len + KEY_TEXT_LEN && memcmp(line.at, mark, mark_len) == 0 &&
           decode((struct str){line.at + mark_len, KEY_TEXT_LEN}, key, KEY_BYTES, &len) &&
           len == KEY_BYTES;
}

static void write_key(const char *mark, const uint8_t key[KEY_BYTES], struct buf *text)
{
    buf_puts(text, mark);
    encode(key, KEY_BYTES, text);
    buf_putc(text, '\n');
}

void sealing_new_pair(struct buf *public_text, struct buf *secret_text)
{
    uint8_t public_key[KEY_BYTES], secret_key[KEY_BYTES];
    crypto_box_keypair(public_key, secret_key);
    buf_reserve(secret_text, SECRET_TEXT_ROOM); /* growing would leave a copy behind */
    write_key(PUBLIC_MARK, public_key, public_text);
    write_key(SECRET_MARK, secret_key, secret_text);
    sodium_memzero(secret_key, sizeof secret_key);
}

void sealing_public_write(const struct sealing_public *key, struct buf *text)
{
    write_key(PUBLIC_MARK, key->bytes, text);
}

bool sealing_read_public(struct str text, struct sealing_public *key, struct error *error)
{
    return read_key(str_trim_lines(str_split(&text, '\n')), PUBLIC_MARK, key->bytes) ||
           error_set(error, "holds no public key: \"" PUBLIC_MARK "…\" is wanted");
}

static bool next_key(struct str *rest, uint8_t key[KEY_BYTES])
{
    while (rest->at) {
        struct str line = str_trim_lines(str_split(rest, '\n'));
        if (line.len > 0)
            return read_key(line, SECRET_MARK, key);
    }
    return false;
}

static bool no_key(struct error *error)
{
    return error_set(error, SEALING_KEY_FILE " holds no key: \"" SECRET_MARK "…\" is wanted");
}

bool sealing_public_of(const char *keys, struct sealing_public *key, struct error *error)
{
    uint8_t secret_key[KEY_BYTES];
    struct str rest = str_of(keys);
    bool good = next_key(&rest, secret_key);
    if (good)
        crypto_scalarmult_base(key->bytes, secret_key);
    sodium_memzero(secret_key, sizeof secret_key);
    return good || no_key(error);
}

bool sealing_public_equal(const struct sealing_public *a, const struct sealing_public *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

size_t sealing_count(const char *keys)
{
    uint8_t key[KEY_BYTES];
    size_t count = 0;
    for (struct str rest = str_of(keys); next_key(&rest, key);)
        count++;
    sodium_memzero(key, sizeof key);
    return count;
}

/* --- boxes --- */

bool sealed_is(const char *source)
{
    return strncmp(source, SEALED_MARK, strlen(SEALED_MARK)) == 0;
}

void sealed_write(const struct sealing_public *key, struct str secret, struct buf *out)
{
    size_t len = secret.len + crypto_box_SEALBYTES;
    uint8_t *box = xmalloc(len);
    if (crypto_box_seal(box, (const uint8_t *)secret.at, secret.len, key->bytes) != 0)
        abort(); /* it cannot fail */
    buf_puts(out, SEALED_MARK);
    encode(box, len, out);
    free(box);
}

/* The box of a sealed text, to be freed; NULL when it is none. */
static uint8_t *read_box(const char *source, size_t *len)
{
    struct str text = str_of(source + strlen(SEALED_MARK));
    uint8_t *box = xmalloc(text.len + 1);
    if (decode(text, box, text.len, len) && *len > crypto_box_SEALBYTES)
        return box;
    free(box);
    return NULL;
}

static bool no_box(struct error *error)
{
    return error_set(error, "the sealed text is damaged: seal it again with "
                            "`promptgate credential add`");
}

bool sealed_check(const char *source, struct error *error)
{
    size_t len;
    uint8_t *box = read_box(source, &len);
    free(box);
    return box || no_box(error);
}

static bool open_with(const uint8_t secret_key[KEY_BYTES], const uint8_t *box, size_t len,
                      char *out)
{
    uint8_t public_key[KEY_BYTES];
    crypto_scalarmult_base(public_key, secret_key);
    return crypto_box_seal_open((uint8_t *)out, box, len, public_key, secret_key) == 0;
}

static bool open_box(const uint8_t *box, size_t len, const char *keys, struct secret_memory *memory,
                     const char **secret, struct error *error)
{
    uint8_t key[KEY_BYTES];
    bool any = false, opened = false;
    char *text = secret_memory_take(memory, len - crypto_box_SEALBYTES + 1);
    if (!text)
        return error_set(error, "there is no room for more secrets");
    for (struct str rest = str_of(keys); !opened && next_key(&rest, key);) {
        any = true;
        opened = open_with(key, box, len, text);
    }
    sodium_memzero(key, sizeof key);
    *secret = text;
    if (opened && !memchr(text, '\0', len - crypto_box_SEALBYTES))
        return true;
    secret_memory_shrink(memory, text, 0);
    if (opened)
        return error_set(error, "what is sealed holds a NUL");
    return any ? error_set(error, "it was sealed for another key than that of " SEALING_KEY_FILE
                                  ": seal it again with `promptgate credential add`")
               : no_key(error);
}

bool sealed_open(const char *source, const char *keys, struct secret_memory *memory,
                 const char **secret, struct error *error)
{
    size_t len;
    uint8_t *box = read_box(source, &len);
    if (!box)
        return no_box(error);
    bool good = open_box(box, len, keys, memory, secret, error);
    free(box);
    return good;
}
