#!/usr/bin/env bash
# Builds all fuzz targets with the workspace's own toolchain and runs them at once, each for SECONDS_EACH of wall time:
#   proto/fuzz/run.sh SECONDS_EACH [CORPUS_DIR]
# What is found new goes to CORPUS_DIR/TARGET (default: a folder of its own that is thrown away); the corpus of the repository is read
# beside it. A crash leaves its input in proto/fuzz/artifacts, prints it, and ends with 1. It takes a C++ compiler, no cargo-fuzz.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?seconds for each target}
found=${2:-$(mktemp -d)}
[ $# -gt 1 ] || trap 'rm -rf "$found"' EXIT
targets=(connection frame handshake json protobuf)
target_dir=${CARGO_TARGET_DIR:-target}/fuzz

# What cargo-fuzz passes, without AddressSanitizer: its build costs CI more than it finds in code that is safe but for three
# folders (docs/TESTING.md tells how they are run under it).
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Ccodegen-units=1 -Cdebug-assertions"
# With --target, build scripts and macros are built without these flags.
triple=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --target "$triple" --target-dir "$target_dir" --bins

# run TARGET: with no more than a gigabyte of memory.
run() {
    local target=$1
    mkdir -p "$found/$target" "artifacts/$target"
    "$target_dir/$triple/release/$target" -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=10 -max_len=4096 \
        -print_final_stats=1 -artifact_prefix="artifacts/$target/" "$found/$target" "corpus/$target" \
        >"$found/$target.log" 2>&1
}

declare -A pids
for target in "${targets[@]}"; do
    run "$target" &
    pids[$target]=$!
done
failed=0
for target in "${targets[@]}"; do
    if wait "${pids[$target]}"; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$found/$target.log") inputs"
    else
        echo "$target FAILED; its last lines:"
        tail -n 40 "$found/$target.log"
        failed=1
    fi
done
exit "$failed"
