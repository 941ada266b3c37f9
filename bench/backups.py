#!/usr/bin/env python3
"""A full backup and a restore of a store beside etcd's snapshot and restore of the same: time, processor and memory.

Both servers are loaded with the same keys. Engram's backup goes to a directory; its restore, and etcd's, make a data
directory out of it. Processor is what the tool and the server used for it, in seconds; memory is the most that is not a
file's page (RssAnon), above what it was before for a server, and in all for a tool, looked at every 10 ms.

Usage: backups.py GIGABYTES [ROUNDS]
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

CACHE = os.environ.get("ENGRAM_CACHE", os.path.expanduser("~/.cache/engram"))
TOOLS = os.environ.get("ENGRAM_TOOLS_BIN", f"{CACHE}/tools/bin")
ENGRAM = os.environ.get("ENGRAM_BIN", f"{CACHE}/target/release/engram")
ENGRAMCTL = os.environ.get("ENGRAMCTL_BIN", os.path.join(os.path.dirname(ENGRAM), "engramctl"))
WHERE = os.environ.get("ENGRAM_BENCH_DIR", f"{CACHE}/bench")
VALUE_BYTES = 4096
TICK = os.sysconf("SC_CLK_TCK")
READY_SECONDS = 60


def anonymous(pid):
    """Bytes of memory that no file has; 0 of a process that is gone."""
    try:
        with open(f"/proc/{pid}/status") as file:
            found = [line for line in file if line.startswith("RssAnon")]
    except OSError:
        return 0
    return int(found[0].split()[1]) * 1024 if found else 0


def processor(pid):
    """Seconds of processor that a process has used."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Most:
    """The most that some processes hold while this is entered."""

    def __init__(self, *pids):
        self.pids, self.most, self.over = pids, [0] * len(pids), False
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.over:
            self.most = [max(most, anonymous(pid)) for most, pid in zip(self.most, self.pids)]
            time.sleep(0.01)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join()


class Server:
    """Engram or etcd, that answers."""

    def __init__(self, binary, directory, clients, peers):
        self.address, peer = f"127.0.0.1:{clients}", f"http://127.0.0.1:{peers}"
        self.process = subprocess.Popen(
            [
                binary,
                f"--data-dir={directory}",
                f"--listen-client-urls=http://{self.address}",
                f"--advertise-client-urls=http://{self.address}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                f"--quota-backend-bytes={64 << 30}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + READY_SECONDS
        while not self.is_healthy():
            if self.process.poll() is not None or time.monotonic() > until:
                sys.exit(f"{binary} does not serve")
            time.sleep(0.1)

    def is_healthy(self):
        try:
            with urllib.request.urlopen(f"http://{self.address}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def fill(self, keys):
        load = [os.path.join(TOOLS, "load"), "load", "-addr", self.address, "-keys", str(keys)]
        load += ["-value-bytes", str(VALUE_BYTES), "-batch", "100", "-conns", "2", "-callers", "8"]
        subprocess.run(load, check=True, stdout=subprocess.DEVNULL)

    def stop(self):
        self.process.kill()
        self.process.wait()


def measured(command, server=None):
    """Runs a tool: seconds, its processor, the server's, its memory, the server's above idle."""
    pids = [server.process.pid] if server else []
    before = [(anonymous(pid), processor(pid)) for pid in pids]
    began = time.monotonic()
    tool = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with Most(tool.pid, *pids) as most:
        words = tool.stderr.read()
        _, status, used = os.wait4(tool.pid, 0)
    if status != 0:
        sys.exit(f"{command} failed: {words.decode()}")
    figures = {
        "seconds": time.monotonic() - began,
        "tool": used.ru_utime + used.ru_stime,
        "server": sum(processor(pid) - was for pid, (_, was) in zip(pids, before)),
        "tool memory": most.most[0],
        "server memory": sum(now - was for now, (was, _) in zip(most.most[1:], before)),
    }
    figures["processor"] = figures["tool"] + figures["server"]
    return figures


def turn(directory, engram, etcd, number):
    """A backup and a restore of each."""
    at = lambda name: os.path.join(directory, f"{name}-{number}")
    store = f"--store=file://{at('store')}"
    os.mkdir(at("store"))
    into = lambda name: [f"--data-dir={at(name)}", "--name=default"]
    seen = {}
    create = [ENGRAMCTL, "backup", "create", store, "--cluster=b", f"--endpoints={engram.address}"]
    seen["engramctl backup create"] = measured([*create, f"--scratch-dir={directory}"], engram)
    save = [os.path.join(TOOLS, "etcdctl"), "snapshot", "save", at("snapshot"), f"--endpoints={etcd.address}"]
    seen["etcdctl snapshot save"] = measured(save, etcd)
    seen["engramctl restore"] = measured([ENGRAMCTL, "restore", store, "--cluster=b", *into("engram")])
    restore = [os.path.join(TOOLS, "etcdutl"), "snapshot", "restore", at("snapshot"), *into("etcd")]
    seen["etcdutl snapshot restore"] = measured(restore)
    for name in ["store", "engram", "etcd"]:
        shutil.rmtree(at(name))
    os.remove(at("snapshot"))
    return seen


def report(rounds):
    print("| | seconds | processor s | of it the server's | tool's memory MiB | server's above idle MiB |")
    print("|---|---:|---:|---:|---:|---:|")
    median = lambda name, what: statistics.median(one[name][what] for one in rounds)
    for name in rounds[0]:
        of = lambda what: median(name, what)
        memory = f"{of('tool memory') / 2**20:.0f} | {of('server memory') / 2**20:.0f}"
        print(f"| {name} | {of('seconds'):.1f} | {of('processor'):.2f} | {of('server'):.2f} | {memory} |")
    for ours, theirs in [
        ("engramctl backup create", "etcdctl snapshot save"),
        ("engramctl restore", "etcdutl snapshot restore"),
    ]:
        share = median(ours, "processor") / median(theirs, "processor")
        print(f"\n{ours}: {share:.2f} of the processor of {theirs}", end="")
    print()


def main(args):
    if not args:
        sys.exit(__doc__)
    gigabytes, count = float(args[0]), int(args[1]) if len(args) > 1 else 3
    keys = int(gigabytes * 10**9 / VALUE_BYTES)
    directory = tempfile.mkdtemp(dir=WHERE, prefix="backups-")
    servers = []
    try:
        for place, binary in enumerate([ENGRAM, os.path.join(TOOLS, "etcd")]):
            data = os.path.join(directory, f"data-{place}")
            servers.append(Server(binary, data, 33379 + 2 * place, 33380 + 2 * place))
            servers[-1].fill(keys)
        print(f"{keys} keys of {VALUE_BYTES} random bytes, {count} rounds, load {os.getloadavg()[0]:.1f}\n")
        report([turn(directory, *servers, number) for number in range(count)])
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(directory)


main(sys.argv[1:])
