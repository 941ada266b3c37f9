#!/bin/bash
# A kind cluster to play with: three nodes, the operator, and the EngramCluster `demo` with three
# members, by the README's quick start. The binaries are those of `make build`.
# Usage: demo.sh [options of up.sh]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../node-image/versions.sh
. "$here/../node-image/versions.sh"

name=engram previous=
for word in "$@"; do
  [ "$previous" != --name ] || name=$word
  previous=$word
done
export KUBECONFIG=${KUBECONFIG:-$KIND_CACHE/$name.kubeconfig}

image=$("$here/../../image/build.sh" | tail -n1)
"$here/up.sh" "$@"
"$BIN/kind" load image-archive "$image" --name "$name"
"$here/quick-start.sh"
echo "to reach it:  export KUBECONFIG=$KUBECONFIG PATH=$BIN:$TOOLS_CACHE/bin:\$PATH"
