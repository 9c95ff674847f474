#!/usr/bin/env bash
# The gateway under AddressSanitizer: the folders with `unsafe` (slab, rings, mailbox), whole shards over fake rings, and clients over
# the kernel's sockets and io_uring end to end (`rings.rs`, whose shards run in the test's process).
# It takes a C compiler, io_uring and a full build of its own. The tests use the system's allocator, which AddressSanitizer replaces; the program uses
# jemalloc (docs/decisions/0010), under which it would see nothing, so no test that starts the program stands here.
set -euo pipefail
cd "$(dirname "$0")/../.."
export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address
# Rings in flight at the end of the process keep their memory on purpose (`Drop for Uring`).
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0}
triple=$(rustc -vV | sed -n 's/^host: //p')
# With --target, build scripts and macros are built without it. loom brings stacks of its own, which AddressSanitizer does not know.
exec cargo test -p roost-gateway --target "$triple" --target-dir "${CARGO_TARGET_DIR:-target}/asan" \
    --lib --test rings --test shard_simulation -- --skip sleep_test --skip http:: --skip auth::
