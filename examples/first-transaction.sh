#!/usr/bin/env bash
# One whole transaction on a development service, told as a story: a terminal
# enciphers a PIN, a switch has it translated, an issuer host has it verified, what the
# rules forbid is refused, and a payment is voided. Every command that is shown is run as shown.
#
#   examples/first-transaction.sh [DIR] [HOST:PORT]
#
# With a terminal on standard input the service stays up until Ctrl-C.
set -euo pipefail

cd "$(dirname "$0")/.."
keyd=bin/keyd
dir=${1:-dev}
listen=${2:-127.0.0.1:7443}
log=$dir.log

# shellcheck source=examples/story.sh
. examples/story.sh

say "1. Starting a development service in $dir"
note "   SoftHSM token, certificates, sample keys; the log goes to $log"
fifo=$(mktemp -u)
mkfifo -m 600 "$fifo"
"$keyd" dev --dir "$dir" --listen "$listen" >"$fifo" 2>"$log" &
service=$!
stop() {
  kill -TERM "$service" 2>/dev/null || true
  wait "$service" 2>/dev/null || true
}
trap stop EXIT
read -r ready <"$fifo" || true
rm -f "$fifo"
if [ "${ready%% *}" != ready ]; then
  cat "$log" >&2
  echo "keyd dev did not start (see above)" >&2
  exit 1
fi
echo "   $ready"

pan=4564320000980369
say "2. A terminal enciphers PIN 2205 under its next TDES DUKPT key"
note "   It holds an initial key of the BDK 'bdk-tdes'; every PIN gets a key of its own."
pad 2205 "$keyd" terminal encrypt-pin --state "$dir/terminals/tdes.json" --pan $pan
ksn=$(field KSN) block=$(field 'encrypted PIN block')

say "3. The switch has it translated to the issuer's zone key"
show "$keyd" call translate-pin --dir "$dir" --as switch --in-key bdk-tdes --in-ksn "$ksn" --out-key zone-issuer --pan $pan --block "$block"
zone=$(field 'encrypted PIN block')

say "4. The issuer host has it verified: the Visa PVV of PIN 2205 is 3856"
show "$keyd" call verify-pin --dir "$dir" --as switch --in-key zone-issuer --pan $pan --block "$zone" --verification-key pvk-visa --key-index 1 --pvv 3856

say "5. The same with an AES DUKPT terminal, ISO format 4, and a wrong PIN"
note "   A wrong PIN is an answer, not an error."
pad 9999 "$keyd" terminal encrypt-pin --state "$dir/terminals/aes.json" --format 4 --pan $pan
ksn4=$(field KSN) block4=$(field 'encrypted PIN block')
show "$keyd" call verify-pin --dir "$dir" --as switch --in-key bdk-aes --in-ksn "$ksn4" --in-format 4 --pan $pan --block "$block4" --verification-key pvk-visa --key-index 1 --pvv 3856
note "   and translated: ISO format 4 under AES becomes format 0 under TDES"
show "$keyd" call translate-pin --dir "$dir" --as switch --in-key bdk-aes --in-ksn "$ksn4" --in-format 4 --out-key zone-issuer --pan $pan --block "$block4"

say "6. What the rules forbid is refused, whoever asks"
note "   ISO format 0 to format 1 would cut the PIN loose from its card."
show "$keyd" call translate-pin --dir "$dir" --as switch --in-key bdk-tdes --in-ksn "$ksn" --out-key zone-issuer --out-format 1 --pan $pan --block "$block" || true
note "   An auditor may look, not touch."
show "$keyd" call translate-pin --dir "$dir" --as auditor --in-key bdk-tdes --in-ksn "$ksn" --out-key zone-issuer --pan $pan --block "$block" || true

say "7. Every decision is in the audit trail, a Merkle log that modules sign"
show "$keyd" audit show --dir "$dir" --last 8
show "$keyd" audit verify --dir "$dir"

say "8. What is running, and how it is confined"
show "$keyd" status --dir "$dir" --as auditor

say "9. A payment is taken back at the counter of a shop"
examples/void-at-the-counter.sh "$dir"

say "Go on from here"
cat <<EOF
   certificates    $dir/certs/        (ca.crt, and NAME.crt and NAME.key for every client)
   the contract    api/keyd/v1/       (the service has reflection: grpcurl works)
   your own keys   $keyd dev --dir $dir --listen $listen --keys FILE
   documents       README.md, docs/switch-integrator.md, docs/merchant.md, docs/operations.md
EOF
if [ -t 0 ]; then
  say "Serving on ${ready#ready } until Ctrl-C"
  trap 'stop; exit 0' INT TERM
  wait "$service"
fi
