#!/usr/bin/env bash
# Prints the path of the real Vault that tests run, from a cache that is kept by Vault's and
# Go's version. It is a tool for tests; nothing of it is shipped.
#
#   scripts/vault.sh          builds it where it is missing, which takes some ten minutes
#   scripts/vault.sh --path   fails where it is missing
set -euo pipefail

tool="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../tools/vault" && pwd)"
version=$(cd "$tool" && GOFLAGS='' go list -m -f '{{.Version}}' github.com/hashicorp/vault)
directory="${XDG_CACHE_HOME:-$HOME/.cache}/keyd/vault-${version#v}-$(go env GOVERSION)"
binary=$directory/vault

if [[ ! -x $binary ]]; then
  if [[ ${1:-} == --path ]]; then
    printf 'vault.sh: there is no %s: run scripts/install-deps.sh test\n' "$binary" >&2
    exit 1
  fi
  printf 'building Vault %s for the tests: some ten minutes, once\n' "$version" >&2
  mkdir -p "$directory"
  # Renamed into place when it is whole. GOFLAGS of the caller's are for keyd.
  (cd "$tool" && GOFLAGS='' GOEXPERIMENT='' CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$binary.new" github.com/hashicorp/vault) >&2
  mv "$binary.new" "$binary"
fi
printf '%s\n' "$binary"
