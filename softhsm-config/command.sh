# What with-softhsm.sh and nss-config/with-nss.sh have in common: a folder for a token that
# goes when the script ends, and the command that runs meanwhile. They source it.
# shellcheck shell=bash

# Makes $folder, whose name begins with $1. The caller's umask comes back with run_command.
begin() {
  callers_umask=$(umask)
  umask 077
  folder=$(mktemp -d "${TMPDIR:-/tmp}/$1.XXXXXXXX")
  child=''
  trap 'rm -rf -- "$folder"' EXIT
  # SIGINT too: bash starts a command in the background with SIGINT ignored.
  trap end_command TERM HUP INT
}

# A signal to the script ends the command first; then its token is removed.
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

random_pin() {
  # 64 random bits in hexadecimal digits.
  od -An -N8 -tx1 /dev/urandom | tr -d ' \n'
}

# Runs the command and ends the script with its status.
run_command() {
  local status
  umask "$callers_umask"
  "$@" <&0 &
  child=$!
  # wait returns early, and with the signal's status, when a trap runs: wait again, also when
  # the command has ended meanwhile, since its own status is still to be had.
  while :; do
    signalled=''
    status=0
    wait "$child" || status=$?
    [[ -n $signalled ]] || break
  done
  exit "$status"
}
