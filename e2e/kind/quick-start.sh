#!/bin/bash
# Runs the quick start of README.md exactly as it is written there: the commands are taken out of it.
# The cluster is that of $KUBECONFIG; the image has to be in its nodes, or where they can pull it.
# Usage: quick-start.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../node-image/versions.sh
. "$here/../node-image/versions.sh"
root=$(cd "$here/../.." && pwd)

# What stands between the marks of the quick start, without the fences.
commands=$(sed -n '/^<!-- quick start -->$/,/^<!-- end of the quick start -->$/p' "$root/README.md" | sed '/^<!--/d; /^```/d')
[ -n "$commands" ] || { echo "quick-start.sh: README.md has no quick start" >&2; exit 1; }

cd "$root"
export PATH=$BIN:$TOOLS_CACHE/bin:$PATH
# A person would type them one by one, stop at the first that fails, and end what runs in the
# background with the terminal.
exec bash -euo pipefail -c "trap 'kill \$(jobs -p) 2>/dev/null || true' EXIT
$commands" </dev/null
