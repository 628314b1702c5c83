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

random_pin() {
  # 64 random bits in hexadecimal digits.
  od -An -N8 -tx1 /dev/urandom | tr -d ' \n'
}

(($# > 0)) || fail 'usage: with-softhsm.sh COMMAND [ARGUMENT...]' 64
command -v softhsm2-util >/dev/null || fail 'softhsm2-util is missing; run scripts/install-deps.sh run'

callers_umask=$(umask)
umask 077
library=$(find_library)
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=$(mktemp -d "${TMPDIR:-/tmp}/keyd-softhsm.XXXXXXXX")
child=''

# A signal to this script ends the command first; then its token is removed.
# shellcheck disable=SC2317 # called by the traps
end_command() {
  signalled=yes
  child=${child:-${!:-}} # it may come between the command's start and the next line
  if [[ -n $child ]]; then
    kill -s TERM "$child" 2>/dev/null || true
  else
    exit 143
  fi
}
trap 'rm -rf -- "$folder"' EXIT
# SIGINT too: bash starts a command in the background with SIGINT ignored.
trap end_command TERM HUP INT

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

umask "$callers_umask"
"$@" <&0 &
child=$!
# wait returns early, and with the signal's status, when a trap runs: wait again, also when
# the command has ended meanwhile, since its own status is still to be had.
status=0
while :; do
  signalled=''
  status=0
  wait "$child" || status=$?
  [[ -n $signalled ]] || break
done
exit "$status"
