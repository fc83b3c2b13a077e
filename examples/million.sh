#!/bin/sh
# A small order and a big one, W1, stored: peak memory of each command, time per profile, and how long a killed run takes to its
# next profile.
# usage: million.sh BINDERY DIR DEVICES
set -eu

bindery=$(realpath "$1")
big=$3
small=$((big / 100))
rm -rf "$2"
mkdir -p "$2/orders"
cd "$2"
"$bindery" init site --demo

now_ms() { date +%s%3N; }

order() { # id, devices, first ICCID, digit of the IMSIs
    cat >"orders/$1.json" <<JSON
{"schema": "bindery.order/1", "order_id": "$1", "tenant": "acme", "kind": "test",
 "lines": [{"line": 1, "template": "iot-minimal@1", "mode": "order", "quantity": $2,
   "iccid": {"first": "$3"}, "imsi": {"first": "00101${4}000000001"}, "credentials": "generate",
   "metadata": {"service_provider": "Soak", "profile_name": "Soak", "class": "operational"}, "export": ["core:demo"]}]}
JSON
}

# Runs bindery; leaves its peak of resident memory (KiB) in `peak` and its time in `took`.
watched() {
    begun=$(now_ms)
    "$bindery" --site site "$@" >/dev/null 2>&1 &
    peak=0
    while found=$(sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$!/status" 2>/dev/null) && [ -n "$found" ]; do
        peak=$found
        sleep 0.02
    done
    wait $!
    took=$(($(now_ms) - begun))
}

order SMALL "$small" 8949000000000000000 1
order BIG "$big" 8949100000000000009 2
order KILLED "$big" 8949200000000000008 3
for id in SMALL BIG; do
    devices=$small
    [ "$id" = SMALL ] || devices=$big
    for command in "order submit orders/$id.json" "run $id" "status" "order show $id"; do
        # shellcheck disable=SC2086 # words of a command
        watched $command
        echo "$id: $command: $((peak / 1024)) MiB at most, $((took * 1000 / devices)) us a profile"
        eval "peak_$id=\$(( \${peak_$id:-0} > peak ? \${peak_$id:-0} : peak ))"
        [ "${command%% *}" != run ] || eval "run_$id=\$took"
    done
done
echo "peak memory: $((peak_BIG / 1024)) MiB, $((peak_BIG * 100 / peak_SMALL)) % of the small order's (target 120, and 256 MiB)"
echo "time per profile: $((run_BIG * small * 100 / (run_SMALL * big))) % of the small order's (target 110)"

stored() { find site/vault -name '*.ppp' | wc -l; }
before=$(stored)
watched order submit orders/KILLED.json
"$bindery" --site site run KILLED >/dev/null 2>&1 &
while [ "$(stored)" -lt $((before + big / 2000)) ]; do sleep 0.2; done
kill -9 $!
wait $! 2>/dev/null || true
before=$(stored)
begun=$(now_ms)
"$bindery" --site site run KILLED >/dev/null 2>&1 &
while [ "$(stored)" -le "$before" ]; do sleep 0.02; done
echo "restart: next profile after $(($(now_ms) - begun)) ms (target 2000)"
kill $!
wait $! || true
