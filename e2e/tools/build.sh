#!/bin/bash
# Builds the pinned tools of this module into ${ENGRAM_CACHE:-~/.cache/engram}/tools/bin.
# Usage: build.sh [etcd|common|own|kube|programs|s3|all|old]...    (default: all, which leaves out old)
# A group that is already there, built from the same go.mod, go.sum, sources and flags, is skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

cache=${ENGRAM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/engram}/tools
bin=$cache/bin
stamps=$cache/stamps
export GOCACHE=${GOCACHE:-$cache/gobuild} GOMODCACHE=${GOMODCACHE:-$cache/gomod}
export CGO_ENABLED=0 GOTOOLCHAIN=local

kube_version=v1.37.2 # also in go.mod: the binary says what is set here, so check_versions compares

# One line a program: the name of the binary, its package, more linker flags.
etcd_programs="
etcd go.etcd.io/etcd/server/v3
etcdctl go.etcd.io/etcd/etcdctl/v3
etcdutl go.etcd.io/etcd/etcdutl/v3"

# An S3 server over a directory. Not in go.mod: what it requires would move the versions of the others.
s3_module=github.com/versity/versitygw
s3_version=v1.8.0

version_package=k8s.io/component-base/version
kube_minor=${kube_version#v1.}
kube_minor=${kube_minor%%.*}
# Without these the apiserver calls itself v0.0.0-master, and clients refuse to work with it.
kube_flags="-X $version_package.gitVersion=$kube_version -X $version_package.gitMajor=1"
kube_flags+=" -X $version_package.gitMinor=$kube_minor -X $version_package.gitTreeState=clean"
kube_programs="
kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver $kube_flags
kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager $kube_flags
kubectl k8s.io/kubernetes/cmd/kubectl $kube_flags"

own_programs="
goldens ./cmd/goldens
differential ./cmd/differential
load ./cmd/load
referee ./cmd/referee
traffic ./cmd/traffic"

die() {
  echo "build.sh: $*" >&2
  exit 1
}

check_versions() {
  command -v go >/dev/null || die "go is not installed: take $(sed -n 's/^go //p' go.mod) or newer from https://go.dev/dl"
  local wanted here
  wanted=$(sed -n 's/^go //p' go.mod)
  here=$(go version | sed 's/^go version go\([0-9.]*\).*/\1/')
  printf '%s\n' "$wanted" "$here" | sort -VC || die "go $here is too old: take $wanted or newer from https://go.dev/dl"
  grep -q "k8s.io/kubernetes $kube_version\$" go.mod || die "kube_version $kube_version is not what go.mod requires"
}

programs_of() {
  case $1 in
    etcd) echo "$etcd_programs" ;;
    kube) echo "$kube_programs" ;;
    programs) echo "$own_programs" ;;
    *) die "unknown group '$1' (etcd, common, own, kube, programs, s3, all, old)" ;;
  esac
}

# Everything that decides what the binaries of group $1 hold.
fingerprint() {
  {
    go version
    programs_of "$1"
    # Sorted and without comments: which requirements are direct does not change a binary.
    sed 's,//.*,,' go.mod | sort
    cat go.sum
    if [ "$1" = programs ]; then find cmd -name '*.go' -print0 | sort -z | xargs -0 sha256sum; fi
  } | sha256sum | cut -d' ' -f1
}

is_fresh() {
  local group=$1 print=$2 name rest
  [ "$(cat "$stamps/$group" 2>/dev/null)" = "$print" ] || return 1
  while read -r name rest; do
    [ -z "$name" ] || [ -x "$bin/$name" ] || return 1
  done <<<"$(programs_of "$group")"
}

build_group() {
  local group=$1 print started name package flags
  print=$(fingerprint "$group")
  if is_fresh "$group" "$print"; then
    echo "$group: fresh"
    return
  fi
  while read -r name package flags; do
    [ -n "$name" ] || continue
    started=$SECONDS
    # Into a temporary name first: a running older binary must not be written to.
    nice -n 10 go build -buildvcs=false -trimpath -ldflags "-s -w $flags" -o "$bin/.$name.new" "$package"
    mv -f "$bin/.$name.new" "$bin/$name"
    echo "$name: built in $((SECONDS - started)) s"
  done <<<"$(programs_of "$group")"
  echo "$print" >"$stamps/$group"
}

