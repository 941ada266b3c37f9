#!/bin/bash
# Runs etcd's own go.etcd.io/etcd/tests/v3/common, of the etcd that e2e/tools pins, on Engram: its
# framework starts bin/etcd, which is Engram here, and asks it by etcdctl. What it does not run
# stands in `excluded`, with the reason.
# Usage: run.sh ENGRAM [-test.FLAG...]      ENGRAM_ETCD_COMMON_FULL=1: with automatic TLS as well
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ENGRAM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/engram}
tools=$cache/tools
suite=$tools/bin/etcd-common.test
log=$cache/etcd-common.log
export GOMODCACHE=${GOMODCACHE:-$tools/gomod} GOTOOLCHAIN=local

die() {
  echo "etcd-common: $*" >&2
  exit 1
}

[ $# -gt 0 ] || die "usage: run.sh ENGRAM [-test.FLAG...]"
engram=$(realpath "$1")
shift
for needed in "$engram" "$suite" "$tools/bin/etcdctl" "$tools/bin/etcdutl"; do
  [ -x "$needed" ] || die "$needed is not there: make build, and e2e/tools/build.sh etcd common"
done

# The framework's members listen from port 20000 on, whoever else does.
exec 9>"$cache/etcd-common.lock"
flock 9

work=$(mktemp -d)
# A run that was cut short leaves members behind; nobody else's have this path.
trap 'pkill -KILL -f "^$work/bin/" || true; rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/tmp"
ln -s "$engram" "$work/bin/etcd"
ln -s "$tools/bin/etcdctl" "$tools/bin/etcdutl" "$work/bin/"

# The tests read certificates beside their package.
module=$(cd "$here/../tools" && go list -m -f '{{.Dir}}' go.etcd.io/etcd/tests/v3)
cd "$module/common" || die "etcd's tests are not in $GOMODCACHE: e2e/tools/build.sh common"

excluded=$(sed -e 's/#.*//' "$here/excluded" | xargs -n 1)
unknown=$(comm -23 <(sort <<<"$excluded") <("$suite" -test.list . | sort))
[ -z "$unknown" ] || die "no test of etcd's is called" $unknown "(see $here/excluded)"

matrix=(E2E_TEST_MINIMAL=true)
[ -z "${ENGRAM_ETCD_COMMON_FULL:-}" ] || matrix=(E2E_TEST_MINIMAL=false)
status=0
# Not with the lock: what a test leaves behind would hold it.
env "${matrix[@]}" TMPDIR="$work/tmp" "$suite" -bin-dir "$work/bin" -test.v -test.timeout 30m \
  -test.skip "^($(tr '\n' '|' <<<"$excluded" | sed 's/|$//'))\$" "$@" </dev/null 9>&- 2>&1 |
  tee "$log" | grep --line-buffered -E '^--- |^ +--- FAIL|^panic' || status=$?

passed=$(grep -c '^--- PASS' "$log" || true)
skipped=$(sed -n 's/^--- SKIP: \([^ ]*\).*/\1/p' "$log")
echo "etcd-common: $passed of etcd's tests pass; $(wc -w <<<"$excluded") are left out; the whole is in $log"
[ "$status" = 0 ] && grep -qx PASS "$log" || die "not all pass"
[ "$passed" -gt 0 ] || die "nothing was run"
[ -z "$skipped" ] || die "skipped without a reason here:" $skipped
