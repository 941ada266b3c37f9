#!/bin/bash
# Sees to kind, helm, kubectl and etcdctl: built at the pinned versions into the cache, where the
# scripts and tests find them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/../node-image/binaries.sh" kind helm
"$here/../tools/build.sh" etcd kube >/dev/null
