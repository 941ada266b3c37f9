#!/bin/bash
# What etcd's own tests, examples and clients say of Engram, in full, written down: etcd's tests/v3/common
# with every kind of TLS, its tests of the concurrency package and the examples of its client on three
# members, what it refuses to whom beside a real etcd, and its clients of five registries.
# Usage: conformance.sh ENGRAM REPORT
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
engram=$1 report=$2
status=0

# part NAME PATTERN COMMAND…: a row of the report, with the line of the command's output that PATTERN finds.
part() {
  local name=$1 pattern=$2 started=$SECONDS log result=passes seen
  shift 2
  log=$(mktemp)
  "$@" 2>&1 | tee "$log" || { result='**fails**' status=1; }
  # A filter that matches no test is no pass.
  if grep -qE '^test result: ok\. 0 passed' "$log"; then result='**ran nothing**' status=1; fi
  seen=$(grep -E "$pattern" "$log" | tail -n 1 | sed -E 's/;? ?the whole is in .*//' || true)
  [ -n "$seen" ] || { seen='nothing of what it should say' result='**fails**' status=1; }
  rm -f "$log"
  printf '| %s | %s | %d s | %s |\n' "$name" "$result" $((SECONDS - started)) "$seen" >>"$report"
}

stories() { cargo test --release --workspace --test "$1" -- --include-ignored --nocapture --test-threads=1 "${@:2}"; }

printf '# etcd'\''s own tests, examples and clients on Engram\n\n%s, commit %s, `make conformance` on %s cores.\n\n| part | result | took | seen |\n|---|---|---|---|\n' \
  "$(date +%F)" "$(git rev-parse --short HEAD)" "$(nproc)" >"$report"
part 'etcd'\''s `tests/v3/common`, every kind of TLS' '^etcd-common: ' \
  env ENGRAM_ETCD_COMMON_FULL=1 e2e/etcd-common/run.sh "$engram"
part 'etcd'\''s tests of `concurrency`, and the examples of its client, on three members' ' of etcd.s tests of concurrency pass' \
  stories cluster etcds_tests::
part 'users: every call, by everybody, beside a real etcd' ' calls by somebody, .* beside etcd' stories one_member auth::
part 'etcd'\''s clients of five registries, beside a real etcd' '^test result' stories one_member every_client
exit $status
