"""What the pages in docs/ say that can be checked."""

import ast
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest

from app import server
from app.config import load
from app.server import HttpServer
from store.clock import SystemClock
from tests.soak.__main__ import SOAKS
from tests.soak.__main__ import main as soak

ROOT = Path(__file__).parent.parent
SECURITY = (ROOT / "docs/security.md").read_text("utf-8")
PRODUCTION = (ROOT / "docs/production.md").read_text("utf-8")
RELIABILITY = (ROOT / "docs/reliability.md").read_text("utf-8")
#: How a page names a test.
TEST = re.compile(r"`((?:\w+/)*test_\w+\.py)::([\w:]+)`")
#: How the page on reliability names a file or directory of tests.
PLACE = re.compile(r"`(tests/[\w./]*|test_\w+\.py)`")
#: How it names a long run, with its options.
LONG_RUN = re.compile(r"`python -m tests\.soak\s+([^`]+)`")


def rows(page: str) -> list[list[str]]:
    """The cells of all rows of a page's tables, without the heads."""
    lines = re.findall(r"^\|(.+)\|$", page, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines if not set(line) <= set("-|")]


@cache
def names_in(path: Path) -> set[str]:
    """The tests of a file, those in a class with its name before theirs."""
    body = ast.parse(path.read_text("utf-8")).body
    found = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    for cls in body:
        if isinstance(cls, ast.ClassDef):
            found |= {f"{cls.name}::{node.name}" for node in cls.body if isinstance(node, ast.FunctionDef)}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


@pytest.mark.parametrize(("file", "test"), sorted(set(TEST.findall(SECURITY))))
def test_each_test_that_the_page_on_security_names_exists(file: str, test: str) -> None:
    path = ROOT / "tests" / file

    assert path.is_file()
    assert test in names_in(path)


@pytest.mark.parametrize("heading", ["OWASP API Security Top 10 (2023)", "What this field has had"])
def test_each_row_of_the_page_on_security_names_a_test(heading: str) -> None:
    table = rows(SECURITY.partition(f"\n## {heading}\n")[2].partition("\n## ")[0])[1:]

    assert len(table) >= 10
    for row in table:
        assert len(row) == 3, row
        assert TEST.findall(row[-1]), row[0]
        # Nothing but names of tests, so that a misspelt one is not taken for prose.
        assert not TEST.sub("", row[-1]).strip(" ,"), row[0]


def test_all_ten_risks_are_there() -> None:
    assert re.findall(r"^\| API(\d+) ", SECURITY, re.MULTILINE) == [str(number) for number in range(1, 11)]


def places(page: str) -> Iterator[Path]:
    """What a page names. A file without a directory is in that of the file before it."""
    directory = ROOT
    for name in PLACE.findall(page):
        path = ROOT / name if "/" in name else directory / name
        if name.endswith(".py"):
            directory = path.parent
        yield path


@pytest.mark.parametrize("path", sorted({str(path.relative_to(ROOT)) for path in places(RELIABILITY)}))
def test_each_file_of_tests_that_the_page_on_reliability_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


def long_runs(page: str) -> set[str]:
    """What a page says that was run, or can be; its table of the last ones leaves out what all commands begin with."""
    last = rows(page.partition("\n## The last long runs\n")[2])
    return {*LONG_RUN.findall(page), *(row[0].split("`")[1] for row in last if "`" in row[0])}


@pytest.mark.parametrize("line", sorted(long_runs(RELIABILITY)))
def test_each_long_run_that_the_page_on_reliability_names_exists(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *options = line.split()

    assert name in SOAKS
    with pytest.raises(SystemExit):
        soak([name, "--help"])
    known = capsys.readouterr().out.split()
    assert {option for option in options if option.startswith("--")} <= set(known)


def test_waitress_is_set_as_the_page_on_production_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.resource, "getrlimit", lambda _: (4096, 4096))
    settings = load({})
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        http = HttpServer(
            None,
            listener,
            SystemClock(),
            threads=settings.threads,
            max_body=settings.max_body,
            on_death=lambda: pytest.fail("died"),
        )
        adjustments = http.adj
        http.stop(1)
    table = PRODUCTION.partition("<!-- waitress -->")[2].partition("<!-- /waitress -->")[0]
    said = {name: value for name, value, _ in (row for row in rows(table)[1:])}

    assert said == {name: f"`{getattr(adjustments, name.strip('`'))}`" for name in said}
    assert server._IDLE == server._ARRIVAL == adjustments.channel_timeout
