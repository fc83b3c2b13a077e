#!/bin/sh
# The main job on an embedded default: own token, own test PKI, N devices, an order file, through to a verified bundle.
# usage: demo.sh BINDERY DIR DEVICES
set -eu

bindery=$(realpath "$1")
devices=$3
rm -rf "$2"
mkdir -p "$2"
cd "$2"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "1. A site: SoftHSM token, keys by policy, test PKI"
"$bindery" init site --demo
"$bindery" --site site doctor

say "2. A test fleet of $devices eUICCs with signed one-time keys"
"$bindery" --site site fleet make --eids "$devices" --out fleet

say "3. An order, as an order system would drop it"
mkdir orders
cp fleet/euicc.jsonl orders/
{
    echo "row,eid"
    sed -n 's/.*"eid":"\([0-9]*\)".*/\1/p' orders/euicc.jsonl | awk '{ print NR "," $0 }'
} >orders/rows.csv
sha256() { sha256sum "$1" | cut -d' ' -f1; }
cat >orders/order.json <<JSON
{
  "schema": "bindery.order/1",
  "order_id": "DEMO-0001",
  "tenant": "acme",
  "kind": "test",
  "lines": [{
    "line": 1,
    "template": "operational@1",
    "mode": "prebound",
    "quantity": $devices,
    "iccid": {"first": "8949000000000000000"},
    "imsi": {"first": "001010000000001"},
    "credentials": "generate",
    "metadata": {"service_provider": "Demo Telecom", "profile_name": "Demo Operational", "class": "operational"},
    "rows": {"file": "rows.csv", "sha256": "$(sha256 orders/rows.csv)", "count": $devices},
    "euicc_data": {"file": "euicc.jsonl", "sha256": "$(sha256 orders/euicc.jsonl)"},
    "export": ["eim:demo", "core:demo"]
  }]
}
JSON
"$bindery" --site site order check orders/order.json
"$bindery" --site site order submit orders/order.json

say "4. Prepare, bind, sign, export"
"$bindery" --site site run

say "5. Open every package with the software eUICC, compare with the order"
bundle=site/outbox/acme/DEMO-0001
"$bindery" --site site verify "$bundle" --secrets fleet/secrets.jsonl --order orders/order.json --all

say "6. An outsider's check of the signature"
openssl x509 -in "$bundle/certs/manifest.pem" -pubkey -noout >manifest.pub
openssl dgst -sha256 -verify manifest.pub -signature "$bundle/manifest.sig" "$bundle/manifest.json"

say "Done. Where to look:"
cat <<TEXT
  the bundle        $2/$bundle
  for a person      $2/$bundle/report.html
  for the eIM       $2/$bundle/orders.jsonl, packages-*.bpp, activation-codes.csv
  for the core      $2/$bundle/core.csv (K and OPc under the transport key)
  for the orderer   $2/$bundle/ack.json, results.csv, recon.json
TEXT
