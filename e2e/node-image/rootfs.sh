#!/bin/bash
# The Debian root file system of a node, in $KIND_CACHE/rootfs; built once for each version of this
# script.
set -euo pipefail
# shellcheck source=versions.sh
. "$(dirname "${BASH_SOURCE[0]}")/versions.sh"

root=$KIND_CACHE/rootfs
stamp=$(cat "${BASH_SOURCE[0]}" "$E2E/node-image/versions.sh" | sha256sum | cut -c1-64)
[ "$(cat "$KIND_CACHE/stamps/rootfs" 2>/dev/null)" != "$stamp" ] || exit 0

packages=systemd,systemd-sysv,iproute2,iptables,nftables,conntrack,ethtool,mount,util-linux,procps
packages+=,kmod,jq,libseccomp2,ca-certificates,runc,busybox-static
# The archive that apt uses here: it may be a mirror.
mirror=$(apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 2>/dev/null |
  sed -n "s/^Debian $DEBIAN_SUITE //p" | sort -u | head -n1)

mkdir -p "$KIND_CACHE/stamps"
rm -rf "$root"
echo "root file system: debootstrap from ${mirror:-deb.debian.org}"
nice -n 10 debootstrap --variant=minbase --include="$packages" "$DEBIAN_SUITE" "$root" \
  "${mirror:-http://deb.debian.org/debian}" >"$KIND_CACHE/debootstrap.log" 2>&1 ||
  { tail -n 20 "$KIND_CACHE/debootstrap.log" >&2; exit 1; }

# What a node does not need: documentation, caches, apt's lists.
rm -rf "$root"/usr/share/{doc,man,info,locale,lintian,bash-completion,zoneinfo}/* \
  "$root"/var/lib/apt/lists/* "$root"/var/cache/{apt,debconf}/* "$root"/var/log/* \
  "$root"/etc/{resolv.conf,hostname}

# systemd starts nothing but what overlay/ brings.
units=$root/lib/systemd/system
rm -f "$root"/etc/systemd/system/*.wants/* "$units"/{multi-user,local-fs}.target.wants/* \
  "$units"/sockets.target.wants/*{udev,initctl}* \
  "$units"/sysinit.target.wants/{systemd-tmpfiles-setup.service,*binfmt*,*udev*,*hwdb*,sys-kernel-*,*modules-load*,*machine-id-commit*}
for unit in getty.target console-getty.service systemd-logind.service systemd-binfmt.service \
  systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
  e2scrub_all.timer fstrim.timer; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
mkdir -p "$root/etc/systemd/journald.conf.d" "$root/var/log/journal"
printf '[Journal]\nReadKMsg=no\nStorage=persistent\n' >"$root/etc/systemd/journald.conf.d/node.conf"
: >"$root/etc/machine-id"

echo "$stamp" >"$KIND_CACHE/stamps/rootfs"
du -sh "$root"
