#!/bin/sh
# unpack.sh FOLDER PACKAGE...: Debian's packages and the libraries that they need, unpacked below
# FOLDER and not installed. Programs find the libraries there with LD_LIBRARY_PATH. Without apt-get
# nothing is done.
set -eu
folder=$1
shift
cd "$folder"

# What a package needs and the machine lacks.
missing() {
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances "$1" | grep '^lib' | sort -u | while read -r name; do
        dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed ||
            echo "$name"
    done
}

fetch() {
    for package in "$@"; do
        needed=$(missing "$package" | grep -v -e :any -e '^libc6-' || true)
        # shellcheck disable=SC2086 # a list of words
        apt-get -qq -o APT::Sandbox::User=root download "$package" $needed || return 1
    done
}

# The lists of packages may be missing, or too old for what the servers have.
refresh() {
    if [ "$(id -u)" = 0 ]; then apt-get -qq update; else sudo -n apt-get -qq update; fi
}

if ! command -v apt-get >/dev/null 2>&1; then
    echo "unpack: no apt-get here: what needs $* is left out" >&2
    exit 0
fi
fetch "$@" || { refresh && fetch "$@"; }
for archive in ./*.deb; do
    dpkg -x "$archive" .
    rm "$archive"
done
rm -rf usr/share
