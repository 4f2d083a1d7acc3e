/* Answers that are asked for again, in the SQLite file of sessions. */
#include "master/store/sessions_sqlite_private.h"

/* In `kept`, which doesn't move any more. */
static void keep_answer(struct buf *kept, struct kept_answer *answer)
{
    struct str *texts[] = {&answer->key, &answer->content, &answer->answer};
    buf_clear(kept);
    buf_reserve(kept, answer->key.len + answer->content.len + answer->answer.len + 1);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *at = kept->data + kept->len;
        buf_str(kept, *texts[i]);
        texts[i]->at = at;
    }
}

static int find(struct sessions_store *store, struct str key, struct kept_answer *answer,
                bool *found)
{
    sqlite3_stmt *statement = store->statements[FIND_ANSWER];
    int code = sessions_sqlite_bind_blob(statement, 1, key);
    if (code != SQLITE_OK)
        return code;
    *found = sqlite3_step(statement) == SQLITE_ROW;
    if (*found) {
        *answer = (struct kept_answer){.key = sessions_sqlite_text(statement, 0),
                                       .content = sessions_sqlite_text(statement, 1),
                                       .request = sessions_sqlite_id(statement, 2),
                                       .stored_ms = sqlite3_column_int64(statement, 3),
                                       .expires_ms = sqlite3_column_int64(statement, 4),
                                       .answer = sessions_sqlite_text(statement, 5)};
        keep_answer(&store->texts, answer);
    }
    return sqlite3_reset(statement);
}

bool sessions_sqlite_find_answer(struct sessions_store *store, struct str key,
                                 struct kept_answer *answer, bool *found, struct error *error)
{
    if (!sessions_sqlite_connected(store, error))
        return false;
    int code = find(store, key, answer, found);
    if (code == SQLITE_OK)
        return true;
    *found = false;
    return sessions_sqlite_failed(store, code, "can't find an answer", error);
}

static int insert(struct sessions_store *store, const struct kept_answer *answer, bool *existed)
{
    sqlite3_stmt *statement = store->statements[INSERT_ANSWER];
    int code = sessions_sqlite_bind_blob(statement, 1, answer->key);
    if (code == SQLITE_OK)
        code = sessions_sqlite_bind_blob(statement, 2, answer->content);
    if (code == SQLITE_OK)
        code = sessions_sqlite_bind_id(statement, 3, &answer->request);
    sqlite3_bind_int64(statement, 4, answer->stored_ms);
    sqlite3_bind_int64(statement, 5, answer->expires_ms);
    sqlite3_bind_int64(statement, 6, (int64_t)answer->answer.len);
    if (code == SQLITE_OK)
        code = sessions_sqlite_bind_blob(statement, 7, answer->answer);
    if (code == SQLITE_OK)
        code = sqlite_finish(statement);
    *existed = code == SQLITE_OK && sqlite3_changes(store->db) == 0;
    return code;
}

static int delete_expired(struct sessions_store *store, const struct kept_answer *answer,
                          bool *deleted)
{
    sqlite3_stmt *statement = store->statements[DELETE_EXPIRED_ANSWER];
    int code = sessions_sqlite_bind_blob(statement, 1, answer->key);
    sqlite3_bind_int64(statement, 2, answer->stored_ms);
    if (code == SQLITE_OK)
        code = sqlite_finish(statement);
    *deleted = code == SQLITE_OK && sqlite3_changes(store->db) > 0;
    return code;
}

bool sessions_sqlite_add_answer(struct sessions_store *store, const struct kept_answer *answer,
                                bool *existed, struct error *error)
{
    bool deleted = false;
    if (!sessions_sqlite_under_way(store, error))
        return false;
    int code = insert(store, answer, existed);
    if (code == SQLITE_OK && *existed)
        code = delete_expired(store, answer, &deleted);
    if (code == SQLITE_OK && deleted)
        code = insert(store, answer, existed);
    if (code == SQLITE_OK)
        return true;
    *existed = false;
    return sessions_sqlite_failed(store, code, "can't store an answer", error);
}

/* Runs one that deletes: how many rows went, and how many bytes. */
static int count_deleted(sqlite3_stmt *statement, unsigned *count, int64_t *bytes)
{
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        *bytes += sqlite3_column_int64(statement, 0);
        ++*count;
    }
    sqlite3_reset(statement);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

bool sessions_sqlite_sweep_answers(struct sessions_store *store, int64_t now_ms, unsigned most,
                                   unsigned *done, struct error *error)
{
    sqlite3_stmt *statement = store->statements[SWEEP_ANSWERS];
    unsigned count = 0;
    int64_t bytes = 0;
    if (!sessions_sqlite_under_way(store, error))
        return false;
    sqlite3_bind_int64(statement, 1, now_ms);
    sqlite3_bind_int64(statement, 2, most);
    int code = count_deleted(statement, &count, &bytes);
    if (code != SQLITE_OK)
        return sessions_sqlite_failed(store, code, "can't sweep answers", error);
    *done = count;
    return true;
}

bool sessions_sqlite_answers_bytes(struct sessions_store *store, int64_t *bytes,
                                   struct error *error)
{
    if (!sessions_sqlite_connected(store, error))
        return false;
    sqlite3_stmt *statement = store->statements[ANSWERS_BYTES];
    if (sqlite3_step(statement) == SQLITE_ROW)
        *bytes = sqlite3_column_int64(statement, 0);
    int code = sqlite3_reset(statement);
    return code == SQLITE_OK || sessions_sqlite_failed(store, code, "can't sum up answers", error);
}

bool sessions_sqlite_drop_answers(struct sessions_store *store, unsigned most, unsigned *done,
                                  int64_t *bytes, struct error *error)
{
    sqlite3_stmt *statement = store->statements[DROP_ANSWERS];
    unsigned count = 0;
    int64_t dropped = 0;
    if (!sessions_sqlite_under_way(store, error))
        return false;
    sqlite3_bind_int64(statement, 1, most);
    int code = count_deleted(statement, &count, &dropped);
    if (code != SQLITE_OK)
        return sessions_sqlite_failed(store, code, "can't drop answers", error);
    *done = count;
    *bytes = dropped;
    return true;
}
