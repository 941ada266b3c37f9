#!/bin/bash
# The images that a node starts with (nothing but static binaries in them), named as kubeadm wants
# them, and from them containerd's content store as the node will have it: $KIND_CACHE/store.
set -euo pipefail
# shellcheck source=versions.sh
. "$(dirname "${BASH_SOURCE[0]}")/versions.sh"

here=$E2E/node-image
root=$KIND_CACHE/rootfs
images=$KIND_CACHE/images
store=$KIND_CACHE/store
work=$(mktemp -d "$KIND_CACHE/images.XXXXXX")
pid=
stop() {
  [ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2>/dev/null || true
  rm -rf "$work"
}
trap stop EXIT

names=$("$BIN/kubeadm" config images list --kubernetes-version "$KUBE_VERSION" 2>/dev/null)
name_of() { grep "/$1:" <<<"$names"; }
archive() { python3 "$E2E/../image/oci-archive.py" "$images/$1.tar" "${@:2}"; }

rm -rf "$images" "$store"
mkdir -p "$images" "$store"
local_bin=/usr/local/bin

pause() {
  cc -Os -static -s -o "$work/pause" "$here/pause.c"
  archive pause "$(name_of pause)" --entrypoint /pause "$work/pause:/pause"
}

control_plane() {
  local each
  for each in kube-apiserver kube-controller-manager; do
    archive "$each" "$(name_of "$each")" "$TOOLS_CACHE/bin/$each:$local_bin/$each"
  done
  archive kube-scheduler "$(name_of kube-scheduler)" "$BIN/kube-scheduler:$local_bin/kube-scheduler"
  archive etcd "$(name_of etcd)" "$TOOLS_CACHE/bin/etcd:$local_bin/etcd" \
    "$TOOLS_CACHE/bin/etcdctl:$local_bin/etcdctl" "$TOOLS_CACHE/bin/etcdutl:$local_bin/etcdutl"
}

# kube-proxy runs iptables and nft: they come from the root file system with their libraries, those
# of the extensions too (libxt_statistic needs libm; without it kube-proxy fails at the first
# Service with two endpoints).
kube_proxy() {
  local proxy=$work/proxy each
  mkdir -p "$proxy"/usr/{sbin,lib/x86_64-linux-gnu,lib64,local/bin} "$proxy/run" "$proxy/etc"
  for each in lib lib64 sbin; do ln -s "usr/$each" "$proxy/$each"; done
  cp -a "$root"/usr/sbin/{xtables-nft-multi,nft,conntrack} "$proxy/usr/sbin/"
  for each in iptables{,-save,-restore} ip6tables{,-save,-restore}; do
    ln -s xtables-nft-multi "$proxy/usr/sbin/$each"
  done
  cp -a "$root/usr/lib/x86_64-linux-gnu/xtables" "$proxy/usr/lib/x86_64-linux-gnu/"
  chroot "$root" sh -c 'ldd /usr/sbin/xtables-nft-multi /usr/sbin/nft /usr/sbin/conntrack /usr/lib/x86_64-linux-gnu/xtables/*.so' |
    grep -o '/lib[^ ]* (0x' | cut -d' ' -f1 | sort -u | while read -r each; do
    cp -L "$root$each" "$proxy/usr$each"
  done
  cp "$BIN/kube-proxy" "$proxy/usr/local/bin/"
  archive kube-proxy "$(name_of kube-proxy)" "$proxy:/"
}

# The provisioner of PersistentVolumes, and the shell that it runs to make a directory.
local_path() {
  local shell=$work/shell each
  mkdir -p "$shell/bin"
  cp "$root/bin/busybox" "$shell/bin/"
  for each in sh mkdir rm chmod chown nc sleep; do ln -s busybox "$shell/bin/$each"; done
  archive local-path-helper localhost/local-path-helper:local "$shell:/"
  archive local-path-provisioner localhost/local-path-provisioner:local "$shell:/" \
    "$BIN/local-path-provisioner:$local_bin/local-path-provisioner"
}

# A private containerd imports the archives; a node unpacks each of them when it is first used.
fill_store() {
  local ctr="$BIN/ctr -a $work/containerd.sock -n k8s.io" each
  cat >"$work/config.toml" <<TOML
version = 3
root = '$store'
state = '$work/state'
disabled_plugins = ['io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', 'io.containerd.grpc.v1.cri', 'io.containerd.nri.v1.nri']
[grpc]
  address = '$work/containerd.sock'
[ttrpc]
  address = '$work/ttrpc.sock'
TOML
  "$BIN/containerd" --config "$work/config.toml" >"$KIND_CACHE/store.log" 2>&1 &
  pid=$!
  for _ in $(seq 100); do
    if $ctr version >/dev/null 2>&1; then break; fi
    sleep 0.1
  done
  for each in "$images"/*.tar; do
    $ctr images import --local --no-unpack --label io.cri-containerd.pinned=pinned "$each" >/dev/null 2>&1 ||
      { echo "images.sh: containerd does not take $each (log: $KIND_CACHE/store.log)" >&2; exit 1; }
  done
  kill "$pid"
  wait "$pid" 2>/dev/null || true
  pid=
  rm -rf "$store/tmpmounts"
}

pause
control_plane
kube_proxy
archive coredns "$(name_of coredns)" --entrypoint /coredns "$BIN/coredns:/coredns"
local_path
fill_store
