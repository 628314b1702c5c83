#!/usr/bin/env bash
# Makes the Go code of every .proto file, with protoc and the plugins that
# tools/go.mod pins.
#
#   scripts/generate.sh           writes it
#   scripts/generate.sh --check   compares, writes nothing, and fails on a difference
#
# The comment that names protoc's own version does not count: Debian's differs from
# release to release, and the code comes from the plugins.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# The folders from which .proto files are imported.
roots=(api hsm/internal)

mode="write"
case ${1:-} in
'') ;;
--check) mode="check" ;;
*)
  printf 'usage: scripts/generate.sh [--check]\n' >&2
  exit 64
  ;;
esac

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
mkdir "$work/bin" "$work/out"
go build -modfile=tools/go.mod -o "$work/bin/" \
  google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc

for root in "${roots[@]}"; do
  mapfile -t files < <(cd "$root" && find . -name '*.proto' -not -path './google/*' -printf '%P\n' | LC_ALL=C sort)
  ((${#files[@]} > 0)) || {
    printf 'generate.sh: no .proto file under %s\n' "$root" >&2
    exit 1
  }
  PATH=$work/bin:$PATH protoc -I "$root" \
    --go_out="$work/out" --go_opt=module=keyd \
    --go-grpc_out="$work/out" --go-grpc_opt=module=keyd \
    "${files[@]}"
done

if [[ $mode == write ]]; then
  cp -R "$work/out/." .
  exit
fi

# Both sides without protoc's version: the files that were made, and those in the tree.
without_version() { sed -E '/^\/\/ (- )?[[:space:]]*protoc[[:space:]]+v[0-9]/d' "$1"; }
list() { (cd "$1" && find "${roots[@]}" -name '*.pb.go' | LC_ALL=C sort); }
status=0
if ! diff <(list .) <(list "$work/out") >&2; then
  printf 'generate.sh: the set of generated files differs (< in the tree, > made now)\n' >&2
  status=1
fi
while IFS= read -r file; do
  if [[ -f $file ]] && ! diff -u --label "$file" --label 'made now' \
    <(without_version "$file") <(without_version "$work/out/$file") >&2; then
    status=1
  fi
done < <(list "$work/out")
((status == 0)) || printf 'generate.sh: generated code is not up to date; run make generate\n' >&2
exit "$status"
