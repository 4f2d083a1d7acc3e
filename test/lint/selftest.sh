#!/bin/sh
# Shows that `make lint` finds what it is for: seeds one breach of each kind in a copy of the tree.
set -u
cd "$(dirname "$0")/../.." || exit 2
copy=$(mktemp -d) || exit 2
trap 'rm -rf "$copy"' EXIT
cc=${CC:-cc}
ar=${AR:-ar}
cases=0

for part in Makefile .clang-format shared worker master test; do
    cp -r "$part" "$copy/" || exit 2
done
find "$copy/test" -name node_modules -prune -exec rm -rf {} +
build=$copy/build
mkdir "$build"

give_up() {
    echo "lint selftest: $1" >&2
    exit 1
}

# archive NAME: a small library of the C text on stdin.
archive() {
    rm -f "$build/lib$1.a"
    "$cc" -x c -w -c -o "$build/$1.o" - && "$ar" rcs "$build/lib$1.a" "$build/$1.o" ||
        give_up "cannot build lib$1.a"
}

sound_archives() {
    archive shared << END
int uv_run(void); int shared_part(void) { return uv_run(); }
END
    archive worker << END
int shared_part(void); int curl_easy_init(void);
int worker_part(void) { return shared_part() + curl_easy_init(); }
END
    archive master << END
int worker_part(void); int sqlite3_open(void); int yaml_parse(void); int PQexec(void);
int master_part(void) { return worker_part() + sqlite3_open() + yaml_parse() + PQexec(); }
END
}

# must_fail CHECK TEXT WHAT: the check fails and says so with TEXT.
must_fail() {
    cases=$((cases + 1))
    if found=$("$copy/test/lint/run.sh" "$build" "$1"); then
        give_up "not found: $3"
    fi
    printf '%s\n' "$found" | grep -qF -e "$2" || give_up "$3: \"$2\" is not in: $found"
}

# seed FILE LINE CHECK TEXT: the line at the end of the file is a breach that names the file.
seed() {
    mkdir -p "$(dirname "$copy/$1")"
    [ -e "$copy/$1" ] && cp "$copy/$1" "$copy/kept"
    printf '%s\n' "$2" >> "$copy/$1"
    must_fail "$3" "lint: $3: $1" "$2 in $1"
    printf '%s\n' "$found" | grep -qF -e "$4" || give_up "$2 in $1: \"$4\" is not in: $found"
    if [ -e "$copy/kept" ]; then mv "$copy/kept" "$copy/$1"; else rm "$copy/$1"; fi
}

# seed_include FILE HEADER: with its marks, as in #include.
seed_include() {
    seed "$1" "#include $2" includes "$(echo "$2" | tr -d "\"")"
}

# allow FILE HEADER: the same, but it is no breach.
allow() {
    cases=$((cases + 1))
    mkdir -p "$(dirname "$copy/$1")"
    [ -e "$copy/$1" ] && cp "$copy/$1" "$copy/kept"
    printf '#include %s\n' "$2" >> "$copy/$1"
    "$copy/test/lint/run.sh" "$build" includes || give_up "refused: $2 in $1"
    if [ -e "$copy/kept" ]; then mv "$copy/kept" "$copy/$1"; else rm "$copy/$1"; fi
}

must_pass() {
    "$copy/test/lint/run.sh" "$build" "$@" || give_up "the tree itself has breaches"
}

sound_archives
must_pass

