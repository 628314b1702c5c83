#!/usr/bin/env bash
# Runs a command on a fresh token of NSS softokn and removes the token afterwards. The
# command's exit status is this script's.
#
#   nss-config/with-nss.sh go test -v -run TestGiven ./hsm/module/internal/token/giventest
#
# The command finds in its environment:
#   KEYD_TEST_MODULE         absolute path of the PKCS#11 library, links resolved
#   KEYD_TEST_PARAMETERS     what the library is initialised with (token.parameters)
#   KEYD_TEST_PIN_FILE       file (mode 0600) with the user PIN, without a newline
#   KEYD_TEST_TOKEN_LABEL    label of the token
#   KEYD_TEST_LACKS          what the conformance suite knows that the token lacks
#   KEYD_TEST_TOKEN_FOLDER   folder with the token's files
#
# NSS_SOFTOKN, when set, names the library instead of the usual places.
set -euo pipefail

fail() {
  printf 'with-nss.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

find_library() {
  local candidate
  if [[ -n ${NSS_SOFTOKN:-} ]]; then
    [[ -f $NSS_SOFTOKN ]] || fail "NSS_SOFTOKN: there is no file $NSS_SOFTOKN"
    readlink -f -- "$NSS_SOFTOKN"
    return
  fi
  for candidate in \
    /usr/lib/*/libsoftokn3.so \
    /usr/lib/*/nss/libsoftokn3.so \
    /usr/lib64/libsoftokn3.so; do
    if [[ -f $candidate ]]; then
      readlink -f -- "$candidate"
      return
    fi
  done
  fail 'no libsoftokn3.so; run scripts/install-deps.sh test'
}

(($# > 0)) || fail 'usage: with-nss.sh COMMAND [ARGUMENT...]' 64

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=softhsm-config/command.sh
source "$here/../softhsm-config/command.sh"
library=$(find_library)
begin keyd-nss

mkdir "$folder/token"
label=keyd-test-$(random_pin)
random_pin >"$folder/pin"
parameters="configdir='sql:$folder/token' certPrefix='' keyPrefix='' secmod='' flags=noModDB dbTokenDescription='$label'"

go -C "$here/.." run ./hsm/module/internal/token/tokentest/maketoken "$library" "$parameters" "$label" \
  <"$folder/pin" >"$folder/init.log" 2>&1 ||
  fail "the token was not made: $(<"$folder/init.log")"

export KEYD_TEST_MODULE=$library
export KEYD_TEST_PARAMETERS=$parameters
export KEYD_TEST_PIN_FILE=$folder/pin
export KEYD_TEST_TOKEN_LABEL=$label
export KEYD_TEST_LACKS=TDES-CMAC
export KEYD_TEST_TOKEN_FOLDER=$folder/token

run_command "$@"
