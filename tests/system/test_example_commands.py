"""The commands that the repository declares as examples, as the README uses them."""

import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.eventually import eventually
from tests.system.service import ROOT, Answer, Service, run_to_end


def has_image_magick() -> bool:
    """Whether ``convert`` is there and is ImageMagick's."""
    if shutil.which("convert") is None:
        return False
    version = subprocess.run(["convert", "-version"], capture_output=True, text=True, check=False)
    return version.stdout.startswith("Version: ImageMagick")


def copy_examples(directory: Path) -> Path:
    """The examples in a directory of their own, as somebody who has cloned the repository has them."""
    shutil.copytree(ROOT / "examples", directory / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return directory


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service with the declared commands for all tests here."""
    directory = copy_examples(tmp_path_factory.mktemp("commands"))
    # Whatever runs on this machine, the database server of these tests does not: no socket is in that directory.
    toml = directory / "examples" / "commands.toml"
    toml.write_text(toml.read_text().replace("DUMP_DIR = ", f'PGHOST = "{directory}"\nDUMP_DIR = '))
    service = Service(directory, GOFER_CONFIG="examples/commands.toml")
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.kill()


def result_of(service: Service, job_type: str, **payload: object) -> Answer:
    """Submit a job and wait for its bare result."""
    job: dict[str, Any] = service.submit(job_type, payload, max_attempts=1)
    service.wait_for_end(job["id"])
    return service.get(f"/jobs/{job['id']}/result")


def test_checksums_can_be_checked(service: Service, tmp_path: Path) -> None:
    folder = service.directory / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "a file").write_bytes(b"a")
    (folder / "deep" / "b").write_bytes(b"b")
    answer = result_of(service, "checksums", folder="folder")

    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.body.decode().splitlines() == [
        f"{hashlib.sha256(b'a').hexdigest()}  ./a file",
        f"{hashlib.sha256(b'b').hexdigest()}  ./deep/b",
    ]
    subprocess.run(["sha256sum", "--check", "--quiet"], cwd=folder, input=answer.body, check=True)


def test_progress_comes_from_the_lines_of_the_script(service: Service) -> None:
    (service.directory / "one").mkdir()
    (service.directory / "one" / "file").touch()
    job = service.wait_for_end(service.submit("checksums", {"folder": "one"})["id"])

    assert job["progress"] == {"fraction": 1.0, "message": "file"}


def test_a_folder_that_is_not_there_fails_the_job_with_the_reason(service: Service) -> None:
    answer = result_of(service, "checksums", folder="nothing")

    assert answer.status == 424
    assert "nothing" in answer.json["error"]["message"]


def test_an_archive_holds_the_folder(service: Service) -> None:
    answer = result_of(service, "archive", folder="examples/data", name="orders")

    with tarfile.open(service.directory / "orders.tar.gz") as archive:
        names = archive.getnames()
    assert "examples/data/orders.csv" in names
    assert [line.rstrip("/") for line in answer.body.decode().splitlines()] == names


@pytest.mark.parametrize(
    ("job_type", "payload"),
    [
        ("checksums", {"folder": "../etc"}),
        ("checksums", {"folder": "/etc"}),
        ("checksums", {"folder": "a/../../etc"}),
        ("archive", {"folder": "--checkpoint-action=exec=id", "name": "x"}),
        ("archive", {"folder": "examples", "name": "host:file"}),
        ("dump", {"database": "host=elsewhere dbname=shop"}),
        ("dump", {"database": "--help"}),
    ],
)
def test_what_a_command_must_not_be_given_is_refused_at_once(
    service: Service, job_type: str, payload: dict[str, str]
) -> None:
    answer = service.post("/jobs", {"type": job_type, "payload": payload})

    assert answer.status == 422
    assert [error["path"].partition(".")[0] for error in answer.json["errors"]] == ["payload"]


@pytest.mark.skipif(shutil.which("pg_isready") is None, reason="there is no PostgreSQL client")
def test_a_database_server_that_does_not_answer_is_tried_again(service: Service) -> None:
    job_id = service.submit("dump", {"database": "shop"})["id"]
    first = eventually(lambda: next((a for a in service.attempts(job_id) if a["status"] != "processing"), None))
    assert first is not None
    service.post(f"/jobs/{job_id}/cancel")

    assert first["status"] == "failed"
    assert "the server does not answer" in first["error"]["message"]
    assert service.job(job_id)["attempt"] < 5


@pytest.mark.skipif(not has_image_magick(), reason="there is no ImageMagick")
def test_a_thumbnail_fits_into_its_size(tmp_path: Path) -> None:
    subprocess.run(["convert", "-size", "400x300", "xc:red", tmp_path / "big.png"], check=True)
    service = Service(copy_examples(tmp_path), GOFER_CONFIG="examples/pictures.toml")
    try:
        service.wait_until_ready()
        answer = result_of(service, "thumbnail", input="big.png", output="small.jpg", size="40x40")
    finally:
        service.kill()

    assert answer.status == 200
    identify = ["convert", str(tmp_path / "small.jpg"), "-format", "%m %wx%h", "info:"]
    assert subprocess.run(identify, capture_output=True, text=True, check=True).stdout == "JPEG 40x30"


def test_without_its_program_a_command_stops_the_start(tmp_path: Path) -> None:
    ended = run_to_end(copy_examples(tmp_path), "--check", GOFER_CONFIG="examples/pictures.toml", PATH="/nowhere")

    assert ended.returncode == 2
    assert "commands.thumbnail.argv: there is no program 'convert'" in ended.stderr
