#!/usr/bin/env python3
"""What the log archive costs at full put load: the archive's threads' share of the server's processor, and the server
beside one without an archive, in turns.

The archive goes to a directory. The threads are those of the archive by their names; what noting costs the apply thread
shows in the second figure alone, which the machine's noise is in.

Usage: archive.py ROUNDS [PUTS]
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
ENGRAM = os.environ.get("ENGRAM_BIN", f"{CACHE}/target/release/engram")
WHERE = os.environ.get("ENGRAM_BENCH_DIR", f"{CACHE}/bench")
CLIENTS, PEERS = "127.0.0.1:34379", "http://127.0.0.1:34380"
THREAD = "engram-archive"
READY_SECONDS = 20


def threads(pid):
    """Nanoseconds that each thread of a process has run, by its ID, with its name."""
    found = {}
    for path in glob.glob(f"/proc/{pid}/task/*"):
        with open(f"{path}/comm") as name, open(f"{path}/schedstat") as ran:
            found[os.path.basename(path)] = (name.read().strip(), int(ran.read().split()[0]))
    return found


def figure(metrics, name):
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(name))


def page(path):
    with urllib.request.urlopen(f"http://{CLIENTS}{path}", timeout=5) as answer:
        return answer.read().decode()


def is_healthy():
    try:
        return "true" in page("/health")
    except OSError:
        return False


def serve(directory, archives):
    flags = [f"--archive-url=file://{directory}/archive", "--archive-cluster=b"] if archives else []
    os.mkdir(f"{directory}/archive")
    server = subprocess.Popen(
        [
            ENGRAM,
            f"--data-dir={directory}/data",
            f"--listen-client-urls=http://{CLIENTS}",
            f"--advertise-client-urls=http://{CLIENTS}",
            f"--listen-peer-urls={PEERS}",
            f"--initial-advertise-peer-urls={PEERS}",
            f"--initial-cluster=default={PEERS}",
            *flags,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + READY_SECONDS
    while not is_healthy():
        if server.poll() is not None or time.monotonic() > until:
            sys.exit(f"{ENGRAM} does not serve")
        time.sleep(0.1)
    return server


def load(workload, *more):
    store = ["-addr", CLIENTS, "-keys", "10000", "-value-bytes", "256"]
    subprocess.run([LOAD, workload, *store, *more], check=True, stdout=subprocess.DEVNULL)


def measure(puts, archives):
    """Nanoseconds a put, and the archive's share of them."""
    directory = tempfile.mkdtemp(dir=WHERE, prefix="archive-")
    server = serve(directory, archives)
    try:
        load("load", "-conns", "4", "-callers", "16", "-batch", "100")
        put = ["put", "-conns", "64", "-callers", "64"]
        load(*put, "-total", str(puts // 10))
        before = threads(server.pid)
        load(*put, "-total", str(puts))
        if archives:
            # All of it, to the last revision: what is behind has cost nothing yet.
            until = time.monotonic() + 60
            while figure(page("/metrics"), "engram_archive_lag_seconds") > 0 and time.monotonic() < until:
                time.sleep(0.2)
        ran = threads(server.pid)
        metrics = page("/metrics")
        took = {id: (name, now - before.get(id, ("", 0))[1]) for id, (name, now) in ran.items()}
        total = sum(now for _, now in took.values())
        own = sum(now for name, now in took.values() if name.startswith(THREAD))
        gaps = figure(metrics, "engram_archive_gaps_total")
        if gaps:
            sys.exit("the archive has a gap: it did not keep up")
        segments = figure(metrics, "engram_archive_segments_total")
        return total / puts, own / total, segments
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(directory)


def main(args):
    if not args:
        sys.exit(__doc__)
    rounds, puts = int(args[0]), int(args[1]) if len(args) > 1 else 400_000
    seen = {True: [], False: []}
    for turn in range(rounds):
        for archives in [True, False] if turn % 2 else [False, True]:
            seen[archives].append(measure(puts, archives))
    with_it = statistics.median(one[0] for one in seen[True])
    without = statistics.median(one[0] for one in seen[False])
    share = statistics.median(one[1] for one in seen[True])
    print(f"{puts} puts of 256 bytes by 64 callers, {rounds} rounds, load {os.getloadavg()[0]:.1f}\n")
    print(f"| | ns of the server's processor a put, median |\n|---|---:|")
    print(f"| without an archive | {without:.0f} |\n| with | {with_it:.0f} |\n")
    print(f"The archive's threads: {share * 100:.2f} % of the server's ({seen[True][-1][2]:.0f} segments in the last round).")
    print(f"The whole server: {(with_it / without - 1) * 100:+.1f} %.")


main(sys.argv[1:])
