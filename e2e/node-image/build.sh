#!/bin/bash
# Builds a node image for kind where none can be pulled, and imports it into docker as $NODE_IMAGE
# (versions.sh). Everything comes from Debian's archive and from Go modules; the first time takes
# some twelve minutes, and nothing is done again that has not changed.
set -euo pipefail
# shellcheck source=versions.sh
. "$(dirname "${BASH_SOURCE[0]}")/versions.sh"
here=$E2E/node-image

[ "$(uname -m)" = x86_64 ] || { echo "build.sh: only x86_64 machines are provided for" >&2; exit 1; }
"$E2E/tools/build.sh" etcd kube
"$here/binaries.sh"
"$here/rootfs.sh"

# Everything that decides what the image holds; it is a label of the image too.
print=$(
  cd "$KIND_CACHE"
  {
    cat stamps/* "$TOOLS_CACHE"/stamps/{etcd,kube} "$E2E/../image/oci-archive.py"
    cat "$here"/{images.sh,build.sh,versions.sh,pause.c}
    find "$here/overlay" -type f -print0 | sort -z | xargs -0 sha256sum
  } | sha256sum | cut -c1-64
)
if [ "$(docker image inspect -f '{{index .Config.Labels "dev.engram.print"}}' "$NODE_IMAGE" 2>/dev/null)" = "$print" ]; then
  echo "$NODE_IMAGE: fresh"
  exit 0
fi

"$here/images.sh"

node=$KIND_CACHE/node
rm -rf "$node"
cp -a "$KIND_CACHE/rootfs" "$node"
cp -r "$here/overlay/." "$node/"
pause=$("$BIN/kubeadm" config images list --kubernetes-version "$KUBE_VERSION" 2>/dev/null | sed -n 's,.*/pause:,,p')
sed -i "s/@PAUSE_TAG@/$pause/" "$node/etc/containerd/config.toml"
mkdir -p "$node/opt/cni/bin" "$node/etc/systemd/system/multi-user.target.wants"
install -m755 "$BIN"/{kubelet,kubeadm} "$TOOLS_CACHE/bin/kubectl" "$node/usr/bin/"
install -m755 "$BIN"/{containerd,ctr,containerd-shim-runc-v2,crictl} "$node/usr/local/bin/"
install -m755 "$BIN"/{ptp,host-local,loopback,portmap,bridge} "$node/opt/cni/bin/"
printf %s "$KUBE_VERSION" >"$node/kind/version" # kind reads it
for unit in containerd kubelet node-net; do
  ln -sf "/etc/systemd/system/$unit.service" "$node/etc/systemd/system/multi-user.target.wants/$unit.service"
done
rm -rf "$node/var/lib/containerd"
mv "$KIND_CACHE/store" "$node/var/lib/containerd"

former=$(docker image inspect -f '{{.Id}}' "$NODE_IMAGE" 2>/dev/null || true)
tar -C "$node" --numeric-owner -c . | docker import \
  --change 'ENV container=docker' \
  --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  --change 'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]' \
  --change "LABEL dev.engram.print=$print" - "$NODE_IMAGE" >/dev/null
[ -z "$former" ] || docker rmi "$former" >/dev/null 2>&1 || true
rm -rf "$node"
docker image inspect -f '{{.Size}}' "$NODE_IMAGE" | awk -v name="$NODE_IMAGE" '{printf "%s: built, %.0f MB\n", name, $1 / 1e6}'
