#!/bin/bash
# Derives a node image in which the image archive ARCHIVE has the name of kubeadm's etcd image; the
# last line of its output is the derived image's name. Nothing else of the node changes.
# Usage: etcd-node-image.sh ARCHIVE NODE_IMAGE
set -euo pipefail
archive=$1 base=$2

print=$({ sha256sum "$archive" "${BASH_SOURCE[0]}" | cut -c1-64; docker image inspect -f '{{.Id}}' "$base"; } | sha256sum | cut -c1-12)
derived=engram-e2e/node:etcd-$print
if docker image inspect "$derived" >/dev/null 2>&1; then echo "$derived"; exit 0; fi

# Not of the last run, which may have been killed: a name of its own each time.
container=$(docker run -d --rm --security-opt seccomp=unconfined --entrypoint sleep "$base" infinity)
trap 'docker kill "$container" >/dev/null 2>&1 || true' EXIT
inside() { docker exec -i "$container" "$@"; }

inside bash -c 'nohup containerd >/var/log/containerd-import.log 2>&1 &'
inside bash -c 'for i in $(seq 100); do ctr version >/dev/null 2>&1 && exit 0; sleep 0.1; done; tail /var/log/containerd-import.log; exit 1' >&2
wanted=$(inside bash -c 'kubeadm config images list --kubernetes-version "$(cat /kind/version)" 2>/dev/null' | grep /etcd:)
ctr="ctr --namespace k8s.io images"
imported=$(tar -xOf "$archive" index.json | jq -r '.manifests[0].annotations["io.containerd.image.name"]')
inside $ctr import --local --no-unpack - <"$archive" >&2
inside $ctr tag --force "$imported" "$wanted" >&2
# One name only: the kubelet asks for an image by the first name that its content has.
[ "$imported" = "$wanted" ] || inside $ctr rm "$imported" >/dev/null
inside $ctr label "$wanted" io.cri-containerd.pinned=pinned >/dev/null
inside pkill containerd || true
inside rm -f /var/log/containerd-import.log

docker commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' "$container" "$derived" >/dev/null
echo "$derived"
