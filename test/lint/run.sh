#!/bin/sh
# run.sh BUILD [CHECK…]: the rules of the house that no compiler checks. Prints each breach and exits
# 1 if there is any. Without names all checks run.
set -u
build=$(cd "$1" && pwd) || exit 2
shift
cd "$(dirname "$0")/../.." || exit 2
failed=0

sources() {
    find shared worker master test \( -name node_modules -o -name peers \) -prune -o \
        \( -name '*.c' -o -name '*.h' -o -name '*.def' \) -print | sort
}

own_text() {
    find Makefile README.md .ci shared worker master sql etc man packaging test \
        \( -name node_modules -o -name peers -o -name corpus \) -prune -o \
        -type f ! -name package-lock.json -print 2>/dev/null | sort
}

includes() {
    awk -f test/lint/includes.awk test/lint/rules.txt $(sources)
}

symbols() {
    listing=$(mktemp -d) || return 1
    status=0
    for name in libshared libworker libmaster; do
        nm -gP "$build/$name.a" > "$listing/$name" || status=1
    done
    awk -f test/lint/symbols.awk "$listing"/lib* || status=1
    rm -r "$listing"
    return $status
}

length() {
    own_text | grep -E '\.(c|h|def|sh|awk|js|mjs|ts|py|sql)$' | xargs awk '
        FNR == 901 { print FILENAME ": more than 900 lines"; long = 1 }
        END { exit long }'
}

format() {
    sources | grep -v '\.def$' | xargs clang-format --dry-run -Werror
}

# The words are written so that this file does not hold them.
leftovers() {
    ! own_text | xargs grep -InwE 'TOD[O]|FIXM[E]|XX[X]'
}

for check in ${*:-includes symbols length format leftovers}; do
    if ! found=$("$check" 2>&1); then
        printf '%s\n' "$found" | sed "s/^/lint: $check: /"
        failed=1
    fi
done
exit $failed
