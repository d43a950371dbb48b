#!/usr/bin/env python3
"""Writes a directory as a one-layer OCI image layout (a tar file) that `ctr images import` takes.

    oci.py OUT.tar NAME:TAG DIRECTORY [--cmd JSON] [--entrypoint JSON] [--env NAME=VALUE]... [--user USER] [--cwd DIR]

No network, standard library only; the same tree gives the same bytes.
"""
import argparse
import hashlib
import io
import json
import os
import subprocess
import tarfile

IMAGE = "application/vnd.oci.image"
SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("name")
    parser.add_argument("directory")
    parser.add_argument("--cmd", default='["/bin/sh"]')
    parser.add_argument("--entrypoint")
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--user", default="")
    parser.add_argument("--cwd", default="/")
    return parser.parse_args()


def write_layer(directory, path):
    """The tree as a reproducible tar; what a runtime mounts over is left out."""
    subprocess.check_call(
        ["tar", "-C", directory, "--numeric-owner", "--xattrs", "--sort=name", "--mtime=@0"]
        + [f"--exclude=./{mounted}/*" for mounted in ("proc", "sys", "dev")]
        + ["-cf", path, "."]
    )


def file_digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Blobs:
    """Small blobs, kept until the archive is written."""

    def __init__(self):
        self.by_digest = {}

    def add(self, media_type, value):
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        self.by_digest[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def main():
    args = arguments()
    layer = args.out + ".layer"
    write_layer(args.directory, layer)
    layer_digest = file_digest(layer)
    config = {"Env": [SEARCH_PATH] + args.env, "Cmd": json.loads(args.cmd), "WorkingDir": args.cwd}
    if args.entrypoint:
        config["Entrypoint"] = json.loads(args.entrypoint)
    if args.user:
        config["User"] = args.user

    blobs = Blobs()
    config_blob = blobs.add(f"{IMAGE}.config.v1+json", {
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
    })
    layer_blob = {
        "mediaType": f"{IMAGE}.layer.v1.tar",
        "digest": f"sha256:{layer_digest}",
        "size": os.path.getsize(layer),
    }
    manifest = blobs.add(f"{IMAGE}.manifest.v1+json", {
        "schemaVersion": 2,
        "mediaType": f"{IMAGE}.manifest.v1+json",
        "config": config_blob,
        "layers": [layer_blob],
    })
    manifest["platform"] = {"architecture": "amd64", "os": "linux"}
    manifest["annotations"] = {
        "io.containerd.image.name": args.name,
        "org.opencontainers.image.ref.name": args.name.rsplit(":", 1)[1],
    }
    with tarfile.open(args.out, "w") as archive:
        def add(name, data):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))

        add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        add("index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())
        for digest, data in blobs.by_digest.items():
            add(f"blobs/sha256/{digest}", data)
        entry = tarfile.TarInfo(f"blobs/sha256/{layer_digest}")
        entry.size = os.path.getsize(layer)
        with open(layer, "rb") as data:
            archive.addfile(entry, data)
    os.unlink(layer)


if __name__ == "__main__":
    main()
