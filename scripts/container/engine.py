"""podman in docker's place, and the image to begin with."""

import os
import resource
import shutil
import sys
from pathlib import Path

from scripts.container.steps import exit_code, run

#: What the Dockerfile begins with, and the Debian that has the same Python.
BASE, _SUITE = "docker.io/library/python:3.13-slim-trixie", "trixie"
_MIRROR = "http://deb.debian.org/debian"
_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

TOOLS = ("podman", "podman-compose", "runc", "iptables", "debootstrap", "unshare", "setpriv", "pgrep", "curl", "ip")

#: What is built needs the package index, so it shares the network of this machine. Less severe than
#: fatal is that podman finds no systemd to have health checks made by.
_DOCKER = """#!/bin/sh
case "$1" in
    build) shift; exec podman build --network host "$@" ;;
    compose) shift; exec podman-compose "$@" ;;
esac
exec podman --log-level fatal "$@"
"""

#: runc, because crun 1.8 does not start on a machine with both kinds of cgroups. ``docker`` names no
#: limits; podman would raise them, which not every root may.
_CONTAINERS = """
[containers]
default_ulimits = ["nofile={files}", "nproc={processes}"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "/run/podman-tmp"
volume_path = "{directory}/volumes"
"""
_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{directory}/storage"
runroot = "/run/storage"
"""
_REGISTRIES = 'unqualified-search-registries = ["docker.io"]\n'


def set_up(directory: Path) -> None:
    """Keep all that podman writes below ``directory``, and let ``docker`` be podman, for this process and its children.

    The directories that podman uses whatever it is told are covered, so mounts must be private.
    """
    for covered in ("/run", "/var/lib/cni", "/var/lib/containers"):
        Path(covered).mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", covered)
    files, processes = _limit(resource.RLIMIT_NOFILE), _limit(resource.RLIMIT_NPROC)
    texts = {
        "CONTAINERS_CONF": _CONTAINERS.format(directory=directory, files=files, processes=processes),
        "CONTAINERS_STORAGE_CONF": _STORAGE.format(directory=directory),
        "CONTAINERS_REGISTRIES_CONF": _REGISTRIES,
    }
    for name, text in texts.items():
        path = directory / f"{name.lower()}.conf"
        path.write_text(text)
        os.environ[name] = str(path)
    os.environ["BUILDAH_FORMAT"] = "docker"  # the other format knows no HEALTHCHECK
    docker = directory / "bin" / "docker"
    docker.parent.mkdir(exist_ok=True)
    docker.write_text(_DOCKER)
    docker.chmod(0o755)
    os.environ["PATH"] = f"{docker.parent}:{os.environ['PATH']}"


def _limit(number: int) -> str:
    return ":".join(str(value) for value in resource.getrlimit(number))


def make_base(system: Path, archive: Path) -> None:
    """Make the base image, as a file. ``system`` is a directory to make it in."""
    run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(system), _MIRROR)
    # The official image calls it python; and pip must reach the index as it does on this machine.
    (system / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    shutil.copyfile(_CERTIFICATES, system / _CERTIFICATES.relative_to("/"))
    failed, index = exit_code(sys.executable, "-m", "pip", "config", "get", "global.index-url")
    settings = f"[global]\ncert = {_CERTIFICATES}\n" + ("" if failed else f"index-url = {index}\n")
    (system / "etc/pip.conf").write_text(settings)
    for useless in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(system / useless)
    run("tar", "--create", "--file", str(archive), "--directory", str(system), ".")
    shutil.rmtree(system)


def import_base(archive: Path) -> None:
    """Let the base image be there without a pull."""
    run("podman", "import", str(archive), BASE)


def size(image: str) -> int:
    """Bytes of an image, with those of what it is based on."""
    return int(run("docker", "image", "inspect", "--format", "{{.Size}}", image))
