#!/bin/bash
# Sees to kind, helm, kubectl, etcdctl and an S3 server: built at the pinned versions into the cache,
# where the scripts and tests find them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/../node-image/binaries.sh" kind helm
"$here/../tools/build.sh" etcd kube s3 >/dev/null
