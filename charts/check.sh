#!/bin/bash
# What can be said of the charts without a cluster: they lint and render under every switch, wrong
# values are refused, the alerts are valid and fire when they should.
set -euo pipefail
charts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ENGRAM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/engram}
PATH=$cache/kind/bin:$PATH

renders() { helm template "$@" >/dev/null; }
refused() {
  if helm template "$@" >/dev/null 2>&1; then
    echo "check.sh: accepted, and should not be: helm template $*" >&2
    exit 1
  fi
}

helm lint --strict "$charts/engram-operator" "$charts/engram-cluster"

operator=(x "$charts/engram-operator")
renders "${operator[@]}"
renders "${operator[@]}" --set 'watchNamespaces={data}',crds.install=false,replicas=1
# For namespaces alone: a Role in each, and nothing of the whole cluster's.
named=$(helm template "${operator[@]}" --set 'watchNamespaces={data,apps}',rbac.clusterScoped=false,crds.install=false)
if grep -q 'kind: ClusterRole' <<<"$named" || [ "$(grep -c '^kind: Role$' <<<"$named")" != 3 ]; then
  echo "check.sh: an install for two namespaces has other rights than two Roles and the election's" >&2
  exit 1
fi
refused "${operator[@]}" --set rbac.clusterScoped=false
renders "${operator[@]}" --set metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true,metrics.dashboard.enabled=true
# People write no status, and make no members.
rights=$(helm template "${operator[@]}" --show-only templates/rbac.yaml)
if grep -A40 'aggregate-to-edit' <<<"$rights" | grep -qE '"\*"|/status|create.*engrammembers'; then
  echo "check.sh: people's rights are wider than they should be" >&2
  exit 1
fi
if [ "$(grep -c 'engramclusters/scale' <<<"$rights")" != 2 ]; then
  echo "check.sh: whoever may edit a cluster may not kubectl scale it" >&2
  exit 1
fi
refused "${operator[@]}" --set replicas=two
refused "${operator[@]}" --set unknown=1
refused "${operator[@]}" --set serviceAccount.create=false

cluster=(demo "$charts/engram-cluster")
renders "${cluster[@]}" --set monitoring.podMonitor.enabled=true
renders "${cluster[@]}" --set backup.enabled=true,backup.store.pvc.claimName=backups
renders "${cluster[@]}" --set backup.enabled=true,backup.store.s3.bucket=backups
refused "${cluster[@]}" --set cluster.replicas=2
refused "${cluster[@]}" --set backup.enabled=true
refused "${cluster[@]}" --set backup.enabled=true,backup.store.pvc.claimName=a,backup.store.s3.bucket=backups
refused "${cluster[@]}" --set backup.schedule.schedule='0 0 3 * * *'
refused "${cluster[@]}" --set name="$(printf 'a%.0s' $(seq 41))"

promtool check rules --lint-fatal "$charts/engram-operator/files/alerts.yaml"
promtool test rules "$charts/tests/alerts.yaml"
jq -e '.panels | length > 0' "$charts/engram-operator/files/dashboards/engram.json" >/dev/null

runbooks=$charts/../docs/runbooks.md
while read -r alert; do
  grep -qx "## $alert" "$runbooks" || { echo "check.sh: $runbooks has nothing on $alert" >&2; exit 1; }
  grep -qE "alertname(: |=\")$alert\b" "$charts/tests/alerts.yaml" || { echo "check.sh: no test has seen $alert fire" >&2; exit 1; }
done < <(sed -n 's/^  - alert: //p' "$charts/engram-operator/files/alerts.yaml" | sort -u)
