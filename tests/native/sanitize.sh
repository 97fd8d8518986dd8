#!/usr/bin/env bash
# Runs the native convolutions under the address, undefined-behaviour and thread sanitizers.
set -euo pipefail
cd "$(dirname "$0")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
for sanitizer in address,undefined thread; do
    "${CXX:-g++}" -O1 -g -std=c++17 -Wall -Werror -Wno-psabi -fno-omit-frame-pointer -fno-sanitize-recover=all \
        -fsanitize="$sanitizer" driver.cc -o "$work/driver" -pthread
    echo "$sanitizer: $("$work/driver")"
done
