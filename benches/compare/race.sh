#!/usr/bin/env bash
# Races echo servers against Roost's: builds them, starts each on a port of its own, and lets `race` measure them in turn, round by
# round: messages (or upgrades) a second of the server's CPU, and the ratio to what is asked. The tables go to stdout.
#
#   benches/compare/race.sh                                  all servers, all cells
#   benches/compare/race.sh roost uwebsockets bare-receive   these; the first is what the others are compared with
#   CELLS=512x100x1 benches/compare/race.sh                  one cell: 512x100x1, 16x100x16, 128x5000x1, upgrades, churn
#
# roost              roost-gateway --backend echo --shards 1, this build
# uwebsockets        C++, epoll, -O3, no compression; needs g++
# tokio-tungstenite  with read buffers of 4 KiB
# fastwebsockets     upgraded by hyper, on tokio
# sockudo-ws         on tokio
# ntex-uring, ntex-polling, ntex-tokio   the web framework ntex, on each of its reactors
# bare-receive, bare-poll                a TCP echo on the gateway's rings without WebSocket: the limit
#
# Each server has one thread that works and CPU 1, the client has CPU 0. ROUNDS=5 MEASURED_MS=2000 WARM_UP_MS=1200 change the
# runs, OUT=FILE keeps the JSON, GATEWAY=FILE takes another build of the gateway, BUILD=0 takes everything as it was built before.
# QUIET=COMMAND is put before the measuring, for a machine that has to be made quiet. Exit codes: 0, or 1 where a server did not
# start or a run failed; a ratio that is missed is no failure.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)

[ $# -gt 0 ] || set -- roost uwebsockets tokio-tungstenite fastwebsockets sockudo-ws ntex-uring ntex-polling ntex-tokio \
    bare-receive bare-poll
# A client takes a file at either end, and the limit is each process's own.
ulimit -n "$(ulimit -Hn)"

target=${CARGO_TARGET_DIR:-$root/target}
gateway=${GATEWAY:-$target/release/roost-gateway}
scratch=$(mktemp -d)
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

# crate FOLDER OPTIONS...: a crate of its own, with a target of its own.
crate() {
    local folder=$1
    shift
    CARGO_TARGET_DIR=$PWD/$folder/target cargo build --quiet --release --locked --manifest-path "$folder/Cargo.toml" "$@"
}
build() {
    case $1 in
    roost) [ -n "${GATEWAY:-}" ] || cargo build --quiet --release --manifest-path "$root/Cargo.toml" -p roost-gateway ;;
    uwebsockets) uwebsockets/build.sh >/dev/null ;;
    tokio-tungstenite | fastwebsockets | sockudo-ws) crate "$1" ;;
    ntex-uring | ntex-polling | ntex-tokio)
        local reactor=${1#ntex-}
        [ "$reactor" = tokio ] || reactor=neon-$reactor
        crate ntex --features "$reactor"
        mv ntex/target/release/roost-ntex "ntex/target/release/roost-$1"
        ;;
    bare-receive | bare-poll) ;;
    *)
        echo "no server is called $1; the head of race.sh lists them" >&2
        exit 2
        ;;
    esac
}
# In a subshell of its own, which becomes the server: its number is the server's.
start() {
    local on="exec taskset -c 1"
    case $1 in
    roost) $on "$gateway" --backend echo --shards 1 --listen 127.0.0.1:0 --http 127.0.0.1:0 --data "$scratch/data" ;;
    uwebsockets) $on uwebsockets/target/uws-echo 0 ;;
    tokio-tungstenite) $on tokio-tungstenite/target/release/roost-tokio-tungstenite 0 1 4096 ;;
    ntex-*) $on "ntex/target/release/roost-$1" 0 ;;
    bare-receive) $on "$target/release/race" bare --port 0 --receive ;;
    bare-poll) $on "$target/release/race" bare --port 0 ;;
    *) $on "$1/target/release/roost-$1" 0 ;;
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

if [ "${BUILD:-1}" != 0 ]; then
    cargo build --quiet --release --manifest-path "$root/Cargo.toml" -p roost-benches --bin race
    for name in "$@"; do
        build "$name"
    done
fi
servers=()
for name in "$@"; do
    start "$name" >"$scratch/$name.ready" 2>"$scratch/$name.log" &
    pids+=($!)
    if ! port=$(port "$scratch/$name.ready"); then
        echo "$name did not get ready:" >&2
        tail -5 "$scratch/$name.log" >&2
        exit 1
    fi
    case $name in
    bare-*) servers+=(--server "$name=bare:127.0.0.1:$port,$!") ;;
    *) servers+=(--server "$name=127.0.0.1:$port,$!") ;;
    esac
done

cells=()
for cell in ${CELLS:-}; do
    cells+=(--cell "$cell")
done
echo "$(date -u +%F) ROUNDS=${ROUNDS:-5} MEASURED_MS=${MEASURED_MS:-2000} CELLS='${CELLS:-}' benches/compare/race.sh $*"
${QUIET:-} taskset -c 0 "$target/release/race" run "${servers[@]}" "${cells[@]}" --rounds "${ROUNDS:-5}" \
    --measured-ms "${MEASURED_MS:-2000}" --warm-up-ms "${WARM_UP_MS:-1200}" ${OUT:+--json "$OUT"}
