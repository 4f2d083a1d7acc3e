#include "master/config/base_url.h"
#include "master/config/drafts.h"
#include "master/config/sealed.h"
#include "master/config/secret.h"

static const char *const base_urls[] = {
#define PROVIDER(id, name, url, key) url,
#include "shared/providers.def"
#undef PROVIDER
};

static void read_base_url(struct reading *reading, struct credential_draft *credential)
{
    struct section *section = &credential->section;
    if (!credential->base_url) {
        credential->base_url = base_urls[credential->provider];
        return;
    }
    struct error error;
    struct str kept;
    if (section->bad[CREDENTIAL_base_url])
        return;
    if (base_url_check(str_of(credential->base_url), credential->allow_http, &kept, &error))
        credential->base_url = arena_copy(reading->lasting, kept).at;
    else
        section_error(reading, section, CREDENTIAL_base_url, "%s", error.message);
}

static void warn_of_key(struct reading *reading, const struct section *section, const char *what)
{
    problem_warning(reading->problems, section->file, section->at[CREDENTIAL_api_key]->mark,
                    "api_key", "%s", what);
}

/* True, with the reason, when nobody needs it and it can't be opened. What is damaged is opened,
 * and fails. */
static bool stays_closed(const struct reading *reading, const char *source, struct error *reason)
{
    struct error why;
    if (!reading->only_looks || !sealed_is(source) || !sealed_check(source, &why) ||
        secret_sealing_keys(reading->directory, &why))
        return false;
    error_set(reason, "it is sealed, and stays closed here: %.400s", why.message);
    return true;
}

static void read_api_key(struct reading *reading, struct credential_draft *credential)
{
    struct section *section = &credential->section;
    struct error error;
    bool plain = false;
    if (section->bad[CREDENTIAL_api_key])
        return;
    const char *source = credential->api_key;
    credential->api_key = NULL;
    if (!source) {
        if (!section->bad[CREDENTIAL_provider] &&
            provider_needs_key((enum provider_id)credential->provider))
            section_error(reading, section, CREDENTIAL_api_key,
                          "missing: %s needs a key, sealed with `promptgate credential add`, or as "
                          "env:NAME or file:PATH",
                          provider_name((enum provider_id)credential->provider));
    } else if (stays_closed(reading, source, &error)) {
        warn_of_key(reading, section, error.message);
    } else if (!secret_open(source, SECRET_KEY, reading->directory, reading->secrets,
                            &credential->api_key, &plain, &error)) {
        section_error(reading, section, CREDENTIAL_api_key, "%s", error.message);
    } else if (plain) {
        warn_of_key(
            reading, section,
            "the key itself stands in this file and in every process's memory: seal it with "
            "`promptgate credential add`, or use file:PATH or env:NAME");
    }
}

/* RFC 9110 section 5.6.2: a token. */
static bool header_name_valid(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.at[i];
        if (c <= 0x20 || c >= 0x7F || strchr("\"(),/:;<=>?@[\\]{}", c))
            return false;
    }
    return name.len > 0 && name.len <= 256;
}

static bool header_value_valid(struct str value)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.at[i];
        if ((c < 0x20 && c != '\t') || c == 0x7F)
            return false;
    }
    return value.len <= 8192;
}

/* Where a message ends, whom it is for, how it is encoded and who asks: a call says that itself,
 * and a second header of the name would contradict it. */
static bool is_of_the_call(struct str name)
{
    static const char *const names[] = {"accept-encoding",  "authorization",
                                        "connection",       "content-encoding",
                                        "content-length",   "content-type",
                                        "expect",           "host",
                                        "proxy-connection", "te",
                                        "trailer",          "upgrade",
                                        "transfer-encoding"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_eq_nocase(name, str_of(names[i])))
            return true;
    return false;
}

static const char *header_problem(const struct yaml_entry *entry)
{
    const struct yaml_node *value = entry->value;
    if (!header_name_valid(entry->key->text))
        return "is not a header's name: letters, digits and !#$%&'*+-.^_`|~ alone";
    if (is_of_the_call(entry->key->text))
        return "is set by the gateway itself: leave it out";
    if (value->kind != NODE_SCALAR || yaml_node_class(value) != CLASS_STRING)
        return "must be a text; put it in quotes";
    if (!header_value_valid(value->text))
        return "holds a line break or control character, which a header cannot carry";
    return NULL;
}

static void read_headers(struct reading *reading, struct credential_draft *credential)
{
    const struct yaml_node *map = credential->headers;
    if (!map)
        return;
    if (map->count > CONFIG_HEADERS_MAX)
        section_error(reading, &credential->section, CREDENTIAL_headers, "are too many: %d at most",
                      CONFIG_HEADERS_MAX);
    credential->headers_read =
        arena_alloc(reading->lasting, map->count * sizeof *credential->headers_read);
    for (size_t i = 0; i < map->count; i++) {
        const struct yaml_entry *entry = &map->entries[i];
        const char *problem = header_problem(entry);
        if (problem) {
            problem_error(reading->problems, credential->section.file, entry->key->mark,
                          arena_printf(reading->scratch, "headers.%s",
                                       yaml_shown(entry->key->text, reading->scratch)),
                          "%s", problem);
            continue;
        }
        credential->headers_read[credential->headers_count++] =
            (struct config_header){arena_copy(reading->lasting, entry->key->text).at,
                                   arena_copy(reading->lasting, entry->value->text).at};
    }
}

void credential_drafts_read(struct reading *reading, const struct config_files *files,
                            struct drafts *drafts)
{
    drafts->credentials = arena_alloc(reading->scratch, files->count * sizeof *drafts->credentials);
    drafts->credentials_count = files->count;
    for (size_t i = 0; i < files->count; i++) {
        struct credential_draft *credential = &drafts->credentials[i];
        const struct config_file *file = &files->at[i];
        credential->name = arena_strdup(reading->lasting, file->name);
        credential->section = (struct section){
            .id = SECTION_CREDENTIAL, .file = file, .path = "", .mark = {1, 1}, .node = file->root};
        if (!section_read(reading, &credential->section))
            continue;
        read_base_url(reading, credential);
        read_api_key(reading, credential);
        read_headers(reading, credential);
    }
}
