#!/usr/bin/env python3
"""Two or more builds of Engram beside each other, one call after the other in turns: nanoseconds of the
server's processor a call, by the scheduler's own clock (run.sh counts in ticks of 10 ms: too coarse for a
change of some per cent). Data lies in memory, so that no disk has a say.

Usage: pair.py ROUNDS CALLS WORKLOAD [load's flags...] -- BINARY BINARY...
For example: bench/pair.py 5 300000 get -value-bytes 1024 -conns 1 -callers 64 -- old/engram new/engram
"""

import glob
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

CACHE = os.environ.get("ENGRAM_CACHE", os.path.expanduser("~/.cache/engram"))
LOAD = os.path.join(os.environ.get("ENGRAM_TOOLS_BIN", f"{CACHE}/tools/bin"), "load")
CLIENTS, PEERS = "127.0.0.1:32379", "127.0.0.1:32380"
STORE = ["-addr", CLIENTS, "-keys", "10000"]
READY_SECONDS = 20


def busy(pid):
    """Nanoseconds that the threads of a process have run. (Those that ended are missing: few do.)"""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with open(path) as file:
            total += int(file.read().split()[0])
    return total


def load(*args):
    subprocess.run([LOAD, *args], check=True, stdout=subprocess.DEVNULL)


def is_healthy():
    try:
        with urllib.request.urlopen(f"http://{CLIENTS}/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def serve(binary, directory):
    """A server that answers."""
    peer = f"http://{PEERS}"
    server = subprocess.Popen(
        [
            binary,
            f"--data-dir={directory}",
            f"--listen-client-urls=http://{CLIENTS}",
            f"--advertise-client-urls=http://{CLIENTS}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + READY_SECONDS
    while not is_healthy():
        if server.poll() is not None or time.monotonic() > until:
            sys.exit(f"{binary} does not serve")
        time.sleep(0.1)
    return server


def measure(binary, calls, workload):
    directory = tempfile.mkdtemp(dir="/dev/shm")
    server = serve(binary, directory)
    try:
        load("load", *STORE, "-value-bytes", "1024", "-conns", "4", "-callers", "16", "-batch", "100")
        load(*workload, *STORE, "-total", str(calls // 10))
        before = busy(server.pid)
        load(*workload, *STORE, "-total", str(calls))
        return (busy(server.pid) - before) / calls
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(directory)


def main(args):
    if "--" not in args[3:]:
        sys.exit(__doc__)
    split = args.index("--")
    rounds, calls, workload, binaries = int(args[0]), int(args[1]), args[2:split], args[split + 1 :]
    seen = {binary: [] for binary in binaries}
    for turn in range(rounds):
        for binary in binaries if turn % 2 == 0 else binaries[::-1]:
            seen[binary].append(measure(binary, calls, workload))
    first = statistics.median(seen[binaries[0]])
    print("| build | ns a call, median | least | most | first / this |\n|---|---:|---:|---:|---:|")
    for binary in binaries:
        took = seen[binary]
        median = statistics.median(took)
        print(f"| {binary} | {median:.0f} | {min(took):.0f} | {max(took):.0f} | {first / median:.3f} |")


main(sys.argv[1:])
