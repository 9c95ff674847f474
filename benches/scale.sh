#!/usr/bin/env bash
# What a session costs at 100 thousand to 5 million: holds that many phantom sessions on this machine, one size after the
# other, and makes the tables and the plot of docs/MEMORY.md anew. Root is needed (a network namespace, a TUN device).
#
#   benches/scale.sh [SIZE...]      default: 100000 1000000 3000000 5000000
#   HOLD_S=120 RAMP_PER_S=22000 OUT=docs/scale   change how long, how fast, and where to
#
# A size the machine has not the memory for is left out, and a run that comes near the end of memory ends itself.
set -euo pipefail
cd "$(dirname "$0")/.."

sizes=("$@")
[ ${#sizes[@]} -gt 0 ] || sizes=(100000 1000000 3000000 5000000)
hold_s=${HOLD_S:-120}
ramp_per_s=${RAMP_PER_S:-22000}
out=${OUT:-docs/scale}
# Bytes a session with the generator's share, and what has to stay free; see docs/MEMORY.md.
session_bytes=4500
floor_mb=512

cargo build --release -p roost-gateway -p roost-loadgen
mkdir -p "$out"
reports=()
for size in "${sizes[@]}"; do
    # What earlier runs left in caches must not be taken for this one's.
    sync && echo 3 >/proc/sys/vm/drop_caches
    # MemAvailable counts the inodes of open sockets as free.
    available=$(awk '/^(MemFree|Buffers|Cached):/ {sum += $2} END {printf "%.0f", sum * 1024}' /proc/meminfo)
    needed=$((size * session_bytes + floor_mb * 1024 * 1024))
    if [ "$needed" -gt "$available" ]; then
        echo "scale.sh: $size sessions need $((needed >> 20)) MiB, $((available >> 20)) MiB are available: left out" >&2
        continue
    fi
    report=$out/$size.json
    rm -f "$report"
    # A ramp that falls behind (--lag-share-max 1) connects later, which changes nothing of what is held.
    failed=0
    target/release/roost-loadgen idle --kind phantom --clients "$size" --ramp-per-s "$ramp_per_s" --ready-s 300 \
        --threads 2 --duration-s "$hold_s" --heartbeat-share 1 --memory-floor-mb "$floor_mb" --json "$report" \
        --lag-share-max 1 --fail-if 'clients_dropped > 0' --fail-if 'clients_failed > 0' \
        -- target/release/roost-gateway --heartbeat-s 240 --always-admit || failed=$?
    # The other sizes are worth their table all the same.
    [ "$failed" -eq 0 ] || echo "scale.sh: $size sessions: roost-loadgen ended with $failed" >&2
    [ ! -s "$report" ] || reports+=("$report")
done
[ ${#reports[@]} -gt 0 ] || { echo "scale.sh: no size fits this machine" >&2; exit 1; }
cargo run --release -q -p roost-benches --bin scale_table -- "$out/scale.svg" "${reports[@]}" | tee "$out/tables.md"
