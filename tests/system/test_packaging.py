"""The wheel: built from what the image is built from, installed where nothing of the repository is, and served."""

import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.version import VERSION
from tests.system.service import ROOT, Service, environment

PACKAGES = ("app", "worker", "store", "examples")


def run(*command: str | Path, cwd: Path) -> str:
    """Run to the end, which must be a good one; return standard output."""
    done = subprocess.run(
        command, cwd=cwd, env=environment({}), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the files that ``.dockerignore`` lets into the image's build, and no others."""
    sources = tmp_path_factory.mktemp("sources")
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        source = ROOT / line.removeprefix("!")
        if line.startswith("!") and source.is_dir():
            shutil.copytree(source, sources / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif line.startswith("!"):
            shutil.copy(source, sources)
    run(sys.executable, "-m", "build", "--outdir", "dist", ".", cwd=sources)
    (found,) = (sources / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def gofer(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script, in an environment that holds the wheel and what it requires."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory)
    python = directory / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel, cwd=directory)
    return directory / "bin" / "gofer"


@pytest.fixture(scope="module")
def service(gofer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service of the installed program, with the examples that came with it."""
    directory = tmp_path_factory.mktemp("service")
    service = Service(directory, program=[str(gofer)], GOFER_HANDLERS="examples.csv_report")
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.kill()


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    """Templates, SQL and data, too: what is not there is missed only where the repository is not."""
    files = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert names == files | {"run.py"}


def test_the_installed_program_is_the_same_program(gofer: Path, tmp_path: Path) -> None:
    assert run(gofer, "--version", cwd=tmp_path) == f"gofer {VERSION}\n"
    assert run(gofer, "--help", cwd=tmp_path) == run(sys.executable, ROOT / "run.py", "--help", cwd=tmp_path)


def test_the_installed_program_serves(service: Service) -> None:
    echo = service.wait_for_end(service.submit("echo", {"hello": "world"})["id"])
    report = service.wait_for_end(service.submit("csv_report", {"path": "orders.csv", "column": "amount"})["id"])

    assert echo["result"] == {"hello": "world"}
    assert report["status"] == "completed", report
    assert report["result"]["rows"] > 0


def test_nothing_of_the_repository_is_used(gofer: Path, tmp_path: Path) -> None:
    modules = "app, examples, run, store, worker"
    print_places = f"import {modules}; print(*(module.__file__ for module in ({modules})), sep='\\n')"

    places = run(gofer.with_name("python"), "-c", print_places, cwd=tmp_path).split()

    assert [place for place in places if not Path(place).is_relative_to(gofer.parent.parent)] == []
