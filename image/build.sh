#!/bin/bash
# Makes Engram's image without pulling anything: the binaries, the shared libraries they need, and
# what a distroless base brings. The result is an archive for `docker load`, `ctr images import` and
# `kind load image-archive`.
# Usage: image/build.sh [--name NAME:TAG] [--user UID:GID] [--out FILE]
#   --name   ghcr.io/engram-dev/engram:<version of the workspace>
#   --user   65532:65532 (kubeadm's static pod etcd wants 0:0: it sets no user, and its directory
#            belongs to root)
#   --out    <cache>/image/engram.tar
# The binaries are those of `make build` (CARGO_TARGET_DIR), or of ENGRAM_BINARIES.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${ENGRAM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/engram}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n1)

name=ghcr.io/engram-dev/engram:$version user=65532:65532 out=$cache/image/engram.tar
while [ $# -gt 0 ]; do
  case $1 in
    --name) name=$2 ;;
    --user) user=$2 ;;
    --out) out=$2 ;;
    *) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \?//' >&2; exit 2 ;;
  esac
  shift 2
done

binaries=${ENGRAM_BINARIES:-${CARGO_TARGET_DIR:-$cache/target}/release}
mkdir -p "$(dirname "$out")"
stage=$(mktemp -d "$(dirname "$out")/stage.XXXXXX")
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage"/usr/local/bin "$stage"/etc/ssl/certs "$stage"/usr/share

# Every binary that the workspace has a crate for; debug information is left out (symbols stay, for
# backtraces with names).
for pair in server:engram ctl:engramctl operator:engram-operator; do
  [ -f "$root/${pair%:*}/Cargo.toml" ] || continue
  binary=${pair#*:}
  [ -x "$binaries/$binary" ] || { echo "image/build.sh: $binaries/$binary is not there: make build" >&2; exit 1; }
  strip -S -o "$stage/usr/local/bin/$binary" "$binaries/$binary"
done
ln -s engram "$stage/usr/local/bin/etcd"

# The loader and the libraries, at the paths where the loader looks for them.
for binary in "$stage"/usr/local/bin/*; do ldd "$binary"; done |
  grep -o '/[^ ]*\.so[^ ]*' | sort -u | while read -r library; do
  install -D -m 755 "$library" "$stage$library"
done

# Names by /etc/hosts first and then by DNS; the nonroot user; certificate authorities; time zones.
echo 'hosts: files dns' >"$stage/etc/nsswitch.conf"
printf 'root:x:0:0:root:/:/nonexistent\nnonroot:x:65532:65532:nonroot:/:/nonexistent\n' >"$stage/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$stage/etc/group"
cp /etc/ssl/certs/ca-certificates.crt "$stage/etc/ssl/certs/"
if [ -d /usr/share/zoneinfo ]; then
  mkdir "$stage/usr/share/zoneinfo"
  tar -C /usr/share/zoneinfo --exclude=./posix --exclude=./right -c . | tar -C "$stage/usr/share/zoneinfo" -x
fi

# Compressed, in bytes: an image that grows beyond is looked at, not shipped. (42 MB since the server ships its
# archive and asks name servers by itself; 45.5 since the operator watches what it looks at: of these engram and
# engramctl are 15.3 each, the operator is 12.6; 47.3 MB with
# Google's and Azure's stores, encryption, profiles and x509-cert; 48.7 with spans and many small things.)
size_max=49500000

# As the registry knows the machine that the binaries were built on.
case $(uname -m) in
  x86_64) arch=amd64 ;;
  aarch64) arch=arm64 ;;
  *) echo "image/build.sh: no image for $(uname -m)" >&2; exit 1 ;;
esac

python3 "$root/image/oci-archive.py" "$out.new" "$name" --user "$user" --arch "$arch" --compress gzip \
  --label "org.opencontainers.image.version=$version" "$stage:/"
size=$(stat -c %s "$out.new")
[ "$size" -le "$size_max" ] || { echo "image/build.sh: $size bytes, more than $size_max" >&2; exit 1; }
mv -f "$out.new" "$out"
echo "$out"
