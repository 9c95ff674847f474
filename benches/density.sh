#!/usr/bin/env bash
# What docs/FIGURES.md says of many sessions, beside their memory (benches/scale.sh): how fast a million connects, what sessions at
# rest cost in CPU, whether memory comes back after a million left, five times over, and a million that lose their
# connection at once. Root is needed; takes about a quarter of an hour and 5 GB.
#
#   benches/density.sh [connect|rest|churn|storm]...        OUT=target/density: where the reports go
set -euo pipefail
cd "$(dirname "$0")/.."

out=${OUT:-target/density}
runs=("$@")
[ ${#runs[@]} -gt 0 ] || runs=(connect rest churn storm)
cargo build --release -p roost-gateway -p roost-loadgen
mkdir -p "$out"
# run NAME SCENARIO HEARTBEAT_S OPTIONS...
run() {
    local name=$1 scenario=$2 heartbeat_s=$3
    shift 3
    echo "== $name"
    # A ramp beyond what the machine can do is meant: --lag-share-max 1.
    target/release/roost-loadgen "$scenario" --kind phantom --threads 2 --ready-s 300 --lag-share-max 1 --quiet \
        --heartbeat-share 1 --json "$out/$name.json" "$@" -- target/release/roost-gateway --heartbeat-s "$heartbeat_s"
}
for name in "${runs[@]}"; do
    case $name in
    connect) run connect idle 240 --clients 1000000 --ramp-per-s 60000 --duration-s 5 ;;
    rest) run rest idle 25 --clients 200000 --ramp-per-s 20000 --duration-s 100 ;;
    churn) run churn churn 240 --clients 1000000 --ramp-per-s 25000 --rounds 5 --duration-s 5 ;;
    storm) run storm storm 240 --clients 1000000 --ramp-per-s 25000 --duration-s 5 ;;
    *) echo "density.sh: connect, rest, churn or storm, not $name" >&2 && exit 2 ;;
    esac
done
