#!/usr/bin/env bash
# Everything that is checked without running keyd. It runs all checks, and fails when
# one of them did.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 1

failed=()
check() { # check NAME COMMAND...
  local name=$1
  shift
  printf 'check: %s\n' "$name"
  "$@" </dev/null || failed+=("$name")
}

formatted() {
  local files
  files=$(find . -name '*.go' -not -path './.git/*' -print0 | xargs -0 gofmt -l) || return
  [[ -z $files ]] || {
    printf 'gofmt would change:\n%s\n' "$files" >&2
    return 1
  }
}

scripts_clean() {
  local file first files=()
  while IFS= read -r -d '' file; do
    IFS= read -r first <"$file" 2>/dev/null || true
    case $file:$first in
    *.sh:* | *:'#!/usr/bin/env bash' | *:'#!/bin/bash' | *:'#!/bin/sh') files+=("$file") ;;
    esac
  done < <(find . -type f \( -name '*.sh' -o -perm -u+x \) -not -path './.git/*' -not -path './bin/*' -print0)
  shellcheck --external-sources "${files[@]}"
}

tool() { go tool -modfile=tools/go.mod "$@"; }

# A finding is excused by //nolint:errcheck with a reason after it. Tests are not
# looked at: what a test's clean-up returns proves nothing.
errors_checked() {
  local out status=0
  out=$(tool errcheck -ignoretests ./...) || status=$?
  # Findings are status 1 and output; anything else means that errcheck did not run.
  ((status == 0)) || { ((status == 1)) && [[ -n $out ]]; } || return "$status"
  ! grep -vE '//nolint:errcheck // .' <<<"$out" | grep .
}

check 'gofmt' formatted
check 'go.mod is tidy' go mod tidy -diff
check 'tools/go.mod is tidy' go -C tools mod tidy -diff
check 'modules are what go.sum says' go mod verify
check 'go vet' go vet ./...
check 'go vet without runtime/secret' env GOEXPERIMENT= go vet ./...
check 'staticcheck' tool staticcheck ./...
check 'errcheck' errors_checked
check 'shellcheck' scripts_clean
check 'generated code' scripts/generate.sh --check

if ((${#failed[@]} > 0)); then
  printf 'check: failed:' >&2
  printf ' %s;' "${failed[@]}" >&2
  printf '\n' >&2
  exit 1
fi
printf 'check: everything is clean\n'
