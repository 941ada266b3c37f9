#!/bin/bash
# Builds programs that use etcd through its clients, each as the registry of its language has it:
# one executable each in ${ENGRAM_CACHE:-~/.cache/engram}/clients/bin, whose argument is an address.
# Usage: build.sh [go|rust|python|node|java|quick|azurite]...    (default: all but quick and azurite)
# quick: what CI tries, of three languages: the oldest and the newest release in Go, Python, Node.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
cache=${ENGRAM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/engram}
to=$cache/clients
bin=$to/bin
mkdir -p "$bin"

# An executable of that name, which runs these words.
program() {
  local name=$1
  shift
  printf '#!/bin/sh\nexec %s "$@"\n' "$*" >"$bin/$name"
  chmod +x "$bin/$name"
}

go_releases="3.3.27 3.4.16 3.5.0 3.5.35 3.6.16 3.7.3"

# The releases before 3.5 have other import paths, and no module of their own.
build_go() {
  export GOCACHE=${GOCACHE:-$cache/tools/gobuild} GOMODCACHE=${GOMODCACHE:-$cache/tools/gomod}
  export GOTOOLCHAIN=local CGO_ENABLED=0
  local release path
  for release in $go_releases; do
    case $release in
      3.3.*) path=github.com/coreos/etcd/clientv3 ;;
      3.4.*) path=go.etcd.io/etcd/clientv3 ;;
      *) path=go.etcd.io/etcd/client/v3 ;;
    esac
    rm -rf "$to/go-$release" && mkdir "$to/go-$release"
    cp "go/$release/go.mod" "go/$release/go.sum" "$to/go-$release/"
    sed "s,go.etcd.io/etcd/client/v3,$path," go/client.go >"$to/go-$release/main.go"
    (cd "$to/go-$release" && nice -n 10 go build -buildvcs=false -trimpath -ldflags "-s -w" -o "$bin/go-$release" .)
  done
}

build_python() {
  [ -x "$to/python/bin/python" ] || python3 -m venv "$to/python"
  "$to/python/bin/pip" install --quiet --requirement python/requirements.txt
  cp python/*.py "$to/python/"
  program python-etcd3 env PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python "$to/python/bin/python" "$to/python/client.py"
  program patroni-apisix python3 "$to/python/gateway_users.py"
  program python-etcd3gw "$to/python/bin/python" "$to/python/through_gateway.py"
}

build_node() {
  mkdir -p "$to/node"
  cp node/package.json node/package-lock.json node/client.js "$to/node/"
  (cd "$to/node" && npm ci --silent --ignore-scripts --no-audit --no-fund)
  program node-etcd3 node "$to/node/client.js"
}

build_quick() {
  go_releases="3.3.27 3.7.3" build_go
  build_python
  build_node
}

# Microsoft's emulator of Azure's storage.
build_azurite() {
  mkdir -p "$to/azurite"
  cp azurite/package.json azurite/package-lock.json "$to/azurite/"
  (cd "$to/azurite" && npm ci --silent --ignore-scripts --no-audit --no-fund)
  program azurite-blob node "$to/azurite/node_modules/azurite/dist/src/blob/main.js"
}

build_java() {
  mkdir -p "$to/java/classes"
  mvn --quiet --batch-mode --file java/pom.xml -Dmaven.repo.local="$to/maven" \
    dependency:copy-dependencies -DoutputDirectory="$to/java/lib"
  javac -cp "$to/java/lib/*" -d "$to/java/classes" java/src/main/java/Client.java
  program jetcd java -cp "'$to/java/lib/*:$to/java/classes'" Client
}

# The crate compiles etcd's protos with protoc, which a package of Python's registry brings.
build_rust() {
  [ -x "$to/protoc/bin/python" ] || python3 -m venv "$to/protoc"
  "$to/protoc/bin/pip" install --quiet grpcio-tools==1.76.0
  program protoc "$to/protoc/bin/python" -m grpc_tools.protoc
  mv "$bin/protoc" "$to/protoc/protoc"
  PROTOC=$to/protoc/protoc CARGO_TARGET_DIR=$to/rust nice -n 10 \
    cargo build --quiet --locked --release --manifest-path rust/Cargo.toml
  cp "$to/rust/release/client" "$bin/rust-etcd-client"
}

[ $# -gt 0 ] || set -- go rust python node java
for language in "$@"; do
  started=$SECONDS
  "build_$language"
  echo "clients of $language: built in $((SECONDS - started)) s"
done
