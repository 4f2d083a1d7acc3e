#!/bin/sh
# limits.sh PROGRAM ACCOUNTS: instructions of its function `serve` for each request.
set -eu
requests=20000
out=$(mktemp)
trap 'rm -f "$out"' EXIT
valgrind --tool=callgrind --callgrind-out-file="$out" --toggle-collect=serve "$1" "$2" $requests \
    > /dev/null 2>&1
total=$(sed -n 's/^summary: //p' "$out")
echo "limits and budgets: $((total / requests)) instructions a request, with $2 endpoints and as many tokens"