# The table "may use | never", row by row.
seed_include shared/base/seeded.c '"shared/config.h"'
seed_include shared/base/buf.c '"shared/http/transport.h"'
seed_include shared/base/buf.c '<uv.h>'
seed_include shared/config.c '"shared/http/api_error.h"'
seed_include shared/config.h '<uv.h>'
seed_include shared/prompt/seeded.c '"shared/config.h"'
seed_include shared/prompt/seeded.c '<sodium.h>'
allow shared/prompt/seeded.c '<json-c/json.h>'
seed_include shared/schema/seeded.c '"shared/http/transport.h"'
seed_include shared/schema/seeded.c '"shared/counters/shm.h"'
allow shared/schema/seeded.c '<pcre2.h>'
seed_include shared/http/seeded.c '"shared/config.h"'
seed_include shared/http/seeded.c '"shared/schema/schema.h"'
seed_include shared/http/seeded.c '<curl/curl.h>'
seed_include shared/http/seeded.c '<openssl/ssl.h>'
allow shared/http/transport_tls.c '<openssl/ssl.h>'
allow shared/http/transport_tls.c '<uv.h>'
seed_include shared/counters/seeded.c '"shared/http/transport.h"'
seed_include shared/counters/seeded.c '<json-c/json.h>'
seed_include shared/counters/seeded.c '<uv.h>'
allow shared/counters/redis.c '<hiredis/hiredis.h>'
seed_include shared/record/seeded.c '"shared/http/transport.h"'
seed_include shared/record/seeded.c '<json-c/json.h>'
seed_include shared/record/seeded.c '"shared/base/json.h"'
seed_include shared/wire/seeded.c '"shared/http/transport.h"'
seed_include shared/wire/seeded.c '<json-c/json.h>'
seed_include worker/seeded.c '"master/config/config_load.h"'
seed_include worker/seeded.c '<libpq-fe.h>'
seed_include worker/seeded.c '<sqlite3.h>'
seed_include worker/upstream/seeded.c '<yaml.h>'
allow worker/upstream/seeded.c '<curl/curl.h>'
seed_include worker/stage/seeded.c '"worker/stage/forward.h"'
allow worker/stage/seeded.c '"worker/stage/seeded.h"'
allow worker/stage/seeded.c '"worker/exchange.h"'
seed_include worker/provider/seeded.c '<curl/curl.h>'
seed_include worker/provider/seeded.c '"shared/http/transport.h"'
seed_include worker/provider/seeded.c '"shared/counters/shm.h"'
seed_include worker/provider/seeded.c '"worker/exchange.h"'
allow worker/provider/seeded.c '"worker/provider/provider.h"'
seed_include master/seeded.c '<libpq-fe.h>'
seed_include master/config/seeded.c '<sqlite3.h>'
allow master/store/seeded.c '<sqlite3.h>'
allow master/store/seeded.c '<libpq-fe.h>'
seed_include master/seeded.c '<uv.h>'
seed_include master/cli/seeded.c '<uv.h>'
allow master/logger/seeded.c '<uv.h>'
allow master/keeper/seeded.c '<uv.h>'
allow master/admin/seeded.c '<uv.h>'
seed_include master/supervisor.c '"worker/worker.h"'
allow master/process.c '"worker/worker.h"'
seed_include master/process.c '"worker/exchange.h"'
seed_include master/seeded.c '"worker/explain.h"'
allow master/cli/seeded.c '"worker/explain.h"'
allow master/admin/seeded.c '"worker/explain.h"'
seed_include master/seeded.c '<curl/curl.h>'
seed_include test/unit/test_base_seeded.c '"worker/exchange.h"'
seed_include test/unit/test_worker_seeded.c '"master/config/config_load.h"'

# Headers nobody named, ways around, folders without a rule.
seed_include worker/seeded.c '<zlib.h>'
seed_include shared/base/buf.c '"buf.h"'
seed_include shared/base/buf.c '"../config.h"'
seed shared/base/buf.c '  #  include "shared/config.h"' includes shared/config.h
seed shared/base/buf.c '#include HIDDEN' includes 'cannot be read'
seed shared/novel/seeded.c 'int seeded;' includes 'no rule for this folder'

# Symbols.
needs() {
    printf 'int %s(void); int %s_part(void) { return %s(); }\n' "$2" "$1" "$2" | archive "$1"
    must_fail symbols "lib$1.a: needs $2," "$2 in lib$1.a"
    sound_archives
}
needs shared worker_part
needs shared master_part
needs shared curl_easy_init
needs shared sqlite3_open
needs shared yaml_parse
needs shared PQexec
needs worker master_part
needs worker sqlite3_open
needs worker yaml_parse
needs worker PQexec
needs master curl_easy_init
for name in shared worker master; do
    needs $name __atomic_load_16
done
rm "$build/libworker.a"
must_fail symbols libworker.a 'an archive that is not there'
sound_archives

# Length, format, leftovers.
seed shared/base/seeded.c "$(awk 'BEGIN { for (i = 0; i < 901; i++) print "int seeded" i ";" }')" \
    length 'more than 900 lines'
seed shared/base/buf.c 'int  seeded( void );' format 'clang-format'
for word in TO_DO FIX_ME X_XX; do
    word=$(echo $word | tr -d _)
    seed shared/base/buf.c "/* $word: later */" leftovers "$word"
done

must_pass
echo "lint selftest: $cases seeded lines judged rightly"
