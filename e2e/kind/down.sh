#!/bin/bash
# Deletes a kind cluster.   Usage: down.sh [NAME] [--host]
#   NAME     the cluster (engram)
#   --host   also stops the docker daemon that up.sh started, and undoes what kubelet changed
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../node-image/versions.sh
. "$here/../node-image/versions.sh"

name=engram host=0
for word in "$@"; do
  case $word in
    --host) host=1 ;;
    -*) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \?//' >&2; exit 2 ;;
    *) name=$word ;;
  esac
done
"$BIN/kind" delete cluster --name "$name" --kubeconfig "${KUBECONFIG:-$KIND_CACHE/$name.kubeconfig}"
[ "$host" = 0 ] || "$here/../node-image/host.sh" down
