#!/usr/bin/env bash
# Compiles the echo server of uWebSockets, optimised, and prints the path of the program.
set -euo pipefail
cd "$(dirname "$0")"

out=target/uws-echo
mkdir -p target
manifest=$(cargo metadata --format-version 1 |
    python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "libuwebsockets-sys"))')
sources=$(dirname "$manifest")/uWebSockets
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
# As its own build has them by default.
options=(-O3 -march=native -flto=auto -DNDEBUG -DLIBUS_NO_SSL -DUWS_NO_ZLIB -I"$sources/uSockets/src" -I"$sources/src")
(cd "$objects" && gcc -std=c11 "${options[@]}" -c "$sources"/uSockets/src/*.c "$sources"/uSockets/src/eventing/epoll_kqueue.c)
g++ -std=c++20 "${options[@]}" echo.cpp "$objects"/*.o -o "$out"
echo "$PWD/$out"
