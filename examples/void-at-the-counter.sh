#!/usr/bin/env bash
# A payment is taken back at the counter of a shop, told as a story (docs/merchant.md): a supervisor
# gets a PIN, a code is shown and scanned, the supervisor confirms, and a switch reverses the payment.
# It takes a development service that runs (examples/first-transaction.sh calls it).
#
#   examples/void-at-the-counter.sh [DIR]
set -euo pipefail

cd "$(dirname "$0")/.."
# shellcheck source=examples/story.sh
. examples/story.sh
keyd=bin/keyd
dir=${1:-dev}
shop=$dir/shop

if ! grep -q '^voids:' "$dir/config/policy.yaml"; then
  note "   $dir was made by an older keyd: its policy has no voids. Remove it to see this part."
  exit 0
fi
mkdir -p "$shop"

say "Once: what officers, operators and approvers do"
brief "$keyd" terminal simulate prepare --dir "$dir"
brief "$keyd" pin prepare --dir "$dir"
brief "$keyd" void prepare --dir "$dir"

say "Once: dora, a supervisor of merchant m-17, gets a PIN"
status=$("$keyd" pin status --merchant m-17 --name dora --dir "$dir" 2>/dev/null) || status='' # not into grep -q, which hangs up on the first match
if grep -q '^state  *active$' <<<"$status"; then
  note "   She has it from the last time: 739204."
else
  note "   Two approvers allow it, one reads out a code, and dora alone sets the PIN."
  rm -f "$shop"/dora.*
  anna=(--officer-key "$dir/approvers/anna.key" --certificate "$dir/approvers/anna.crt" --yes)
  bert=(--officer-key "$dir/approvers/bert.key" --certificate "$dir/approvers/bert.crt" --yes)
  brief "$keyd" pin approve --action enrol --version 1 --merchant m-17 --name dora "${anna[@]}" --out "$shop/dora.1"
  brief "$keyd" pin approve --paper "$shop/dora.1" "${bert[@]}" --out "$shop/dora.2"
  brief "$keyd" pin begin "$shop/dora.1" "$shop/dora.2" --code-out "$shop/dora.code" --dir "$dir"
  brief "$keyd" pin code --approval "$shop/dora.1" --sealed "$shop/dora.code" --officer-key "$dir/approvers/anna.key"
  pad "$(tail -n 1 <<<"$answer")\n739204" "$keyd" pin set --merchant m-17 --name dora --state "$dir/terminals/supervisor.json" --bdk bdk-supervisor --dir "$dir"
fi

say "Once: the shop's terminal gets its keys over the network"
terminal=$shop/t-0001.json
keys=none
[ ! -e "$terminal" ] || keys=$("$keyd" terminal simulate show --state "$terminal")
if [ "$keys" != none ] && ! grep -q '^keys in use  *none' <<<"$keys"; then
  note "   It has them from the last time."
else
  rm -f "$terminal"
  id=t-$(date +%s)
  brief "$keyd" terminal simulate new "$id" --state "$terminal" --owner m-17 --key-set dev-aes --dir "$dir"
  brief "$keyd" terminal simulate keys --state "$terminal" --dir "$dir"
fi
"$keyd" terminal simulate show --state "$terminal" >"$shop/terminal"
id=$(sed -n 's/^terminal  *//p' "$shop/terminal")

say "A customer has paid 123.00 CNY, and wants the money back. The switch knows the payment"
payment=pay-$(date +%s)
cat >"$shop/payments.json" <<JSON
{"terminals": {"$id": "m-17"},
 "payments": [{"reference": "$payment", "merchant": "m-17", "amount": 12300, "currency": 156, "paid_at": "$(date -u +%FT%TZ)"}]}
JSON
printf '  $ bin/switch-void -dir %q -listen 127.0.0.1:0 -payments %q -journal %q &\n' "$dir" "$shop/payments.json" "$shop/journal"
fifo=$(mktemp -u)
mkfifo -m 600 "$fifo"
bin/switch-void -dir "$dir" -listen 127.0.0.1:0 -payments "$shop/payments.json" -journal "$shop/journal" >"$fifo" &
switch=$!
trap 'kill -TERM "$switch" 2>/dev/null || true; wait "$switch" 2>/dev/null || true' EXIT
read -r ready <"$fifo" || true
rm -f "$fifo"
note "   $ready"

say "The office finds the payment, and its code appears on a screen"
brief "$keyd" void create --merchant m-17 --terminal "$id" --reference "$payment" --amount 12300 --dir "$dir"
awk '$1 == "code" && NF == 2 { print $2 }' <<<"$answer" >"$shop/code"
printf '  $ %q void qr < %q\n' "$keyd" "$shop/code"
"$keyd" void qr <"$shop/code"

say "The terminal, in eight steps: dora mistypes her PIN once, and confirms"
pad "111111\ny\n739204\ny" "$keyd" terminal simulate void --state "$terminal" --code "$shop/code" --supervisor dora --switch "${ready#ready }" --dir "$dir"

say "The switch has checked the token without asking anybody, and reversed the payment once"
show tail -n 2 "$shop/journal"
show "$keyd" void list --merchant m-17 --state confirmed --dir "$dir"
