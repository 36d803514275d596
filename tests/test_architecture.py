"""Rules of the architecture: who may import what, start threads, and read the environment and the clock."""

import ast
import configparser
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from app.version import VERSION

ROOT = Path(__file__).parent.parent
#: Top to bottom: each may import what stands to its right.
LAYERS = ["run", "app", "worker", "store"]
#: Libraries that belong to one layer.
OWNERS = {
    "flask": "app",
    "werkzeug": "app",
    "waitress": "app",
    "apsw": "store",
    "psycopg": "store",
    "urllib3": "worker",
}
#: The one file that reads the clock.
CLOCK = Path("store/clock.py")
#: Names that read a clock, by module.
CLOCKS = {
    "time": {
        "time",
        "time_ns",
        "monotonic",
        "monotonic_ns",
        "perf_counter",
        "perf_counter_ns",
        "clock_gettime",
        "sleep",
    },
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}

SOURCES = sorted(
    path.relative_to(ROOT)
    for layer in LAYERS
    for path in ([ROOT / "run.py"] if layer == "run" else (ROOT / layer).rglob("*.py"))
)
each_source = pytest.mark.parametrize("path", SOURCES, ids=str)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), str(path))


def layer_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions, too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)


def attributes(path: Path) -> Iterator[tuple[str, str]]:
    """Every ``name.attribute`` and every ``from name import attribute``."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            yield node.value.attr, node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from ((str(node.module), alias.name) for alias in node.names)


@each_source
def test_imports_go_downward_only(path: Path) -> None:
    above = LAYERS[: LAYERS.index(layer_of(path))]

    assert [name for name in imports(path) if name.split(".")[0] in (*above, "tests", "benchmarks", "examples")] == []


@each_source
def test_a_library_is_used_in_the_layer_that_it_belongs_to(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path)} & OWNERS.keys()

    assert {name for name in used if OWNERS[name] != layer_of(path)} == set()


@each_source
def test_threads_are_started_in_the_worker_layer_only(path: Path) -> None:
    started = set(attributes(path)) & {("threading", "Thread"), ("threading", "Timer"), ("concurrent", "futures")}

    assert not started or layer_of(path) == "worker"


@each_source
def test_the_environment_is_read_in_run_only(path: Path) -> None:
    read = set(attributes(path)) & {("os", "environ"), ("os", "environb"), ("os", "getenv")}

    assert not read or layer_of(path) == "run"


@each_source
def test_the_time_is_read_in_one_file(path: Path) -> None:
    read = {(module, name) for module, name in attributes(path) if name in CLOCKS.get(module, ())}

    assert not read or path == CLOCK


#: Who reads the wall clock, and what for; none of it is a duration.
WALL_CLOCK = {
    "store/wall_clock.py": "for the stores: run_at, and when something happened; it notices that the clock was set",
    "store/memory.py": "ids",
    "store/sqlite/store.py": "ids; statistics",
    "worker/context.py": "the time of a log line",
    "worker/dispatcher.py": "which run_at has come; it is told when the clock was set",
    "worker/handlers/http.py": "a Retry-After that is a date",
    "worker/retention.py": "how old finished_at may be",
    "app/auth.py": "whether a key has expired",
    "app/new_key.py": "whether a key would have expired",
}


@each_source
def test_the_wall_clock_is_read_by_those_who_mean_an_instant(path: Path) -> None:
    reads = any(
        isinstance(node, ast.Attribute) and node.attr in ("now", "read") and ast.unparse(node.value).endswith("clock")
        for node in ast.walk(tree(path))
    )

    assert reads == (path.as_posix() in WALL_CLOCK)


@each_source
def test_no_module_holds_state(path: Path) -> None:
    """There is no ``global`` statement, and no empty container that waits to be filled."""
    for node in ast.walk(tree(path)):
        assert not isinstance(node, ast.Global), f"{path}:{node.lineno}"
    for node in tree(path).body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        is_empty = (isinstance(value, ast.Dict) and not value.keys) or (isinstance(value, ast.List) and not value.elts)
        assert not is_empty, f"{path}:{node.lineno}"


def test_the_version_is_written_once() -> None:
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")

    assert metadata["metadata"]["version"] in (VERSION, "attr: app.version.VERSION")


def test_the_architecture_page_names_every_thread() -> None:
    """The table of threads and the names in the code are the same, whatever stands for the variable parts."""
    page = (ROOT / "docs/architecture.md").read_text()
    table = page.partition("\n## Threads\n")[2].partition("\n## ")[0]
    named = {re.sub(r"<\w+>", "<>", name) for name in re.findall(r"^\| `(gofer-[^`]+)`", table, re.MULTILINE)}
    in_worker = [path for path in SOURCES if layer_of(path) == "worker"]

    assert named == {name for path in in_worker for name in thread_names(path)}


def thread_names(path: Path) -> Iterator[str]:
    """Every text of a file that begins like the name of a thread of ours."""
    for node in ast.walk(tree(path)):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "<>" for part in parts)
        if text.startswith("gofer-") and not text.endswith("-"):
            yield text
