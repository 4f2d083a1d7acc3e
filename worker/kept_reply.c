#include "worker/kept_reply.h"

#include <string.h>

/* VERSION KIND SESSION[16] LENGTH[2] DECISION BODY; the length is little-endian. */
enum { VERSION = 1, SESSION_AT = 2, LENGTH_AT = 18, DECISION_AT = 20, DECISION_MAX = 65535 };

void kept_reply_write(const struct kept_reply *reply, struct buf *out)
{
    struct str decision = reply->decision;
    if (decision.len > DECISION_MAX)
        decision.len = DECISION_MAX;
    buf_putc(out, VERSION);
    buf_putc(out, (char)reply->kind);
    buf_str(out, (struct str){(const char *)reply->session.bytes, sizeof reply->session.bytes});
    buf_putc(out, (char)(decision.len & 0xFF));
    buf_putc(out, (char)(decision.len >> 8));
    buf_str(out, decision);
    buf_str(out, reply->body);
}

bool kept_reply_read(struct str bytes, struct kept_reply *reply)
{
    const unsigned char *at = (const unsigned char *)bytes.at;
    if (bytes.len < DECISION_AT || at[0] != VERSION || at[1] >= KEPT_KINDS)
        return false;
    size_t decision_len = (size_t)(at[LENGTH_AT] | at[LENGTH_AT + 1] << 8);
    if (bytes.len - DECISION_AT < decision_len)
        return false;
    *reply = (struct kept_reply){.kind = at[1], .decision = STR_ABSENT};
    memcpy(reply->session.bytes, at + SESSION_AT, sizeof reply->session.bytes);
    if (decision_len > 0)
        reply->decision = (struct str){bytes.at + DECISION_AT, decision_len};
    size_t body_at = DECISION_AT + decision_len;
    reply->body = (struct str){bytes.at + body_at, bytes.len - body_at};
    return true;
}
