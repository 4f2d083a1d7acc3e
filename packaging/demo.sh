#!/bin/bash
# `make run`: serves a demo project with the built-in provider, which needs no key and no network.
#   demo.sh BUILD PORT
# Configuration, store and token stay in BUILD/demo, so a second run goes on where the first ended.
set -euo pipefail

if [ $# -ne 2 ]; then
    echo "usage: $0 BUILD PORT" >&2
    exit 2
fi
build=$1
port=$2
project=0192f0c1-7e7a-7cc3-98c4-dc0c0c07398f
demo=$(realpath -m "$build")/demo
promptgate=$(realpath -m "$build")/promptgate

# Whether something listens there.
taken() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

write_config() {
    mkdir -p "$demo"/{projects.d,tokens.d,state,run}
    chmod 700 "$demo"
    cat >"$demo/promptgate.yaml" <<END
# Written anew by every \`make run\`.
listen: 127.0.0.1:$port
workers: 2
state_dir: $demo/state
runtime_dir: $demo/run
END
    # Yours to change.
    [ -e "$demo/projects.d/demo.yaml" ] || cat >"$demo/projects.d/demo.yaml" <<END
id: $project
name: Demo
endpoints:
  summarize:
    description: Answers with the prompt that a real model would get
    provider: echo
    model: echo
    streaming_enabled: true
    system_prompt: You summarise support tickets in one sentence.
    user_prompt: "Ticket:\\n{{input}}"
END
}

# The token is kept beside its hash, or made anew when either is gone.
keep_token() {
    local hash
    if [ -s "$demo/token" ]; then
        token=$(<"$demo/token")
        hash=$(printf %s "$token" | sha256sum)
        grep -qrF "${hash%% *}" "$demo/tokens.d" && return
    fi
    if ! token=$("$promptgate" token create --config "$demo" --project demo 2>"$demo/error"); then
        cat "$demo/error" >&2
        exit 1
    fi
    rm "$demo/error"
    (umask 077 && echo "$token" >"$demo/token")
}

answers_ready() {
    local line
    exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
    printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
    read -r -t 2 line <&3
    exec 3>&-
    [[ $line == *" 200 "* ]]
}

# Waits for process $1 to serve, then says how to try it.
announce() {
    for _ in {1..300}; do
        kill -0 "$1" 2>/dev/null || return 0
        if (answers_ready) 2>/dev/null; then
            cat <<END

promptgate serves on http://127.0.0.1:$port (Ctrl-C stops it). In another terminal:

  curl -s http://127.0.0.1:$port/api/$project/summarize \\
    -H 'Authorization: Bearer $token' \\
    -H 'Content-Type: application/json' \\
    -d '{"message": "The printer on floor 3 is on fire again."}'

  $promptgate logs --config $demo

END
            return 0
        fi
        sleep 0.1
    done
}

if taken; then
    echo "demo: port $port is taken; choose another: make run PORT=8081" >&2
    exit 1
fi
write_config
keep_token
# In a grandchild, so that the gateway, which takes this process's place, has no child it did not
# fork itself.
(announce $$ &)
exec "$promptgate" serve --config "$demo"
