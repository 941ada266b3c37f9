#!/bin/bash
# Creates a kind cluster and waits until everything in it is ready.
# Usage: up.sh [--offline] [--replace] [--name NAME] [--config FILE] [--etcd-image ARCHIVE]
#   --offline      a node image built on this machine, nothing pulled (also: ENGRAM_KIND_OFFLINE=1);
#                  without it kind's published node image
#   --replace      deletes a cluster of that name that is there already; without it that is an error
#   --name         name of the cluster (engram)
#   --config       kind's configuration (three-nodes.yaml here)
#   --etcd-image   an image archive that takes the place of kubeadm's etcd image
# The kubeconfig goes to ${KUBECONFIG:-<cache>/kind/NAME.kubeconfig}; nothing else of the user's is
# changed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../node-image/versions.sh
. "$here/../node-image/versions.sh"

offline=${ENGRAM_KIND_OFFLINE:-0} replace=0 name=engram config=$here/three-nodes.yaml etcd_image=
while [ $# -gt 0 ]; do
  case $1 in
    --offline) offline=1 ;;
    --replace) replace=1 ;;
    --name) name=$2; shift ;;
    --config) config=$2; shift ;;
    --etcd-image) etcd_image=$2; shift ;;
    *) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \?//' >&2; exit 2 ;;
  esac
  shift
done

"$here/tools.sh"
PATH=$BIN:$TOOLS_CACHE/bin:$PATH
export KUBECONFIG=${KUBECONFIG:-$KIND_CACHE/$name.kubeconfig}
started=$SECONDS

node_image=$PUBLISHED_NODE_IMAGE
if [ "$offline" = 1 ]; then
  "$here/../node-image/host.sh" up
  "$here/../node-image/build.sh"
  node_image=$NODE_IMAGE
fi
docker ps -q >/dev/null || { echo "up.sh: no docker daemon answers (kind needs one)" >&2; exit 1; }

[ "$replace" = 0 ] || "$here/down.sh" "$name"

if [ -n "$etcd_image" ]; then
  docker image inspect "$node_image" >/dev/null 2>&1 || docker pull "$node_image"
  node_image=$("$here/etcd-node-image.sh" "$etcd_image" "$node_image")
fi

kind create cluster --name "$name" --config "$config" --image "$node_image" --wait 180s
kubectl wait --for=condition=Ready node --all --timeout=120s >/dev/null
# `--wait` returns before CoreDNS and the static pods are ready.
kubectl -n kube-system wait --for=condition=Ready pod --all --timeout=120s >/dev/null
kubectl -n local-path-storage wait --for=condition=Available deployment --all --timeout=120s >/dev/null
echo "cluster $name is ready after $((SECONDS - started)) s:  export KUBECONFIG=$KUBECONFIG"