# etcd's tests of what a user sees, as a program: e2e/etcd-common runs it. Tests run in the directory
# of their package, which stays in the module cache.
build_common() {
  local print started
  print=$({ go version; sed 's,//.*,,' go.mod | sort; cat go.sum; } | sha256sum | cut -d' ' -f1)
  if [ "$(cat "$stamps/common" 2>/dev/null)" = "$print" ] && [ -x "$bin/etcd-common.test" ]; then
    echo "common: fresh"
    return
  fi
  started=$SECONDS
  nice -n 10 go test -c -buildvcs=false -trimpath -tags e2e -ldflags "-s -w" \
    -o "$bin/.etcd-common.test.new" go.etcd.io/etcd/tests/v3/common
  mv -f "$bin/.etcd-common.test.new" "$bin/etcd-common.test"
  echo "$print" >"$stamps/common"
  echo "etcd-common.test: built in $((SECONDS - started)) s"
}

# etcd's tests of its client's concurrency package and the examples of its client, as programs that ask
# members that run: our main_test.go, and beside it etcd's files out of the module cache.
build_own() {
  local print started module package file replaced
  print=$({ go version; sed 's,//.*,,' go.mod | sort; cat go.sum etcd-clients/*/*.go; } | sha256sum | cut -d' ' -f1)
  if [ "$(cat "$stamps/own" 2>/dev/null)" = "$print" ] && [ -x "$bin/etcd-examples.test" ]; then
    echo "own: fresh"
    return
  fi
  started=$SECONDS
  module=$(go list -m -f '{{.Dir}}' go.etcd.io/etcd/tests/v3)
  for package in concurrency examples; do
    replaced=
    for file in "$module/integration/clientv3/$package"/*_test.go; do
      [ "${file##*/}" != main_test.go ] || continue
      replaced+="${replaced:+,}\"$PWD/etcd-clients/$package/${file##*/}\":\"$file\""
    done
    echo "{\"Replace\":{$replaced}}" >"$cache/overlay.json"
    nice -n 10 go test -c -buildvcs=false -trimpath -overlay "$cache/overlay.json" -ldflags "-s -w" \
      -o "$bin/.etcd-$package.test.new" "./etcd-clients/$package"
    mv -f "$bin/.etcd-$package.test.new" "$bin/etcd-$package.test"
  done
  echo "$print" >"$stamps/own"
  echo "etcd-concurrency.test, etcd-examples.test: built in $((SECONDS - started)) s"
}

build_s3() {
  local print started
  print="$(go version) $s3_module $s3_version"
  if [ "$(cat "$stamps/s3" 2>/dev/null)" = "$print" ] && [ -x "$bin/versitygw" ]; then
    echo "s3: fresh"
    return
  fi
  started=$SECONDS
  GOBIN=$cache/s3 nice -n 10 go install -trimpath -ldflags "-s -w" "$s3_module/cmd/versitygw@$s3_version"
  mv -f "$cache/s3/versitygw" "$bin/versitygw"
  echo "$print" >"$stamps/s3"
  echo "versitygw: built in $((SECONDS - started)) s"
}

# Older etcds, each pinned by a module of its own: their directories are adopted.
build_old() {
  local print started release program
  print=$({ go version; cat etcd-3.*/go.mod etcd-3.*/go.sum; } | sha256sum | cut -d' ' -f1)
  for release in 3.5 3.6; do
    if [ "$(cat "$stamps/etcd-$release" 2>/dev/null)" = "$print" ] && [ -x "$bin/etcdutl-$release" ]; then
      echo "etcd $release: fresh"
      continue
    fi
    started=$SECONDS
    for program in etcd:server etcdutl:etcdutl; do
      (cd "etcd-$release" && nice -n 10 go build -buildvcs=false -trimpath -ldflags "-s -w" \
        -o "$bin/.${program%:*}-$release.new" "go.etcd.io/etcd/${program#*:}/v3")
      mv -f "$bin/.${program%:*}-$release.new" "$bin/${program%:*}-$release"
    done
    echo "$print" >"$stamps/etcd-$release"
    echo "etcd $release: built in $((SECONDS - started)) s"
  done
}

check_versions
mkdir -p "$bin" "$stamps"
# Two builds at once would only do the same work twice.
exec 9>"$cache/lock"
flock 9

[ $# -gt 0 ] || set -- all
for group in "$@"; do
  case $group in
    s3) build_s3 ;;
    old) build_old ;;
    common) build_common ;;
    own) build_own ;;
    all)
      for each in etcd programs kube; do build_group "$each"; done
      build_common
      build_own
      build_s3
      ;;
    *) build_group "$group" ;;
  esac
done
