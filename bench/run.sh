#!/bin/bash
# Measures Engram beside the real etcd and writes the table: see README.md.
# Usage: run.sh [--quick] [--runs N] [--out FILE] [--list] [--growth] [--large GB] [ROW...]
set -euo pipefail
bench=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(dirname "$bench")

cache=${ENGRAM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/engram}
tools=${ENGRAM_TOOLS_BIN:-$cache/tools/bin}
engram=${ENGRAM_BIN:-$cache/target/release/engram}

command -v go >/dev/null || {
  echo "run.sh: go is not installed: take 1.26 or newer from https://go.dev/dl" >&2
  exit 1
}
if [ -z "${ENGRAM_TOOLS_BIN:-}" ]; then
  "$repo/e2e/tools/build.sh" etcd programs >&2
fi
for needed in "$tools/etcd" "$tools/etcdctl" "$tools/load" "$engram"; do
  [ -x "$needed" ] || {
    echo "run.sh: $needed is not there: make build, or e2e/tools/build.sh etcd programs" >&2
    exit 1
  }
done

mkdir -p "$cache/bench"
export GOCACHE=${GOCACHE:-$cache/tools/gobuild} GOMODCACHE=${GOMODCACHE:-$cache/tools/gomod} GOTOOLCHAIN=local CGO_ENABLED=0
(cd "$bench" && go build -buildvcs=false -trimpath -o "$cache/bench/sidebyside" .)

# git may be missing, or this may be no checkout: the commit is then unknown.
commit=$(git -C "$repo" rev-parse --short HEAD 2>/dev/null || echo unknown)
if [ "$commit" != unknown ] && [ -n "$(git -C "$repo" status --porcelain 2>/dev/null)" ]; then
  commit="$commit with changes"
fi
exec "$cache/bench/sidebyside" -tools "$tools" -engram "$engram" -etcd "${ETCD_BIN:-$tools/etcd}" \
  -dir "${ENGRAM_BENCH_DIR:-$cache/bench}" -commit "$commit" -results "$bench/RESULTS.md" \
  -command "bench/run.sh $*" "$@"
