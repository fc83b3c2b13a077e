#!/bin/sh
# N devices, W3, prebound, to a verified bundle, timed; then the same order again and a changed one.
# usage: soak.sh BINDERY DIR DEVICES
set -eu

bindery=$(realpath "$1")
devices=$3
rm -rf "$2"
mkdir -p "$2"
cd "$2"

"$bindery" init site --demo
"$bindery" --site site fleet make --eids "$devices" --out fleet
mkdir orders
cp fleet/euicc.jsonl orders/
{
    echo "row,eid"
    sed -n 's/.*"eid":"\([0-9]*\)".*/\1/p' orders/euicc.jsonl | awk '{ print NR "," $0 }'
} >orders/rows.csv
sha256() { sha256sum "$1" | cut -d' ' -f1; }
order() { # due
    cat <<JSON
{"schema": "bindery.order/1", "order_id": "SOAK-1", "tenant": "acme", "kind": "test", "due": "$1",
 "lines": [{"line": 1, "template": "operational@1", "mode": "prebound", "quantity": $devices,
   "iccid": {"first": "8949000000000000000"}, "imsi": {"first": "001010000000001"}, "credentials": "generate",
   "metadata": {"service_provider": "Soak", "profile_name": "Soak", "class": "operational"},
   "rows": {"file": "rows.csv", "sha256": "$(sha256 orders/rows.csv)", "count": $devices},
   "euicc_data": {"file": "euicc.jsonl", "sha256": "$(sha256 orders/euicc.jsonl)"},
   "export": ["eim:demo", "core:demo"]}]}
JSON
}
order 2030-01-01T00:00:00Z >orders/order.json
time "$bindery" --site site order submit orders/order.json
time "$bindery" --site site run
time "$bindery" --site site verify site/outbox/acme/SOAK-1 --secrets fleet/secrets.jsonl --order orders/order.json --all

"$bindery" --site site order submit orders/order.json
order 2031-01-01T00:00:00Z >orders/changed.json
code=0
"$bindery" --site site order submit orders/changed.json || code=$?
[ "$code" = 6 ] || { echo "a changed body ended with $code, not 6" >&2; exit 1; }
echo "soak passed: $devices devices"
