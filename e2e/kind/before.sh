#!/bin/bash
# Builds the programs of the release before (`before`, a commit of this repository) and prints the directory that
# has them in `bin`, and its charts in `source/charts`. Everything is kept in <cache>/kind/before.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../node-image/versions.sh
. "$here/../node-image/versions.sh"

commit=$(sed -n 's/^\([0-9a-f]\{7,40\}\).*/\1/p' "$here/before")
out=$KIND_CACHE/before/$commit
if [ ! -e "$out/bin/engram-operator" ]; then
  git -C "$here/../.." cat-file -e "$commit^{commit}" || { echo "before.sh: $commit is not in this clone: git fetch --unshallow" >&2; exit 1; }
  rm -rf "$out"
  mkdir -p "$out/source" "$out/bin.new"
  git -C "$here/../.." archive "$commit" | tar -x -C "$out/source"
  # In its own directory, below which cargo keeps nothing that another commit's build would take for its own.
  target=${ENGRAM_BEFORE_TARGET:-$KIND_CACHE/before/target}
  (cd "$out/source" && CARGO_TARGET_DIR=$target cargo build --release --locked \
    -p engram-server -p engramctl -p engram-operator >&2)
  install -m755 "$target"/release/{engram,engramctl,engram-operator} "$out/bin.new/"
  mv "$out/bin.new" "$out/bin"
fi
echo "$out"
