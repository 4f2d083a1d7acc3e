#include "worker/forwarded.h"

/* Who passed the request on, or sent it. */
struct hop {
    bool local; /* on a UNIX socket, without an address */
    struct ip_address address;
};

static bool is_believed(const struct config_http *config, const struct hop *hop)
{
    if (hop->local)
        return config->trusts_local;
    for (size_t i = 0; i < config->trusted_proxies_count; i++)
        if (ip_network_holds(&config->trusted_proxies[i], &hop->address))
            return true;
    return false;
}

/* "192.0.2.1", "192.0.2.1:4711", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:4711". */
static bool parse_element(struct str text, struct ip_address *address)
{
    if (ip_address_parse(text, address))
        return true;
    if (text.len > 0 && text.at[0] == '[') {
        const char *close = memchr(text.at, ']', text.len);
        return close &&
               ip_address_parse((struct str){text.at + 1, (size_t)(close - text.at) - 1}, address);
    }
    struct str port = text, host = str_split(&port, ':');
    unsigned long long number;
    return port.at && str_to_u64(port, &number) && ip_address_parse(host, address);
}

/* Takes the last element from `list`, which becomes what is before it; absent behind the first. */
static struct str take_last(struct str *list)
{
    const char *comma = memrchr(list->at, ',', list->len);
    size_t before = comma ? (size_t)(comma - list->at) : 0;
    size_t from = comma ? before + 1 : 0;
    struct str last = {list->at + from, list->len - from};
    *list = comma ? (struct str){list->at, before} : STR_ABSENT;
    return str_trim(last);
}

/* Through one header, from its end; false when nothing before is to be believed. */
static bool follow(const struct config_http *config, struct str list, struct hop *hop)
{
    while (list.at) {
        struct hop before = {0};
        if (!is_believed(config, hop) || !parse_element(take_last(&list), &before.address))
            return false;
        *hop = before;
    }
    return true;
}

const char *forwarded_client_ip(const struct config_http *config,
                                const struct http_request *request, char text[IP_TEXT_SIZE])
{
    struct hop hop = {0};
    hop.local = !ip_address_parse(str_of(request->client_ip), &hop.address);
    if (!is_believed(config, &hop))
        return request->client_ip;
    bool more = true;
    for (size_t i = request->headers_count; more && i-- > 0;)
        if (str_eq(request->headers[i].name, STR("x-forwarded-for")))
            more = follow(config, request->headers[i].value, &hop);
    return hop.local ? request->client_ip : ip_address_format(&hop.address, text);
}
