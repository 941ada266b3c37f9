# Versions and paths of the kind environment; sourced by the scripts here and in e2e/kind.
# Everything built lies below $KIND_CACHE; the clone stays small.
# shellcheck shell=bash disable=SC2034 # they are used by the scripts that source this
E2E=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
: "${ENGRAM_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/engram}"
TOOLS_CACHE=$ENGRAM_CACHE/tools      # e2e/tools/build.sh: etcd, etcdctl, kubectl, the control plane
KIND_CACHE=$ENGRAM_CACHE/kind
BIN=$KIND_CACHE/bin

KUBE_VERSION=$(sed -n 's/^kube_version=\([^ ]*\).*/\1/p' "$E2E/tools/build.sh")
KIND_VERSION=v0.33.0
CONTAINERD_VERSION=v2.4.2
CNI_VERSION=v1.9.1
COREDNS_VERSION=v1.14.6              # what `kubeadm config images list` names
CRICTL_VERSION=v1.36.0
LOCAL_PATH_VERSION=v0.0.30
HELM_VERSION=v3.22.0
DEBIAN_SUITE=bookworm

NODE_IMAGE=kindest/node:$KUBE_VERSION-engram   # the image built here
# The published one that goes with KIND_VERSION (pkg/apis/config/defaults in its source).
PUBLISHED_NODE_IMAGE=kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5
