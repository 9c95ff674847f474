#!/usr/bin/env bash
# What an idle session costs Roost (authenticated, with router and store) and a connection the bare echo server of
# uWebSockets: growth of the kernel's slabs and of the server's resident memory, interleaved, medians of ROUNDS runs.
#
#   benches/compare/memory.sh          CLIENTS=15000 ROUNDS=3 HOLD_S=10 change it
#
# Kernel-socket clients hold the other end of each connection on the same machine: their slabs count in "kernel" for both
# servers alike. Phantom clients have no socket: there "kernel" is the server's end alone. Root is needed for those.
set -euo pipefail
cd "$(dirname "$0")/../.."

clients=${CLIENTS:-15000} rounds=${ROUNDS:-3} hold_s=${HOLD_S:-10}
cargo build --release -p roost-gateway -p roost-loadgen
uws=$(benches/compare/uwebsockets/build.sh)
scratch=$(mktemp -d)
server=
stop() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; } || true
    server=
}
trap 'stop; rm -rf "$scratch"' EXIT

# load NAME KIND OPTIONS...: one run, its report in $scratch.
load() {
    local name=$1 kind=$2
    shift 2
    target/release/roost-loadgen idle --kind "$kind" --clients "$clients" --duration-s "$hold_s" --quiet \
        --json "$scratch/$name-$kind-$round.json" "$@" >/dev/null
}
# ready FILE: waits, at most ten seconds, for the line that says a server listens.
ready() {
    for _ in $(seq 100); do
        grep -q '^ready' "$1" && return
        sleep 0.1
    done
    echo "a server did not get ready" >&2
    exit 1
}
roost_kernel() {
    target/release/roost-gateway --listen 127.0.0.1:0 --http 127.0.0.1:0 --data "$scratch/data-$round" >"$scratch/ready" 2>/dev/null &
    server=$!
    ready "$scratch/ready"
    load roost kernel --gateway-pid "$server" --secret-file "$scratch/data-$round/secret" \
        --url "ws://$(sed 's/.* ws=\([^ ]*\).*/\1/; s/^ready ws=\([^ ]*\).*/\1/' "$scratch/ready")/v1/ws"
    stop
}
uws_kernel() {
    "$uws" 0 >"$scratch/ready" &
    server=$!
    ready "$scratch/ready"
    load uWebSockets kernel --gateway-pid "$server" --url "ws://127.0.0.1:$(sed 's/.*port=//' "$scratch/ready")/"
    stop
}
roost_phantom() {
    load roost phantom -- target/release/roost-gateway
}
uws_phantom() {
    unshare -n "$uws" 9000 0.0.0.0 >"$scratch/ready" &
    server=$!
    ready "$scratch/ready"
    load uWebSockets phantom --gateway-pid "$server" --url ws://198.18.0.1:9000/
    stop
}
for round in $(seq "$rounds"); do
    roost_kernel
    uws_kernel
    roost_phantom
    uws_phantom
done
python3 - "$scratch" "$clients" <<'PYTHON'
import glob, json, statistics, sys

scratch, clients = sys.argv[1:]
print(f"| server, {clients} clients | clients | kernel | user | sum |\n|---|---|---|---|---|")
for kind, ends in (("kernel", "kernel sockets, both ends"), ("phantom", "phantoms, the server's end")):
    for name in ("roost", "uWebSockets"):
        runs = [json.load(open(path)) for path in glob.glob(f"{scratch}/{name}-{kind}-*.json")]
        assert all(run["clients_connected"] == int(clients) for run in runs), "a run did not connect all"
        shares = [run["memory_bytes_per_client"] for run in runs]
        kernel, user, total = (
            statistics.median(share[part] for share in shares) for part in ("kernel", "gateway", "total")
        )
        print(f"| {name} | {ends} | {kernel:.0f} | {user:.0f} | {total:.0f} |")
PYTHON
