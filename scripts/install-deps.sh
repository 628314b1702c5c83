#!/usr/bin/env bash
# Installs what keyd needs from the system and does not find, with apt-get, as root or
# with sudo. It leaves alone what is there, from whatever source it came, and says
# nothing when there is nothing to do.
#
#   scripts/install-deps.sh [run] [test] [check]      (all of them without an argument)
#
#   run    build and run keyd: a C compiler, SoftHSM
#   test   run its tests: OpenSC's pkcs11-tool and pkcs11-spy, NSS softokn, openssl, setpriv, PostgreSQL's
#          programs (no cluster is made, and no server of the system is started), Chromium, which
#          opens the pages for phones; and a real Vault, which is built once, in some ten minutes (scripts/vault.sh)
#   check  run its checks: shellcheck, protoc
#
# Go itself is not among them: go.mod says which version keyd needs.
set -euo pipefail

fail() {
  printf 'install-deps.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

has_file() {
  local candidate
  for candidate in "$@"; do # patterns, expanded by the caller
    [[ -e $candidate ]] && return 0
  done
  return 1
}

compiles() {
  printf '#include <stdlib.h>\n#include <dlfcn.h>\n' | "${CC:-gcc}" -E - >/dev/null 2>&1
}

has_command() { command -v "$1" >/dev/null; }

missing=()
need() { # need PACKAGE TEST...: the package is missing when the test fails
  local package=$1
  shift
  "$@" || missing+=("$package")
}

need_for() {
  case $1 in
  run)
    need gcc has_command "${CC:-gcc}"
    need libc6-dev compiles
    need softhsm2 has_command softhsm2-util
    need libsofthsm2 has_file /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so \
      /usr/lib64/pkcs11/libsofthsm2.so /usr/local/lib/softhsm/libsofthsm2.so
    ;;
  test)
    need opensc has_command pkcs11-tool
    need libnss3 has_file /usr/lib/*/libsoftokn3.so /usr/lib/*/nss/libsoftokn3.so /usr/lib64/libsoftokn3.so
    need openssl has_command openssl
    need util-linux has_command setpriv
    need chromium has_command chromium
    need postgresql has_file /usr/lib/postgresql/*/bin/postgres
    need strace has_command strace
    need opensc-pkcs11 has_file /usr/lib/*/pkcs11-spy.so /usr/lib/*/pkcs11/pkcs11-spy.so /usr/lib64/pkcs11-spy.so
    ;;
  check)
    need shellcheck has_command shellcheck
    need protobuf-compiler has_command protoc
    # google/protobuf/timestamp.proto
    need libprotobuf-dev has_file /usr/include/google/protobuf/timestamp.proto /usr/local/include/google/protobuf/timestamp.proto
    ;;
  *) fail "there is no group '$1'; the groups are run, test and check" 64 ;;
  esac
}

(($# > 0)) || set -- run test check
for group in "$@"; do need_for "$group"; done

vault() { # what the group test has beyond packages
  local group
  for group in "$@"; do
    [[ $group != test ]] || "$(dirname -- "${BASH_SOURCE[0]}")/vault.sh" >/dev/null
  done
}

((${#missing[@]} > 0)) || {
  vault "$@"
  exit 0
}

has_command apt-get || fail "missing: ${missing[*]} (names of Debian's packages). There is no apt-get here: install them in this system's way."
as_root=()
if ((EUID != 0)); then
  has_command sudo || fail "missing: ${missing[*]}. Run this as root, or install them with apt-get."
  as_root=(sudo)
fi
printf 'installing with apt-get: %s\n' "${missing[*]}"
apt_get() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold "$@" </dev/null; }
apt_get update || fail 'apt-get update failed; its messages are above'
if [[ " ${missing[*]} " == *' postgresql '* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
  # Tests make clusters of their own. Debian's package would make one, and start it.
  "${as_root[@]}" mkdir -p /etc/postgresql-common
  printf 'create_main_cluster = false\n' | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
# Not upgrading leaves a package that is there at its version.
apt_get install --no-install-recommends --no-upgrade --yes "${missing[@]}" >/dev/null ||
  fail "apt-get could not install ${missing[*]}; its messages are above"
vault "$@"
