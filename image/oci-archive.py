#!/usr/bin/env python3
"""Writes an image archive of one layer, with no registry and no docker.

usage: oci-archive.py OUT.tar NAME:TAG [options] SOURCE:DESTINATION...

SOURCE is a file, or a directory that is copied as a tree. Owners are root and times are zero, so
that equal contents give an equal archive. With --compress gzip the archive is one for
`docker load` too; with either it is one for `ctr images import` and `kind load image-archive`.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OCI = "application/vnd.oci.image"


class Layer:
    """An uncompressed layer that grows, with each parent directory made once."""

    def __init__(self):
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w", format=tarfile.PAX_FORMAT)
        self.directories = set()

    def copy(self, source, destination):
        """Copies one file, or a tree."""
        if not os.path.isdir(source) or os.path.islink(source):
            self._add(source, destination)
            return
        for here, directories, files in os.walk(source):
            directories.sort()
            for name in directories + sorted(files):
                path = os.path.join(here, name)
                relative = os.path.relpath(path, source)
                self._add(path, os.path.normpath(os.path.join(destination, relative)))

    def directory(self, path, mode=0o755):
        """Makes a directory and its parents."""
        path = "/" + path.strip("/")
        if path == "/" or path in self.directories:
            return
        self.directory(os.path.dirname(path))
        self.directories.add(path)
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self.tar.addfile(entry)

    def bytes(self):
        """The finished layer."""
        self.tar.close()
        return self.buffer.getvalue()

    def _add(self, source, destination):
        if os.path.isdir(source) and not os.path.islink(source):
            self.directory(destination, os.stat(source).st_mode & 0o7777)
            return
        self.directory(os.path.dirname(destination))
        entry = self.tar.gettarinfo(source, arcname=destination.lstrip("/"))
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        if entry.issym():
            self.tar.addfile(entry)
            return
        entry.type, entry.size = tarfile.REGTYPE, os.path.getsize(source)  # a hard link is a file
        with open(source, "rb") as content:
            self.tar.addfile(entry, content)


def compress(raw, how):
    """The layer as it is stored, and the end of its media type."""
    if how == "gzip":
        return gzip.compress(raw, compresslevel=9, mtime=0), "gzip"
    zstd = ["zstd", "-q", "-T0", "-9", "-c"]
    return subprocess.run(zstd, input=raw, stdout=subprocess.PIPE, check=True).stdout, "zstd"


def digest(data):
    """The hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def config_of(arguments, raw):
    """The image's configuration: what a container of it runs, and as whom."""
    run = {"Env": [PATH]}
    if arguments.entrypoint:
        run["Entrypoint"] = arguments.entrypoint.split(",")
    if arguments.user:
        run["User"] = arguments.user
    if arguments.label:
        run["Labels"] = dict(label.split("=", 1) for label in arguments.label)
    return {
        "architecture": arguments.arch,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest(raw)]},
    }


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("name")
    parser.add_argument("items", nargs="+", metavar="SOURCE:DESTINATION")
    parser.add_argument("--entrypoint", help="comma between words")
    parser.add_argument("--user", help="uid:gid")
    parser.add_argument("--label", action="append", help="key=value")
    parser.add_argument("--arch", default="amd64")
    parser.add_argument("--compress", choices=["gzip", "zstd"], default="zstd")
    return parser.parse_args()


def main():
    """Builds the layer, then what names it, then writes the archive."""
    arguments = parse()
    layer = Layer()
    for item in arguments.items:
        layer.copy(*item.split(":", 1))
    layer.directory("/tmp", 0o1777)
    raw = layer.bytes()
    stored, suffix = compress(raw, arguments.compress)

    blobs = {}

    def descriptor(kind, data, **more):
        blobs[digest(data)] = data
        return {"mediaType": f"{OCI}.{kind}", "digest": "sha256:" + digest(data), "size": len(data), **more}

    config = descriptor("config.v1+json", json.dumps(config_of(arguments, raw), sort_keys=True).encode())
    layers = [descriptor(f"layer.v1.tar+{suffix}", stored)]
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": layers}
    index = {
        "schemaVersion": 2,
        "manifests": [
            descriptor(
                "manifest.v1+json",
                json.dumps(manifest, sort_keys=True).encode(),
                platform={"os": "linux", "architecture": arguments.arch},
                annotations={
                    "io.containerd.image.name": arguments.name,
                    "org.opencontainers.image.ref.name": arguments.name.rsplit(":", 1)[1],
                },
            )
        ],
    }
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode()}
    if arguments.compress == "gzip":  # what `docker load` reads
        path = lambda of: "blobs/sha256/" + of["digest"].removeprefix("sha256:")
        docker = [{"Config": path(config), "RepoTags": [arguments.name], "Layers": [path(one) for one in layers]}]
        files["manifest.json"] = json.dumps(docker).encode()
    files |= {"blobs/sha256/" + name: data for name, data in blobs.items()}

    with tarfile.open(arguments.out, "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    print(f"{arguments.name}: {len(raw) / 1e6:.1f} MB, {len(stored) / 1e6:.1f} MB as {suffix}")


if __name__ == "__main__":
    main()
