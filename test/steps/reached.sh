#!/bin/sh
# reached.sh FOLDER: FOLDER/list prints the points that are defined, FOLDER/seen has a file for each
# that was reached. Fails when one was not.
set -eu
defined=$(mktemp)
trap 'rm -f "$defined"' EXIT
"$1/list" | sort -u > "$defined"
missing=$(ls "$1/seen" | sort | comm -13 - "$defined")
total=$(wc -l < "$defined")
echo "points reached $((total - $(printf '%s' "$missing" | grep -c . || true))) of $total defined"
[ -z "$missing" ] || { printf 'never reached:\n%s\n' "$missing"; exit 1; }
