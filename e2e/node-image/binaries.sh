#!/bin/bash
# Builds the programs of a Kubernetes node, and those that drive kind, from their Go modules:
# static, into $KIND_CACHE/bin. Each one that is there at the version of versions.sh is skipped.
# Usage: binaries.sh [kind|helm|kube|containerd|cni|crictl|local_path|coredns]...   (default: all)
set -euo pipefail
# shellcheck source=versions.sh
. "$(dirname "${BASH_SOURCE[0]}")/versions.sh"

export GOCACHE=${GOCACHE:-$TOOLS_CACHE/gobuild} GOMODCACHE=${GOMODCACHE:-$TOOLS_CACHE/gomod}
export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-buildvcs=false
stamps=$KIND_CACHE/stamps

die() { echo "binaries.sh: $*" >&2; exit 1; }

# build_in DIR NAME PACKAGE [FLAG]...: one program, in the module of DIR.
build_in() {
  local dir=$1 name=$2 package=$3 stamp started=$SECONDS; shift 3
  # Once for each directory: a build adds lines to go.mod.
  [ -f "$dir/.inputs" ] || cat "$dir/go.mod" "$dir"/*.go 2>/dev/null | sha256sum >"$dir/.inputs" || true
  stamp="$(go env GOVERSION) $(cut -c1-64 "$dir/.inputs") $package $*"
  if [ -x "$BIN/$name" ] && [ "$(cat "$stamps/$name" 2>/dev/null)" = "$stamp" ]; then return; fi
  # Into a temporary name first: a running older binary must not be written to.
  (cd "$dir" && nice -n 10 go build -mod=mod -trimpath "$@" -o "$BIN/.$name.new" "$package")
  mv -f "$BIN/.$name.new" "$BIN/$name"
  echo "$stamp" >"$stamps/$name"
  echo "$name: built in $((SECONDS - started)) s"
}

# module_dir MODULE VERSION: a throw-away module that requires MODULE. Not `go install pkg@version`,
# which refuses modules with replace directives and asks for version lists that a proxy may hide.
module_dir() {
  local dir; dir=$(mktemp -d "$work/XXXXXX")
  printf 'module throwaway\n\ngo 1.26.0\n\nrequire %s %s\n' "$1" "$2" >"$dir/go.mod"
  echo "$dir"
}

strip=-ldflags=-s\ -w

build_kind() { build_in "$(module_dir sigs.k8s.io/kind "$KIND_VERSION")" kind sigs.k8s.io/kind "$strip"; }

build_helm() {
  # Without the version of Kubernetes, `helm template` believes in 1.20.
  local module=helm.sh/helm/${HELM_VERSION%%.*} minor=${KUBE_VERSION#v1.}
  minor=${minor%%.*}
  build_in "$(module_dir "$module" "$HELM_VERSION")" helm "$module/cmd/helm" \
    "$strip -X $module/internal/version.version=$HELM_VERSION $(printf -- "-X $module/pkg/%s=%s " \
      chartutil.k8sVersionMajor 1 chartutil.k8sVersionMinor "$minor" \
      lint/rules.k8sVersionMajor 1 lint/rules.k8sVersionMinor "$minor")"
}

build_crictl() {
  build_in "$(module_dir sigs.k8s.io/cri-tools "$CRICTL_VERSION")" crictl sigs.k8s.io/cri-tools/cmd/crictl "$strip"
}

build_local_path() {
  local module=github.com/rancher/local-path-provisioner
  build_in "$(module_dir $module "$LOCAL_PATH_VERSION")" local-path-provisioner $module "$strip"
}

build_containerd() {
  local module=github.com/containerd/containerd/v2 dir each
  dir=$(module_dir $module "$CONTAINERD_VERSION")
  for each in containerd ctr containerd-shim-runc-v2; do
    build_in "$dir" "$each" "$module/cmd/$each" -tags "no_btrfs no_devmapper no_zfs no_aufs" \
      "$strip -X $module/version.Version=$CONTAINERD_VERSION"
  done
}

build_cni() {
  local module=github.com/containernetworking/plugins dir each
  dir=$(module_dir $module "$CNI_VERSION")
  for each in main/ptp main/loopback main/bridge ipam/host-local meta/portmap; do
    build_in "$dir" "${each#*/}" "$module/plugins/$each" "$strip"
  done
}

# CoreDNS with only the plugins of kubeadm's Corefile: the full one pulls in every cloud's SDK.
build_coredns() {
  local dir each; dir=$(module_dir github.com/coredns/coredns "$COREDNS_VERSION")
  {
    printf 'package main\n\nimport (\n\t"github.com/coredns/coredns/coremain"\n'
    for each in errors health ready kubernetes metrics forward cache loop reload loadbalance log hosts; do
      printf '\t_ "github.com/coredns/coredns/plugin/%s"\n' "$each"
    done
    printf ')\n\nfunc main() { coremain.Run() }\n'
  } >"$dir/main.go"
  build_in "$dir" coredns . "$strip"
}

# The node's part of Kubernetes, with the versions that e2e/tools pins; a copy of its go.mod, since
# these programs need more modules than the control plane does.
build_kube() {
  local dir each version=k8s.io/component-base/version minor=${KUBE_VERSION#v1.}
  dir=$(mktemp -d "$work/XXXXXX")
  sed '1s/.*/module throwaway/' "$E2E/tools/go.mod" >"$dir/go.mod"
  cp "$E2E/tools/go.sum" "$dir/"
  for each in kubelet kubeadm kube-scheduler kube-proxy; do
    build_in "$dir" "$each" "k8s.io/kubernetes/cmd/$each" \
      "$strip -X $version.gitVersion=$KUBE_VERSION -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*} -X $version.gitTreeState=clean"
  done
}

command -v go >/dev/null || die "go is not installed: take 1.26 or newer from https://go.dev/dl"
mkdir -p "$BIN" "$stamps"
exec 9>"$KIND_CACHE/lock" # two builds at once would only do the same work twice
flock 9
work=$(mktemp -d "$KIND_CACHE/go.XXXXXX")
trap 'rm -rf "$work"' EXIT

[ $# -gt 0 ] || set -- kind helm kube containerd cni crictl local_path coredns
for group in "$@"; do
  declare -F "build_$group" >/dev/null || die "unknown program '$group'"
  "build_$group"
done
