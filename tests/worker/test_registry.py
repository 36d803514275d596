import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest

from store.job import Backoff
from worker import JobContext, handler
from worker.errors import DuplicateHandler, HandlerImportError, InvalidPayload, UnknownType
from worker.registry import HandlerSpec, Registry


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Write a handler module; gives its path."""
    known = set(sys.modules)

    def write_it(text: str, name: str = "jobs.py") -> str:
        path = tmp_path / name
        path.write_text("from worker import handler, JobContext\n" + dedent(text))
        return str(path)

    yield write_it
    for name in set(sys.modules) - known:
        del sys.modules[name]


def loaded(*names: str) -> Registry:
    registry = Registry()
    registry.load(names)
    return registry


def spec_of(annotation: object) -> HandlerSpec:
    def function(ctx: JobContext, payload: object) -> object:
        return payload

    function.__annotations__["payload"] = annotation
    registry = Registry()
    registry.add(handler("test")(function))
    return registry.get("test")


def refusal(annotation: object, payload: bytes) -> list[tuple[str, str]]:
    with pytest.raises(InvalidPayload) as caught:
        spec_of(annotation).check_payload(msgspec.Raw(payload))
    return caught.value.errors


def test_the_built_in_handlers_are_always_there() -> None:
    assert Registry().types() == ["echo", "sleep"]


def test_the_decorator_returns_the_function_itself() -> None:
    def function(ctx: JobContext, payload: object) -> object:
        return payload

    assert handler("x")(function) is function


def test_the_decorator_registers_nothing() -> None:
    @handler("elsewhere")
    def function(ctx: JobContext, payload: object) -> object:
        return payload

    with pytest.raises(UnknownType):
        Registry().get("elsewhere")


def test_a_file_is_loaded_by_its_path(write: Callable[[str], str]) -> None:
    path = write(
        """
        @handler("report", queue="reports", max_attempts=3, timeout=60.0)
        def report(ctx, payload): return payload
        """
    )
    spec = loaded(path).get("report")
    assert (spec.queue, spec.max_attempts, spec.timeout, spec.backoff) == ("reports", 3, 60.0, None)


def test_a_file_may_define_dataclasses_with_annotations_as_text(write: Callable[[str], str]) -> None:
    path = write(
        """
        import dataclasses
        @handler("report")
        def report(ctx: "JobContext", payload: "Report"): return payload
        @dataclasses.dataclass
        class Report:
            rows: "list[int]"
        """
    )
    with pytest.raises(InvalidPayload) as caught:
        loaded(path).get("report").check_payload(msgspec.Raw(b'{"rows":[1,"x"]}'))
    assert caught.value.errors == [("payload.rows[1]", "Expected `int`, got `str`")]


@pytest.fixture
def directory(write: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A directory of two handler files, what they share, and what is none of them."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    write('from _words import WORD\n@handler("b")\ndef b(ctx, payload): return WORD', "b.py")
    write('@handler("a")\ndef a(ctx, payload): return payload', "a.py")
    write('WORD = "shared"', "_words.py")
    write("1/0", "_broken.py")
    write("1/0", ".hidden.py")
    (tmp_path / "notes.txt").write_text("not Python")
    return str(tmp_path)


def test_a_directory_stands_for_its_files_and_they_may_share_one(directory: str) -> None:
    registry = loaded(directory)
    assert registry.types() == ["a", "b", "echo", "sleep"]
    assert registry.get("b").function(None, None) == "shared"  # type: ignore[arg-type]


def test_a_directory_without_handlers_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing need be mounted in a container."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    assert loaded("./").types() == ["echo", "sleep"]


def test_a_file_in_a_directory_takes_no_place_of_a_library(directory: str) -> None:
    loaded(directory)
    assert sys.path.index(directory) == len(sys.path) - 1


def test_a_directory_that_is_not_there_is_named() -> None:
    with pytest.raises(HandlerImportError) as caught:
        loaded("./nowhere")
    assert str(caught.value) == "cannot read the directory of handlers './nowhere': No such file or directory"


def test_one_function_may_handle_two_types(write: Callable[[str], str]) -> None:
    path = write(
        """
        @handler("one")
        @handler("two")
        def both(ctx, payload): return payload
        """
    )
    registry = loaded(path)
    assert registry.get("one").function is registry.get("two").function


def test_the_same_module_twice_is_no_error(write: Callable[[str], str]) -> None:
    path = write('@handler("x")\ndef x(ctx, payload): return payload\n')
    assert "x" in loaded(path, path).types()


def test_the_same_type_twice_is_an_error_that_names_both(write: Callable[..., str]) -> None:
    first = write('@handler("x")\ndef one(ctx, payload): return 1\n')
    second = write('@handler("x")\ndef two(ctx, payload): return 2\n', "more.py")
    with pytest.raises(DuplicateHandler, match=r"'x'.*jobs\.one.*more\.two"):
        loaded(first, second)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nonsense_that_is_nowhere", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ('@handler("bad name")\ndef x(ctx, payload): ...', "ValueError: 'bad name'"),
        ('@handler("x", max_attempts=0)\ndef x(ctx, payload): ...', "max_attempts"),
        ('@handler("x", timeout=float("inf"))\ndef x(ctx, payload): ...', "timeout"),
        ('@handler("x")\nasync def x(ctx, payload): ...', "plain function"),
        ('@handler("x")\nclass X: ...', "plain function"),
        ('@handler("x")\ndef x(payload): ...', r"must take \(ctx, payload\)"),
        ('@handler("x")\ndef x(ctx, payload: "Nowhere"): ...', "Nowhere"),
        ('import random\n@handler("x")\ndef x(ctx, payload: random.Random): ...', "JSON"),
    ],
)
def test_a_module_that_cannot_be_used_is_one_clear_line(write: Callable[[str], str], text: str, reason: str) -> None:
    path = write(text)
    with pytest.raises(HandlerImportError, match=reason) as caught:
        loaded(path)
    assert "\n" not in str(caught.value)
    assert Path(path).stem in str(caught.value)


@pytest.mark.parametrize("name", ["no.such.module", "/no/such/file.py"])
def test_a_module_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(HandlerImportError, match=name):
        loaded(name)


def test_an_unknown_type_lists_the_known_and_the_closest() -> None:
    with pytest.raises(UnknownType, match=r"'ecko' \(did you mean 'echo'\?\); there are: echo, sleep"):
        Registry().get("ecko")


@pytest.mark.parametrize("annotation", [object, msgspec.Raw])
def test_without_a_real_annotation_any_payload_is_taken(annotation: object) -> None:
    spec_of(annotation).check_payload(msgspec.Raw(b'{"a":[1,null]}'))


class Item(msgspec.Struct):
    price: float
    count: int = 1


class Basket(msgspec.Struct, forbid_unknown_fields=True):
    items: list[Item]

    def __post_init__(self) -> None:
        if len(self.items) > 2:
            raise KeyError("too many")


def test_the_payload_is_decoded_for_the_handler() -> None:
    assert spec_of(Basket).decode(msgspec.Raw(b'{"items":[{"price":2}]}')) == Basket([Item(2.0)])


def test_a_bad_field_is_named_by_its_path() -> None:
    assert refusal(Basket, b'{"items":[{"price":1},{"price":"x"}]}') == [
        ("payload.items[1].price", "Expected `float`, got `str`")
    ]


def test_a_missing_field_an_unknown_field_and_a_wrong_whole_are_told() -> None:
    assert refusal(Basket, b"{}") == [("payload", "Object missing required field `items`")]
    assert refusal(Basket, b'{"itms":[]}') == [("payload", "Object contains unknown field `itms`")]
    assert refusal(Basket, b"3") == [("payload", "Expected `object`, got `int`")]


def test_an_error_of_the_operators_own_check_is_a_refusal() -> None:
    ((path, message),) = refusal(Basket, b'{"items":[{"price":1},{"price":1},{"price":1}]}')
    assert path == "payload"
    assert "too many" in message


@pytest.mark.parametrize("payload", [b'"\xff"', b"[" * 100_000])
def test_no_bytes_break_the_check(payload: bytes) -> None:
    assert refusal(list[int], payload)[0][0].startswith("payload")


def test_a_handler_may_carry_a_backoff() -> None:
    def function(ctx: JobContext, payload: object) -> object:
        return payload

    registry = Registry()
    registry.add(handler("x", backoff=Backoff(base=5))(function))
    assert registry.get("x").backoff == Backoff(base=5)


def test_what_was_loaded_is_remembered_so_that_another_process_can_load_it(
    write: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write('@handler("x")\ndef x(ctx, payload): return payload\n')
    monkeypatch.chdir(Path(path).parent)
    registry = loaded(Path(path).name)
    assert registry.modules == ["worker.handlers.demo", path]


def test_an_isolated_handler_may_take_its_time_to_be_killed(write: Callable[[str], str]) -> None:
    registry = loaded(write('@handler("x", isolation="process")\ndef x(ctx, payload): return payload\n'))
    assert registry.get("x").isolation == "process"
    assert registry.stop_time("x") > 5
    assert registry.stop_time("echo") == 0


def test_a_module_without_handlers_is_refused(tmp_path: Path) -> None:
    """Most likely it is the wrong module."""
    path = tmp_path / "empty.py"
    path.write_text("def report(ctx, payload): ...")
    with pytest.raises(HandlerImportError, match="has no handlers; mark its functions with @handler"):
        Registry().load([str(path)])
