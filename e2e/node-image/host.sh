#!/bin/bash
# A docker daemon for kind. One that answers already is used as it is; otherwise one is started by
# hand, for machines without systemd.
# Usage: host.sh up | down      (down stops only a daemon that `up` started)
set -euo pipefail
# shellcheck source=versions.sh
. "$(dirname "${BASH_SOURCE[0]}")/versions.sh"

pid_file=$KIND_CACHE/dockerd.pid
kept_sysctls=$KIND_CACHE/sysctl.before
boot=$(cat /proc/sys/kernel/random/boot_id)
# kubelet changes the first four for the whole machine; the last is raised here.
sysctls="kernel.panic kernel.panic_on_oops vm.overcommit_memory vm.panic_on_oom fs.inotify.max_user_instances"

answers() { timeout 10 docker ps -q >/dev/null 2>&1; }

# A pid may be another daemon's by now: ours was started with our file.
ours() { [ -f "$pid_file" ] && grep -qz "^$pid_file\$" "/proc/$(cat "$pid_file")/cmdline" 2>/dev/null; }

# Docker gives a privileged container every capability, and runc fails where the daemon itself does
# not have CAP_SYS_RESOURCE (bit 24 of the bounding set).
lacks_sys_resource() {
  local bounding; bounding=$(sed -n 's/^CapBnd:\s*//p' /proc/self/status)
  (( (16#$bounding >> 24 & 1) == 0 ))
}

start() {
  local runtime=()
  command -v dockerd >/dev/null || { echo "host.sh: no docker daemon answers and dockerd is not installed" >&2; exit 1; }
  if lacks_sys_resource; then
    runtime=(--add-runtime "nosysres=$E2E/node-image/runc-nosysres" --default-runtime nosysres)
  fi
  ours || rm -f "$pid_file" # a killed daemon leaves its file, and the next would refuse to start
  echo "starting dockerd (log: $KIND_CACHE/dockerd.log)"
  # Not with the node's programs before the machine's: their containerd and its shim are of another
  # version, and one that is built while the daemon runs would meet the other's.
  local path; path=$(tr : '\n' <<<"$PATH" | grep -vxF "$BIN" | paste -sd:)
  # Its own session, so that it outlives the shell that started it.
  PATH=$path setsid nohup dockerd --pidfile "$pid_file" "${runtime[@]}" >>"$KIND_CACHE/dockerd.log" 2>&1 </dev/null &
  for _ in $(seq 60); do
    if answers; then return; fi
    sleep 0.5
  done
  tail -n 20 "$KIND_CACHE/dockerd.log" >&2
  exit 1
}

up() {
  mkdir -p "$KIND_CACHE"
  # After a boot they are as they were, or as somebody wants them now.
  [ "$(cat "$kept_sysctls.boot" 2>/dev/null)" = "$boot" ] || rm -f "$kept_sysctls"
  if [ ! -f "$kept_sysctls" ]; then
    # shellcheck disable=SC2086
    sysctl $sysctls >"$kept_sysctls.new"
    echo "$boot" >"$kept_sysctls.boot"
    mv "$kept_sysctls.new" "$kept_sysctls"
  fi
  answers || start
  # Three nodes' kubelets and containerds share the host's limit, and 128 is too few.
  if [ "$(sysctl -n fs.inotify.max_user_instances)" -lt 1024 ]; then
    sysctl -q fs.inotify.max_user_instances=1024 || echo "host.sh: fs.inotify.max_user_instances stays low" >&2
  fi
}

down() {
  if ours; then
    kill "$(cat "$pid_file")"
    for _ in $(seq 100); do ours || break; sleep 0.2; done
  fi
  if [ -f "$kept_sysctls" ] && [ "$(cat "$kept_sysctls.boot" 2>/dev/null)" = "$boot" ]; then
    sysctl -q -p "$kept_sysctls"
  fi
  rm -f "$kept_sysctls" "$kept_sysctls.boot"
}

case ${1:-} in
  up | down) "$1" ;;
  *) echo "usage: host.sh up|down" >&2; exit 2 ;;
esac
