#!/usr/bin/env python3
"""Two or more builds of Engram beside each other, one call after the other in turns: nanoseconds of the
server's processor a call, by the scheduler's own clock (run.sh counts in ticks of 10 ms: too coarse for a
change of some per cent). Data lies in memory, so that no disk has a say.

Usage: pair.py [--members N] ROUNDS CALLS WORKLOAD [load's flags...] -- BINARY BINARY...
For example: bench/pair.py 5 300000 get -value-bytes 1024 -conns 1 -callers 64 -- old/engram new/engram

With more members than one, load goes to the leader, and what all of them use is summed.
"""

import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

CACHE = os.environ.get("ENGRAM_CACHE", os.path.expanduser("~/.cache/engram"))
TOOLS = os.environ.get("ENGRAM_TOOLS_BIN", f"{CACHE}/tools/bin")
LOAD, ETCDCTL = os.path.join(TOOLS, "load"), os.path.join(TOOLS, "etcdctl")
FIRST_PORT = 32379
READY_SECONDS = 20


def clients(member):
    return f"127.0.0.1:{FIRST_PORT + 2 * member}"


def peer(member):
    return f"http://127.0.0.1:{FIRST_PORT + 2 * member + 1}"


def busy(pid):
    """Nanoseconds that the threads of a process have run. (Those that ended are missing: few do.)"""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with open(path) as file:
            total += int(file.read().split()[0])
    return total


def load(*args):
    subprocess.run([LOAD, *args], check=True, stdout=subprocess.DEVNULL)


def is_healthy(member):
    try:
        with urllib.request.urlopen(f"http://{clients(member)}/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def leads(member):
    status = [ETCDCTL, f"--endpoints=http://{clients(member)}", "endpoint", "status", "-w", "json"]
    status = json.loads(subprocess.run(status, check=True, stdout=subprocess.PIPE).stdout)[0]["Status"]
    return status["header"]["member_id"] == status["leader"]


def start(binary, directory, member, members):
    url = f"http://{clients(member)}"
    initial = ",".join(f"member{other}={peer(other)}" for other in range(members))
    return subprocess.Popen(
        [
            binary,
            f"--name=member{member}",
            f"--data-dir={directory}/{member}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peer(member)}",
            f"--initial-advertise-peer-urls={peer(member)}",
            f"--initial-cluster={initial}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_ready(binary, servers):
    until = time.monotonic() + READY_SECONDS
    while not all(is_healthy(member) for member in range(len(servers))):
        if time.monotonic() > until or any(server.poll() is not None for server in servers):
            sys.exit(f"{binary} does not serve")
        time.sleep(0.1)


def measure(binary, members, calls, workload):
    directory = tempfile.mkdtemp(dir="/dev/shm")
    servers = [start(binary, directory, member, members) for member in range(members)]
    try:
        wait_ready(binary, servers)
        leader = next(member for member in range(members) if leads(member))
        store = ["-addr", clients(leader), "-keys", "10000"]
        load("load", *store, "-value-bytes", "1024", "-conns", "4", "-callers", "16", "-batch", "100")
        load(*workload, *store, "-total", str(calls // 10))
        before = sum(busy(server.pid) for server in servers)
        load(*workload, *store, "-total", str(calls))
        return (sum(busy(server.pid) for server in servers) - before) / calls
    finally:
        for server in servers:
            server.kill()
            server.wait()
        shutil.rmtree(directory)


def main(args):
    members = 1
    if args[:1] == ["--members"] and len(args) > 1:
        members, args = int(args[1]), args[2:]
    if "--" not in args[3:]:
        sys.exit(__doc__)
    split = args.index("--")
    rounds, calls, workload, binaries = int(args[0]), int(args[1]), args[2:split], args[split + 1 :]
    seen = {binary: [] for binary in binaries}
    for turn in range(rounds):
        for binary in binaries if turn % 2 == 0 else binaries[::-1]:
            seen[binary].append(measure(binary, members, calls, workload))
    first = statistics.median(seen[binaries[0]])
    print("| build | ns a call, median | least | most | first / this |\n|---|---:|---:|---:|---:|")
    for binary in binaries:
        took = seen[binary]
        median = statistics.median(took)
        print(f"| {binary} | {median:.0f} | {min(took):.0f} | {max(took):.0f} | {first / median:.3f} |")


main(sys.argv[1:])
