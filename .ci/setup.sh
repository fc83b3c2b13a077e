#!/bin/sh
# Installs what Bindery needs on Debian or Ubuntu and is not there yet: a C toolchain, OpenSSL's headers, SoftHSM,
# and libclang, with which the tests' second token (kryoptic) reads OpenSSL's headers.
# Says what it does; does nothing when nothing is missing.
set -eu

missing=""
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
command -v pkg-config >/dev/null 2>&1 || missing="$missing pkg-config"
command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
[ -e /usr/include/openssl/ssl.h ] || missing="$missing libssl-dev"
module=""
for candidate in /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so; do
    [ -e "$candidate" ] && module=$candidate
done
[ -n "$module" ] || missing="$missing softhsm2"
clang=""
for candidate in /usr/lib/llvm*/lib/libclang.so /usr/lib/*/libclang.so; do
    [ -e "$candidate" ] && clang=$candidate
done
[ -n "$clang" ] || missing="$missing libclang-dev"

if [ -n "$missing" ]; then
    command -v apt-get >/dev/null 2>&1 || { echo "please install:$missing" >&2; exit 1; }
    sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "installing:$missing"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # a list of packages
    { $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends $missing; } >/dev/null
fi

command -v cargo >/dev/null 2>&1 || { echo "a Rust toolchain (1.95 or newer) is needed: https://rustup.rs" >&2; exit 1; }
