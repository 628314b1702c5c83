#!/usr/bin/env bash
# Runs a command on a fresh SoftHSM token and removes the token afterwards. The
# command's exit status is this script's.
#
#   softhsm-config/with-softhsm.sh go test ./hsm/module/...
#
# The command finds in its environment:
#   SOFTHSM2_CONF            the token's configuration
#   KEYD_TEST_MODULE         absolute path of the PKCS#11 library, links resolved
#   KEYD_TEST_PIN_FILE       file (mode 0600) with the user PIN, without a newline
#   KEYD_TEST_TOKEN_LABEL    label of the token
#
# SOFTHSM2_MODULE, when set, names the library instead of the usual places.
set -euo pipefail

fail() {
  printf 'with-softhsm.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

find_library() {
  local candidate
  if [[ -n ${SOFTHSM2_MODULE:-} ]]; then
    [[ -f $SOFTHSM2_MODULE ]] || fail "SOFTHSM2_MODULE: there is no file $SOFTHSM2_MODULE"
    readlink -f -- "$SOFTHSM2_MODULE"
    return
  fi
  for candidate in \
    /usr/lib/softhsm/libsofthsm2.so \
    /usr/lib/*/softhsm/libsofthsm2.so \
    /usr/lib64/pkcs11/libsofthsm2.so \
    /usr/local/lib/softhsm/libsofthsm2.so; do
    if [[ -f $candidate ]]; then
      readlink -f -- "$candidate"
      return
    fi
  done
  fail 'no SoftHSM library; run scripts/install-deps.sh run'
}

(($# > 0)) || fail 'usage: with-softhsm.sh COMMAND [ARGUMENT...]' 64
command -v softhsm2-util >/dev/null || fail 'softhsm2-util is missing; run scripts/install-deps.sh run'

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=softhsm-config/command.sh
source "$here/command.sh"
library=$(find_library)
begin keyd-softhsm

mkdir "$folder/tokens"
while IFS= read -r line; do
  printf '%s\n' "${line//@TOKENS@/"$folder/tokens"}"
done <"$here/softhsm2.conf.in" >"$folder/softhsm2.conf"
export SOFTHSM2_CONF=$folder/softhsm2.conf

label=keyd-test-$(random_pin)
random_pin >"$folder/pin"

# softhsm2-util takes PINs from a terminal or from its arguments, where other users of
# this machine can read them for a moment: a token in a folder that they cannot open,
# with PINs that are random and die with it, is all that they would get.
softhsm2-util --init-token --free --label "$label" \
  --so-pin "$(random_pin)" --pin "$(<"$folder/pin")" \
  --module "$library" >"$folder/init.log" 2>&1 ||
  fail "the token was not made: $(<"$folder/init.log")"

export KEYD_TEST_MODULE=$library
export KEYD_TEST_PIN_FILE=$folder/pin
export KEYD_TEST_TOKEN_LABEL=$label

run_command "$@"
