#!/bin/sh
# Installs what is missing to build, run or check promptgate on Debian and its kin.
#   install-deps.sh build    compiler and libraries
#   install-deps.sh run      the same, and curl to try it
#   install-deps.sh check    all of that, and what the tests need
# Nothing is asked of the package servers when everything is there.
set -eu

case "${1:-}" in
build | run | check) purpose=$1 ;;
*)
    echo "usage: $0 build|run|check" >&2
    exit 2
    ;;
esac

say() { echo "install-deps: $*"; }

fail() {
    echo "install-deps: $*" >&2
    exit 1
}

have_command() { command -v "$1" >/dev/null 2>&1; }

# Commands are looked for by name, for they may have come from elsewhere than Debian.
wanted_commands() {
    echo "gcc:gcc make:make pkg-config:pkg-config awk:mawk"
    [ "$purpose" = build ] || echo "curl:curl"
    [ "$purpose" != check ] ||
        echo "git:git node:nodejs npm:npm mandoc:mandoc clang-format:clang-format openssl:openssl python3:python3"
}

wanted_packages() {
    echo "libc6-dev libuv1-dev libcurl4-openssl-dev libjson-c-dev libyaml-dev libsodium-dev"
    echo "libsqlite3-dev libpq-dev libpcre2-dev libssl-dev ca-certificates tzdata"
    [ "$purpose" != check ] || echo "libcmocka-dev libtest-json-schema-acceptance-perl"
}

installed() {
    dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

# llhttp: a library of its own in newer releases, sources inside node-llhttp in Debian 12.
llhttp_there() {
    [ -f /usr/share/llhttp/llhttp.c ] || pkg-config --exists libllhttp 2>/dev/null
}

# A server that the tests start themselves: its programs, in whatever version.
postgres_there() {
    set -- /usr/lib/postgresql/*/bin/postgres
    [ -x "$1" ] && have_command psql
}

available() {
    apt-cache policy "$1" 2>/dev/null | grep -q '^  Candidate: [^(]'
}

missing() {
    for pair in $(wanted_commands); do
        have_command "${pair%%:*}" || echo "${pair##*:}"
    done
    for package in $(wanted_packages); do
        installed "$package" || echo "$package"
    done
}

may_be_root() {
    [ "$(id -u)" = 0 ] || { have_command sudo && sudo true; }
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Package servers fail now and then.
retried() {
    for pause in 2 10 0; do
        "$@" && return 0
        [ $pause = 0 ] || sleep $pause
    done
    return 1
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1
}

if ! have_command dpkg-query || ! have_command apt-get; then
    absent=$(for pair in $(wanted_commands); do
        have_command "${pair%%:*}" || echo "${pair%%:*}"
    done)
    [ -z "$absent" ] || fail "this system has no apt-get; install by hand:" $absent \
        "and the development files of libuv libcurl json-c libyaml libsodium sqlite3 libpq pcre2 openssl llhttp" \
        "(list: $0)"
    exit 0 # as good as can be told; the compiler says what else is missing
fi

needed=$(missing)
llhttp_there || needed="$needed llhttp"
[ "$purpose" != check ] || postgres_there || needed="$needed postgresql postgresql-client"
needed=$(echo $needed)
[ -n "$needed" ] || exit 0
if ! may_be_root; then
    fail "missing: $needed. Installing needs root; run this as root, once:" \
        "$(realpath "$0") $purpose"
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 1' INT TERM HUP
say "installing: $needed"
retried apt update || say "the package lists could not be refreshed; going on with the old ones"
llhttp_package=node-llhttp
available libllhttp-dev && llhttp_package=libllhttp-dev
needed=$(for name in $needed; do
    [ "$name" != llhttp ] || name=$llhttp_package
    echo "$name"
done)
needed=$(echo $needed)
# Nobody asked for a server that runs: Debian's package makes no cluster while this file is there.
no_cluster=/etc/postgresql-common/createcluster.d/promptgate-tests.conf
case " $needed " in
*" postgresql "*)
    trap 'rm -f "$log"; as_root rm -f $no_cluster' EXIT
    as_root mkdir -p "${no_cluster%/*}"
    echo "create_main_cluster = false" | as_root tee $no_cluster >/dev/null
    ;;
esac
# shellcheck disable=SC2086 # a list of words
if ! retried apt install --no-install-recommends $needed; then
    cat "$log" >&2
    fail "could not install: $needed"
fi
left=$(missing)
[ -z "$left" ] || fail "still missing after the installation:" $left
[ "$purpose" != check ] || postgres_there || fail "PostgreSQL's server or psql is still missing"
llhttp_there || fail "llhttp is still missing: neither libllhttp nor /usr/share/llhttp is there"
