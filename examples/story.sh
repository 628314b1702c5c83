# What the stories of this folder are told with: each command that is shown is run as shown.
# shellcheck shell=bash

if [ -t 1 ]; then
  bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
else
  bold='' dim='' plain=''
fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
# indented prints the last answer.
indented() { printf '    %s\n' "${answer//$'\n'/$'\n'    }"; }
# show prints a command and runs it; its output is indented, and kept for field.
show() {
  printf '  $'
  printf ' %q' "$@"
  printf '\n'
  local status=0
  answer=$("$@" 2>&1) || status=$?
  indented
  return "$status"
}
# brief is show, but the output is printed only where the command fails.
brief() {
  printf '  $'
  printf ' %q' "$@"
  printf '\n'
  answer=$("$@" 2>&1) || {
    local status=$?
    indented
    return "$status"
  }
}
# pad is show for what is typed, lines with \n between them.
pad() {
  local typed="echo ${1//\\n/; echo }"
  [[ $1 != *\\n* ]] || typed="($typed)"
  printf '  $ %s |' "$typed"
  printf ' %q' "${@:2}"
  printf '\n'
  local status=0
  answer=$("${@:2}" < <(printf '%b\n' "$1") 2>&1) || status=$?
  indented
  return "$status"
}
# field prints one field of the last answer.
field() { sed -n "s/^$1  *//p" <<<"$answer"; }
