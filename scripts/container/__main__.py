"""The directory, the namespaces, and the two stages in them."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from scripts.container import engine, trial
from scripts.container.steps import ROOT, Failure, readme, session

#: Seconds that killed processes may take to be gone.
_END = 3.0


def main() -> int:
    """Run both stages, and leave nothing behind."""
    options = _options()
    if options.stage:
        return _stage(options.stage, options.directory, options.base)
    missing = [tool for tool in engine.TOOLS if not shutil.which(tool)]
    if missing or os.getuid() != 0:
        print(f"needs root and {', '.join(missing) or 'nothing else'}; see {Path(__file__).parent}/__init__.py")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="gofer-container-") as directory:
        base = options.base or Path(directory) / "base.tar"
        try:
            # A network namespace has no way out, so only the second stage, which needs none, is in one.
            return _in_namespaces("build", directory, base) or _in_namespaces("run", directory, base, "--net")
        finally:
            _remove_cgroups()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts.container", description="Build the image and run it, without Docker.", allow_abbrev=False
    )
    parser.add_argument("--base", type=Path, help="where the base image is kept for the next time")
    parser.add_argument("--stage", choices=["build", "run"], help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_namespaces(stage: str, directory: str, base: Path, *more: str) -> int:
    # When this process ends, unshare is killed, then its child, and with that all processes of the namespace.
    own = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    # The first process of the namespace inherits orphans. A shell reaps them; podman waits for that.
    reaper = ["sh", "-c", '"$@"; exit $?', "sh"]
    arguments = ["--stage", stage, "--directory", directory, "--base", str(base.resolve())]
    command = [*own, *more, *reaper, sys.executable, "-um", "scripts.container", *arguments]
    return subprocess.run(command, check=False, cwd=ROOT).returncode


def _remove_cgroups() -> None:
    """The one thing that no namespace takes with it; what anybody's containers are in cannot be removed."""
    deadline = time.monotonic() + _END
    # More than once: processes that were killed may still be in there.
    while (groups := _cgroups()) and time.monotonic() < deadline:
        for group in groups:
            with suppress(OSError):
                group.rmdir()
        time.sleep(0.05)


def _cgroups() -> list[Path]:
    """podman's control groups, inner ones first."""
    parents = Path("/sys/fs/cgroup").glob("*/libpod_parent")
    return sorted((group for parent in parents for group in parent.glob("**/")), reverse=True)


def _stage(stage: str, directory: Path, base: Path) -> int:
    engine.set_up(directory)
    try:
        _build(directory, base) if stage == "build" else trial.run_all()
    except (Failure, subprocess.SubprocessError) as error:
        print(f"FAILED: {error}\n{getattr(error, 'stderr', None) or ''}", file=sys.stderr)
        return 1
    return 0


def _build(directory: Path, base: Path) -> None:
    if not base.exists():
        print("make the base image")
        engine.make_base(directory / "base", base)
    engine.import_base(base)
    began = time.monotonic()
    session(readme("docker-build"))
    took = time.monotonic() - began
    image, below = engine.size("gofer"), engine.size(engine.BASE)
    print(f"  built in {took:.0f} s: {image / 1e6:.0f} MB, of which {(image - below) / 1e6:.0f} MB are not the base's")
    session(readme("docker-derived"))


if __name__ == "__main__":
    sys.exit(main())
