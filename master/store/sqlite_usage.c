#include "master/store/sqlite_private.h"
#include "shared/base/buf.h"
#include "shared/base/step.h"

static void append_names(struct buf *sql, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_printf(sql, "%s%s", i ? ", " : "", usage_columns[i].name);
}

static int prepare_add_usage(struct store *store)
{
    struct buf sql = {0};
    buf_puts(&sql, "INSERT INTO gateway_usage_hourly (");
    append_names(&sql, usage_columns_count);
    buf_puts(&sql, ") VALUES (");
    for (size_t i = 0; i < usage_columns_count; i++)
        buf_puts(&sql, i ? ", ?" : "?");
    buf_puts(&sql, ") ON CONFLICT (");
    append_names(&sql, usage_keys_count);
    buf_puts(&sql, ") DO UPDATE SET ");
    for (size_t i = usage_keys_count; i < usage_columns_count; i++)
        buf_printf(&sql, "%s%s = %s + excluded.%s", i > usage_keys_count ? ", " : "",
                   usage_columns[i].name, usage_columns[i].name, usage_columns[i].name);
    int code = sqlite_prepare(store, buf_cstr(&sql), &store->add_usage);
    buf_free(&sql);
    return code;
}

int sqlite_prepare_usage(struct store *store)
{
    int code = prepare_add_usage(store);
    if (code == SQLITE_OK)
        code = sqlite_prepare(
            store,
            "INSERT INTO gateway_refused (minute, code, network, host, count) VALUES "
            "(?, ?, ?, ?, ?) ON CONFLICT (minute, code, network, host) "
            "DO UPDATE SET count = count + excluded.count",
            &store->add_refused);
    return code;
}

static int bind_usage(struct store *store, const struct usage *usage, size_t index)
{
    const struct usage_column *column = &usage_columns[index];
    const char *field = (const char *)usage + column->offset;
    int place = (int)index + 1;
    if (column->kind == USAGE_KIND_TEXT)
        return sqlite_bind_text(store->add_usage, place, *(const struct str *)field);
    int64_t value = *(const int64_t *)field;
    if (column->kind != USAGE_KIND_HOUR)
        return sqlite3_bind_int64(store->add_usage, place, value);
    return sqlite_bind_text(store->add_usage, place,
                            str_of(clock_rfc3339(value, store->scratch[0].text)));
}

static int write_one(struct store *store, const struct usage *usage)
{
    for (size_t i = 0; i < usage_columns_count; i++) {
        int code = bind_usage(store, usage, i);
        if (code != SQLITE_OK)
            return code;
    }
    return sqlite_finish(store->add_usage);
}

int sqlite_write_usage(struct store *store)
{
    int code = SQLITE_OK;
    for (size_t i = 0; code == SQLITE_OK && i < store->usage.count; i++) {
        code = write_one(store, &store->usage.sums[i]);
        STEP(usage_added);
    }
    return code;
}

static int write_refused(struct store *store, const struct refused *refused)
{
    sqlite3_stmt *statement = store->add_refused;
    char minute[CLOCK_RFC3339_SIZE];
    const struct str texts[] = {str_of(clock_rfc3339(refused->minute_wall_ms, minute)),
                                refused->code, refused->network, refused->host};
    for (int i = 0; i < 4; i++) {
        int code = sqlite_bind_text(statement, i + 1, texts[i].at ? texts[i] : STR(""));
        if (code != SQLITE_OK)
            return code;
    }
    sqlite3_bind_int64(statement, 5, refused->count);
    return sqlite_finish(statement);
}

int sqlite_write_refused(struct store *store, const struct store_batch *batch)
{
    int code = SQLITE_OK;
    for (size_t i = 0; code == SQLITE_OK && i < batch->refused_count; i++) {
        code = write_refused(store, &batch->refused[i]);
        STEP(refused_added);
    }
    return code;
}
