#include "master/config/base_url.h"

#include <arpa/inet.h>
#include <ctype.h>

static bool is_host_char(char c)
{
    return isalnum((unsigned char)c) || c == '.' || c == '-' || c == '_';
}

static bool host_valid(struct str host)
{
    if (host.len > 2 && host.at[0] == '[' && host.at[host.len - 1] == ']') {
        char text[INET6_ADDRSTRLEN];
        struct in6_addr address;
        if (host.len - 2 >= sizeof text)
            return false;
        memcpy(text, host.at + 1, host.len - 2);
        text[host.len - 2] = '\0';
        return inet_pton(AF_INET6, text, &address) == 1;
    }
    for (size_t i = 0; i < host.len; i++)
        if (!is_host_char(host.at[i]))
            return false;
    return host.len > 0 && host.len <= 253;
}

static bool is_loopback(struct str host)
{
    if (str_eq_nocase(host, STR("localhost")) || str_eq(host, STR("[::1]")))
        return true;
    char text[INET_ADDRSTRLEN];
    struct in_addr address;
    if (host.len >= sizeof text)
        return false;
    memcpy(text, host.at, host.len);
    text[host.len] = '\0';
    return inet_pton(AF_INET, text, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

/* Cuts ":PORT" off the end of an authority. */
static bool split_port(struct str *host)
{
    size_t at = host->len;
    while (at > 0 && isdigit((unsigned char)host->at[at - 1]))
        at--;
    if (at == 0 || host->at[at - 1] != ':')
        return true;
    unsigned long long port;
    struct str digits = {host->at + at, host->len - at};
    if (!str_to_u64(digits, &port) || port == 0 || port > 65535)
        return false;
    host->len = at - 1;
    return true;
}

bool base_url_check(struct str url, bool allow_http, struct str *kept, struct error *error)
{
    bool https = str_starts_nocase(url, STR("https://"));
    if (!https && !str_starts_nocase(url, STR("http://")))
        return error_set(error, "must begin with https://");
    for (size_t i = 0; i < url.len; i++)
        if ((unsigned char)url.at[i] <= 0x20 || (unsigned char)url.at[i] >= 0x7F ||
            strchr("@?#\\\"<>", url.at[i]))
            return error_set(error, "must be scheme, host, port and path alone: no user, query, "
                                    "fragment, space or special character");
    size_t scheme = https ? strlen("https://") : strlen("http://");
    struct str host = {url.at + scheme, url.len - scheme};
    const char *slash = memchr(host.at, '/', host.len);
    if (slash)
        host.len = (size_t)(slash - host.at);
    if (!split_port(&host) || !host_valid(host))
        return error_set(error, "has no valid host and port: write https://HOST[:PORT]/PATH");
    if (!https && !allow_http && !is_loopback(host))
        return error_set(error, "would send the key unencrypted: use https, or set "
                                "allow_http: true when the network between is trusted");
    *kept = url;
    while (kept->at[kept->len - 1] == '/')
        kept->len--;
    return true;
}
