#!/usr/bin/env python3
"""A full backup and a restore of a store beside etcd's snapshot and restore of the same: time, processor and memory.

Both servers are loaded with the same keys. Engram's backup goes to a directory; its restore, and etcd's, make a data
directory out of it. Processor is what the tool and the server used for it, in seconds; memory is the most that is not a
file's page (RssAnon), above what it was before for a server, and in all for a tool, looked at every 10 ms.

Both stand beside each other and take turns, round by round, which takes seven times the size on disk. With --apart they
come one after the other, and what a step needs no more is removed before the next one: two and a half times the size.

Usage: backups.py [--apart] GIGABYTES [ROUNDS]
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


class Engram:
    """Engram's side of it, in a directory."""

    create, restore = "engramctl backup create", "engramctl restore"
    binary, ports = ENGRAM, (33379, 33380)

    def __init__(self, directory):
        self.kept, self.made = (os.path.join(directory, name) for name in ["store", "engram"])
        self.scratch = directory

    def back_up(self, server):
        os.mkdir(self.kept)
        command = [ENGRAMCTL, "backup", "create", f"--store=file://{self.kept}", "--cluster=b"]
        return measured([*command, f"--endpoints={server.address}", f"--scratch-dir={self.scratch}"], server)

    def bring_back(self):
        command = [ENGRAMCTL, "restore", f"--store=file://{self.kept}", "--cluster=b", "--name=default"]
        return measured([*command, f"--data-dir={self.made}"])


class Etcd:
    """The same of etcd."""

    create, restore = "etcdctl snapshot save", "etcdutl snapshot restore"
    binary, ports = os.path.join(TOOLS, "etcd"), (33381, 33382)

    def __init__(self, directory):
        self.kept, self.made = (os.path.join(directory, name) for name in ["snapshot", "etcd"])

    def back_up(self, server):
        command = [os.path.join(TOOLS, "etcdctl"), "snapshot", "save", self.kept]
        return measured([*command, f"--endpoints={server.address}"], server)

    def bring_back(self):
        command = [os.path.join(TOOLS, "etcdutl"), "snapshot", "restore", self.kept, "--name=default"]
        return measured([*command, f"--data-dir={self.made}"])


def remove(path):
    shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


def beside(directory, servers, keys, rounds):
    """A backup and a restore of each, in turns."""
    sides = [side(directory) for side in (Engram, Etcd)]
    for side in sides:
        servers.append(Server(side.binary, data(directory, side), *side.ports))
        servers[-1].fill(keys)
    seen = []
    for _ in range(rounds):
        turn = {side.create: side.back_up(server) for side, server in zip(sides, servers)}
        turn |= {side.restore: side.bring_back() for side in sides}
        seen.append(turn)
        for path in [path for side in sides for path in (side.kept, side.made)]:
            remove(path)
    return seen


def apart(directory, servers, keys, rounds):
    """The same, one after the other, with as little on disk as can be."""
    seen = [{} for _ in range(rounds)]
    for side in (side(directory) for side in (Engram, Etcd)):
        server = Server(side.binary, data(directory, side), *side.ports)
        servers.append(server)
        server.fill(keys)
        for number, turn in enumerate(seen):
            if number > 0:
                remove(side.kept)
            turn[side.create] = side.back_up(server)
        server.stop()
        remove(data(directory, side))
        for turn in seen:
            turn[side.restore] = side.bring_back()
            remove(side.made)
        remove(side.kept)
    # In the order of the other way.
    return [{name: turn[name] for side in ("create", "restore") for name in (getattr(Engram, side), getattr(Etcd, side))} for turn in seen]


def data(directory, side):
    return os.path.join(directory, f"data-{side.ports[0]}")


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
    way = apart if "--apart" in args else beside
    args = [arg for arg in args if arg != "--apart"]
    if not args:
        sys.exit(__doc__)
    gigabytes, count = float(args[0]), int(args[1]) if len(args) > 1 else 3
    keys = int(gigabytes * 10**9 / VALUE_BYTES)
    needed, free = gigabytes * 10**9 * (2.4 if way is apart else 7), shutil.disk_usage(WHERE).free
    if free < needed:
        sys.exit(f"{WHERE} has {free / 10**9:.0f} GB of room, and {needed / 10**9:.0f} are needed: see --apart")
    directory = tempfile.mkdtemp(dir=WHERE, prefix="backups-")
    servers = []
    try:
        seen = way(directory, servers, keys, count)
        order = "one after the other" if way is apart else "in turns"
        print(f"{keys} keys of {VALUE_BYTES} random bytes, {count} rounds, {order}, load {os.getloadavg()[0]:.1f}\n")
        report(seen)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(directory)


main(sys.argv[1:])
