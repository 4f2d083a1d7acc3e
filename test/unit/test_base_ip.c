#include "shared/base/ip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void addresses(void **state)
{
    static const char *const good[][2] = {
        {"192.0.2.1", "192.0.2.1"},      {"2001:DB8::1", "2001:db8::1"}, {"::1", "::1"},
        {"::ffff:10.0.0.1", "10.0.0.1"}, {"0.0.0.0", "0.0.0.0"},
    };
    static const char *const bad[] = {"",         "1.2.3",      "1.2.3.4 ", "1.2.3.256",
                                      "x",        "[::1]",      "::1%lo",   "1.2.3.4:5",
                                      "01.2.3.4", "1.2.3.4/32", "unknown"};
    struct ip_address address;
    char text[IP_TEXT_SIZE];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(ip_address_parse(str_of(good[i][0]), &address));
        assert_string_equal(ip_address_format(&address, text), good[i][1]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(ip_address_parse(str_of(bad[i]), &address));
    assert_false(ip_address_parse((struct str){"1.2.3.4\0", 8}, &address));
}

static void networks(void **state)
{
    static const struct {
        const char *network, *address;
        bool held;
    } cases[] = {
        {"10.0.0.0/8", "10.255.0.1", true},
        {"10.0.0.0/8", "11.0.0.1", false},
        {"192.168.4.0/22", "192.168.7.9", true},
        {"192.168.4.0/22", "192.168.8.0", false},
        {"127.0.0.1", "127.0.0.1", true},
        {"127.0.0.1", "127.0.0.2", false},
        {"0.0.0.0/0", "203.0.113.9", true},
        {"0.0.0.0/0", "::1", false},
        {"::/0", "203.0.113.9", true},
        {"2001:db8::/33", "2001:db8:7fff::", true},
        {"2001:db8::/33", "2001:db8:8000::", false},
        {"::1/128", "::1", true},
        {"10.0.0.0/8", "::ffff:10.1.1.1", true},
    };
    static const char *const bad[] = {"",           "10.0.0.0/33", "10.0.0.0/",    "10.0.0.1/8",
                                      "::/129",     "10.0.0.0/-1", "2001:db8::/8", "10.0.0.0/08x",
                                      "example.com"};
    struct ip_network network;
    struct ip_address address;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(ip_network_parse(str_of(cases[i].network), &network));
        assert_true(ip_address_parse(str_of(cases[i].address), &address));
        if (ip_network_holds(&network, &address) != cases[i].held)
            fail_msg("%s in %s", cases[i].address, cases[i].network);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (ip_network_parse(str_of(bad[i]), &network))
            fail_msg("%s is no network", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(addresses), cmocka_unit_test(networks)};
    return cmocka_run_group_tests_name("network", tests, NULL, NULL);
}
