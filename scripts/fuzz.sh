#!/usr/bin/env bash
# Runs every fuzz target of the module, one after the other, for FUZZTIME each
# (default 10s). It ends with the first that fails; go test has then written the
# input to the package's testdata/fuzz.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
fuzztime=${FUZZTIME:-10s}

count=0
packages=$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...)
for package in $packages; do
  # Without a match go test -list still ends with a line "ok".
  listed=$(go test -list '^Fuzz' "$package")
  for target in $(grep -E '^Fuzz' <<<"$listed" || true); do
    printf '== %s %s, %s\n' "$package" "$target" "$fuzztime"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" "$package" </dev/null
    count=$((count + 1))
  done
done
((count > 0)) || {
  printf 'fuzz.sh: no fuzz target was found\n' >&2
  exit 1
}
printf '%d fuzz targets, %s each: no failure\n' "$count" "$fuzztime"
