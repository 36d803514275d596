"""A disk of a few megabytes that can be filled: a tmpfs that only the test's services see."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

import pytest

from tests.system.service import PROGRAM

#: Ways to get a mount namespace of one's own: as root, and as anybody whom the kernel lets.
_WAYS = (("unshare", "--mount"), ("unshare", "--user", "--map-root-user", "--mount"))
_MOUNT = 'mount -t tmpfs -o "size=$1" gofer "$2" && echo mounted && exec cat'


class SmallDisk:
    """Is there as long as a process of ours that holds it."""

    def __init__(self, mount_point: Path, size: str) -> None:
        """Mount it; skips the test where that is not allowed. ``size`` as tmpfs has it, such as ``2m``."""
        self._mount_point = mount_point
        self._way = _way()
        command = [*self._way, "sh", "-c", _MOUNT, "sh", size, str(mount_point)]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert cast(IO[bytes], self._holder.stdout).readline() == b"mounted\n"
        #: Where it is to be found from outside.
        self.path = Path(f"/proc/{self._holder.pid}/root{mount_point}")
        #: How a service is started that sees it.
        self.program: Sequence[str] = (*self._inside(), *PROGRAM)

    def fill(self, *, leave: int = 0) -> None:
        """Leave room for so many bytes only; a file system gives it in blocks of 4 KiB."""
        path = self.path / "filler"
        with path.open("ab", buffering=0) as filler:
            for size in (1 << 16, 1 << 12, 1):
                _write_until_full(filler, bytes(size))
            filler.truncate(max(0, path.stat().st_size - leave))

    def free(self) -> None:
        """Give all of that back."""
        (self.path / "filler").unlink()

    def forbid_writes(self) -> None:
        """Mount it anew to be read only; nobody may have a file open for writing."""
        subprocess.run([*self._inside(), "mount", "-o", "remount,ro", self._mount_point], check=True)

    def close(self) -> None:
        """Let go of it."""
        self._holder.communicate()

    def _inside(self) -> list[str]:
        namespaces = [f"--mount=/proc/{self._holder.pid}/ns/mnt"]
        if "--user" in self._way:
            namespaces += [f"--user=/proc/{self._holder.pid}/ns/user", "--preserve-credentials"]
        return ["nsenter", *namespaces, f"--wd={self._mount_point.parent}"]


def _way() -> Sequence[str]:
    if sys.platform != "linux" or not shutil.which("unshare") or not shutil.which("nsenter"):
        pytest.skip("needs Linux with unshare and nsenter")
    for way in _WAYS:
        if subprocess.run([*way, "true"], capture_output=True, check=False).returncode == 0:
            return way
    pytest.skip("a mount namespace is not allowed here, so no disk can be filled")


def _write_until_full(file: IO[bytes], piece: bytes) -> None:
    try:
        while True:
            os.write(file.fileno(), piece)
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
