#!/bin/bash
# Renders manifests/ from the charts, for those who install without Helm, after copying into the
# chart what the operator's crate generates.
# Usage: render.sh [DIRECTORY]     (manifests)
set -euo pipefail
charts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ENGRAM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/engram}
PATH=$cache/kind/bin:$PATH
out=${1:-$charts/../manifests}

if [ -d "$charts/../manifests/crds" ]; then
  rm -f "$charts"/engram-operator/files/crds/*.yaml
  mkdir -p "$charts/engram-operator/files/crds"
  cp "$charts"/../manifests/crds/*.yaml "$charts/engram-operator/files/crds/"
fi

# The operator's rights are written beside its code; the chart's are the same.
rights=$charts/../manifests/rbac/operator.yaml
if [ -f "$rights" ]; then
  {
    echo "# Copied from manifests/rbac by charts/render.sh: change it there."
    sed '1,/^rules:/d; s/^  //' "$rights"
  } >"$charts/engram-operator/files/rules.yaml"
fi

mkdir -p "$out"
head='# Rendered by charts/render.sh from charts/engram-operator: change it there.'
{
  printf '%s\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: engram-system\n' "$head"
  helm template engram-operator "$charts/engram-operator" --namespace engram-system --no-hooks \
    --set crds.install=false
} >"$out/operator.yaml"
{
  echo "$head"
  helm template engram-operator "$charts/engram-operator" --namespace engram-system --no-hooks \
    --set metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true \
    --show-only templates/monitoring.yaml
} >"$out/monitoring.yaml"
