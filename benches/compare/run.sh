#!/usr/bin/env bash
# Compares echo servers of the registries with Roost's: builds them, starts each on a port of its own, lets
# `roost-loadgen compare` run them in turn, and stops them. The tables go to stdout.
#
#   benches/compare/run.sh                       all servers
#   benches/compare/run.sh roost node-ws         these; the first is what the others are compared with
#
# roost              roost-gateway --backend echo, this build
# tokio-tungstenite  Rust, tokio, a task a connection
# node-ws            Node's ws; needs node and npm (Debian: apt-get install nodejs npm)
# uwebsockets        C++, epoll; needs g++
#
# Each server has one thread and one CPU, and the generator has another, where there are two or more and taskset(1) is there.
# CLIENTS=200 RATE_PER_S=10000 IDLE_CLIENTS=9000 PAYLOAD_BYTES=128 ROUNDS=3 DURATION_S=10 change the load, OUT=FOLDER keeps the
# JSON. Exit codes: 0, or 1 where a run failed or a server did not start.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)

clients=${CLIENTS:-200} rate=${RATE_PER_S:-10000} idle_clients=${IDLE_CLIENTS:-9000} payload=${PAYLOAD_BYTES:-128}
rounds=${ROUNDS:-3} duration_s=${DURATION_S:-10}
[ $# -gt 0 ] || set -- roost tokio-tungstenite node-ws uwebsockets
# A client takes a file at either end, and the limit is each process's own.
ulimit -n "$(ulimit -Hn)"

target=${CARGO_TARGET_DIR:-$root/target}
scratch=$(mktemp -d)
out=${OUT:-$scratch}
mkdir -p "$out"
pids=()
# By number, each for itself; a server that does not end within two seconds is killed.
stop() {
    local pid
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 20); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
    rm -rf "$scratch"
}
trap stop EXIT

# In a subshell of its own, which becomes the server: its number is the server's.
on_server() { exec "$@"; }
on_generator() { "$@"; }
if taskset -c 0 true 2>/dev/null && taskset -c 1 true 2>/dev/null; then
    on_server() { exec taskset -c 1 "$@"; }
    on_generator() { taskset -c 0 "$@"; }
fi

build() {
    case $1 in
    roost) cargo build --quiet --release --manifest-path "$root/Cargo.toml" -p roost-gateway ;;
    tokio-tungstenite)
        CARGO_TARGET_DIR=$PWD/tokio-tungstenite/target cargo build --quiet --release --locked \
            --manifest-path tokio-tungstenite/Cargo.toml
        ;;
    node-ws) (cd node-ws && npm ci --silent --no-audit --no-fund) ;;
    uwebsockets) uwebsockets/build.sh >/dev/null ;;
    *)
        echo "no server is called $1: roost, tokio-tungstenite, node-ws, uwebsockets" >&2
        exit 2
        ;;
    esac
}
start() {
    case $1 in
    roost)
        on_server "$target/release/roost-gateway" --backend echo --shards 1 --listen 127.0.0.1:0 --http 127.0.0.1:0 \
            --data "$scratch/data"
        ;;
    tokio-tungstenite) on_server tokio-tungstenite/target/release/roost-tokio-tungstenite 0 ;;
    node-ws) on_server node node-ws/server.js 0 ;;
    uwebsockets) on_server uwebsockets/target/uws-echo 0 ;;
    esac
}
# port FILE: the port of the line that says a server listens; waits for it, at most ten seconds.
port() {
    for _ in $(seq 100); do
        if grep -q '^ready' "$1"; then
            sed -n 's/^ready \(ws=[^ ]*:\|port=\)\([0-9]*\).*/\2/p' "$1"
            return
        fi
        sleep 0.1
    done
    return 1
}

cargo build --quiet --release --manifest-path "$root/Cargo.toml" -p roost-loadgen
for name in "$@"; do
    build "$name"
done
servers=()
for name in "$@"; do
    start "$name" >"$scratch/$name.ready" 2>"$scratch/$name.log" &
    pids+=($!)
    if ! port=$(port "$scratch/$name.ready"); then
        echo "$name did not get ready:" >&2
        tail -5 "$scratch/$name.log" >&2
        exit 1
    fi
    servers+=(--server "$name=ws://127.0.0.1:$port/,$!")
done

failed=0
# compare FILE OPTIONS...: one table.
compare() {
    local file=$1
    shift
    echo
    echo "$(date -u +%F) roost-loadgen compare $*"
    on_generator "$target/release/roost-loadgen" compare "${servers[@]}" "$@" --rounds "$rounds" --duration-s "$duration_s" \
        --json "$out/$file.json" || failed=1
}
compare idle --scenario idle --clients "$idle_clients"
compare echo --clients "$clients" --payload-bytes "$payload"
compare echo-open --clients "$clients" --payload-bytes "$payload" --rate-per-s "$rate" --in-flight 16
exit "$failed"
