"""A refused submission comes with what was meant, if that can be known, and with nothing else."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Problem
from app.fix import FixingParser
from app.spelling import meant
from tests.app.conftest import MAX_BODY, Service
from worker import JobContext, handler
from worker.registry import Registry


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Item(TypedDict):
    name: str
    price: float
    note: NotRequired[str]


@dataclass
class Address:
    street: str
    zip_code: str


class Order(msgspec.Struct, forbid_unknown_fields=True):
    count: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    ratio: float | None = None
    total: Decimal = Decimal(0)
    express: bool = False
    size: Size = Size.SMALL
    method: Literal["GET", "POST"] = "GET"
    items: list[Item] = []
    address: Address | None = None
    words: dict[str, list[str]] = {}


class Picture(msgspec.Struct, tag_field="kind", tag="picture", forbid_unknown_fields=True):
    width: int


class Sound(msgspec.Struct, tag_field="kind", tag="sound", forbid_unknown_fields=True):
    length: float


@handler("order")
def order(ctx: JobContext, payload: Order) -> None: ...


@handler("picture")
def picture(ctx: JobContext, payload: Picture) -> None: ...


@handler("media")
def media(ctx: JobContext, payload: Picture | Sound) -> None: ...


@handler("number", queue="slow")
def number(ctx: JobContext, payload: int) -> None: ...


@handler("whatever")
def whatever(ctx: JobContext, payload: Any) -> None: ...


def registry() -> Registry:
    made = Registry()
    for function in (order, picture, media, number, whatever):
        made.add(function)
    return made


PARSER = FixingParser(registry(), ["default", "slow"], MAX_BODY)
ONE_QUEUE = FixingParser(registry(), ["default", "slow"][:1], MAX_BODY)

Read = Callable[[bytes], object]


def raw_fix(body: bytes, read: Read = PARSER.read) -> bytes | None:
    """The ``fix`` of a refusal, byte for byte; None if there is none, or nothing was refused."""
    try:
        read(body)
    except Problem as problem:
        fix = problem.extensions.get("fix")
        assert fix is None or isinstance(fix, msgspec.Raw)
        return None if fix is None else bytes(fix)
    return None


def fix(body: object, read: Read = PARSER.read) -> Any:
    """The ``fix`` of a refusal of ``body``; None if there is none."""
    with pytest.raises(Problem):
        read(json.dumps(body).encode())
    shown = raw_fix(json.dumps(body).encode(), read)
    return None if shown is None else json.loads(shown)


def payload_fix(job_type: str, payload: object) -> Any:
    """The payload of the ``fix`` of a submission."""
    shown = fix({"type": job_type, "payload": payload})
    return None if shown is None else shown["payload"]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"type": "whatver"}, {"type": "whatever"}),
        ({"type": "Whatever"}, {"type": "whatever"}),
        ({"typ": "whatever"}, {"type": "whatever"}),
        ({"type": "whatever", "queue": "slwo"}, {"type": "whatever", "queue": "slow"}),
        ({"type": "whatever", "queue": "SLOW"}, {"type": "whatever", "queue": "slow"}),
        ({"type": "whatever", "queue": None}, {"type": "whatever"}),
        ({"type": "whatever", "paylod": {"a": 1}}, {"type": "whatever", "payload": {"a": 1}}),
        ({"type": "whatever", "maxAttempts": 3}, {"type": "whatever", "max_attempts": 3}),
        (
            {"type": "whatever", "run-at": "2030-01-01T00:00:00Z"},
            {"type": "whatever", "run_at": "2030-01-01T00:00:00Z"},
        ),
        ({"type": "whatever", "priority": "5"}, {"type": "whatever", "priority": 5}),
        ({"type": "whatever", "priority": " -5 "}, {"type": "whatever", "priority": -5}),
        ({"type": "whatever", "priority": 5.0}, {"type": "whatever", "priority": 5}),
        ({"type": "whatever", "timeout": "1.5"}, {"type": "whatever", "timeout": 1.5}),
        ({"type": "whatever", "tags": "a"}, {"type": "whatever", "tags": ["a"]}),
        ({"type": "whatever", "tags": ["a", 5]}, {"type": "whatever", "tags": ["a", "5"]}),
        ({"type": "whatever", "tags": 5}, {"type": "whatever", "tags": ["5"]}),
        ({"type": "whatever", "backoff": {"Base": "1", "cap": None}}, {"type": "whatever", "backoff": {"base": 1}}),
        # More than one thing at a time, and the payload by the type that was meant.
        (
            {"type": "Order", "paylod": {"count": "2"}, "tags": "x", "priority": None},
            {"type": "order", "payload": {"count": 2}, "tags": ["x"]},
        ),
    ],
)
def test_what_was_meant_is_shown(wrong: object, right: object) -> None:
    assert fix(wrong) == right


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"count": "2"}, {"count": 2}),
        ({"counts": 2}, {"count": 2}),
        ({"ratio": "0.5"}, {"ratio": 0.5}),
        ({"express": "true"}, {"express": True}),
        ({"express": "False"}, {"express": False}),
        ({"express": None}, {}),
        ({"size": "LARGE"}, {"size": "large"}),
        ({"method": "get"}, {"method": "GET"}),
        ({"items": [{"name": 5, "Price": "1.5"}]}, {"items": [{"name": "5", "price": 1.5}]}),
        ({"items": {"name": "a", "price": 1}}, {"items": [{"name": "a", "price": 1}]}),
        ({"address": {"street": "x", "zipCode": 8001}}, {"address": {"street": "x", "zip_code": "8001"}}),
        ({"words": {"a": "b", "c": [1]}}, {"words": {"a": ["b"], "c": ["1"]}}),
        # A Decimal may be a text, so that one needs no correction.
        ({"total": "9.90", "count": "2"}, {"total": "9.90", "count": 2}),
    ],
)
def test_a_payload_is_corrected_by_what_its_handler_takes(wrong: object, right: object) -> None:
    assert payload_fix("order", wrong) == right


def test_a_bare_payload_is_corrected_too() -> None:
    assert payload_fix("number", "12") == 12


def test_a_payload_that_may_be_anything_stays_as_it_is() -> None:
    assert fix({"type": "whatever", "priority": "1", "payload": {"n": "1", "x": None}})["payload"] == {
        "n": "1",
        "x": None,
    }


@pytest.mark.parametrize(
    "submission",
    [
        {},
        [],
        "whatever",
        {"type": None},
        {"type": "nothing like it"},
        {"type": "whatever", "colour": "red"},
        {"type": "whatever", "queue": "elsewhere"},
        {"type": "whatever", "priority": "high"},
        {"type": "whatever", "priority": "101"},
        {"type": "whatever", "priority": "1.5"},
        {"type": "whatever", "priority": True},
        {"type": "whatever", "priority": "1e999999999"},
        {"type": "whatever", "priority": "9" * 5000},
        {"type": "whatever", "timeout": "1e400"},
        {"type": "whatever", "tags": [True]},
        {"type": "whatever", "tags": ""},
        {"type": "whatever", "run_at": "2030-01-01T00:00:00"},
        # One thing that can be mended does not help where another cannot.
        {"typ": "whatever", "colour": "red"},
        {"type": "order", "payload": {"count": "0"}},
        {"type": "order", "payload": {"items": [{"name": "a", "price": "1"}, {"name": "b"}]}},
        {"type": "order", "payload": {"express": "yes"}},
        {"type": "order", "payload": {"count": 1, "counts": 2}},
        {"type": "order", "payload": None},
        {"type": "picture", "payload": {"kimd": "picture"}},
        # Between two shapes nobody can tell.
        {"type": "media", "payload": {"kind": "picture", "width": "5"}},
    ],
)
def test_where_it_cannot_be_known_nothing_is_shown(submission: object) -> None:
    assert fix(submission) is None


def test_the_only_queue_that_there_is_was_meant() -> None:
    assert fix({"type": "whatever", "queue": "elsewhere"}, ONE_QUEUE.read)["queue"] == "default"


def test_a_name_whose_field_is_given_already_stays_unknown() -> None:
    assert fix({"type": "whatever", "payload": 1, "paylod": 2}) is None
    assert fix({"type": "whatever", "paylod": 1, "payloads": 2}) is None


def test_the_tag_of_a_payload_is_no_unknown_field() -> None:
    assert payload_fix("picture", {"kind": "picture", "width": "5"}) == {"kind": "picture", "width": 5}


def test_numbers_stay_as_they_were_written() -> None:
    body = b'{"type": "whatver", "payload": [1.50, 123456789012345678901234567890, 0.10000000000000000000001, -0.0]}'

    assert (
        raw_fix(body)
        == b'{"type":"whatever","payload":[1.50,123456789012345678901234567890,0.10000000000000000000001,-0.0]}'
    )


def test_a_number_that_cannot_stay_as_it_was_written_is_none_to_show() -> None:
    assert raw_fix(b'{"type": "whatver", "payload": 1e-999999}') is not None
    assert raw_fix(b'{"type": "whatver", "payload": 1e-99999999999999999999}') is None


def test_the_order_of_the_members_stays() -> None:
    assert list(fix({"tags": [], "paylod": {"b": 1, "a": 2}, "type": "whatever"})) == ["tags", "payload", "type"]


def test_a_batch_is_fixed_as_a_whole_or_not_at_all() -> None:
    good, slip, bad = {"type": "whatever"}, {"type": "number", "payload": "5"}, {"type": "nothing like it"}

    assert fix({"jobs": [good, slip]}, PARSER.read_batch) == {"jobs": [good, {"type": "number", "payload": 5}]}
    assert fix({"Jobs": slip}, PARSER.read_batch) == {"jobs": [{"type": "number", "payload": 5}]}
    assert fix({"jobs": [slip, bad]}, PARSER.read_batch) is None
    assert fix({"jobs": [slip] * 1001}, PARSER.read_batch) is None


def test_a_batch_with_more_errors_than_are_listed_is_fixed_to_its_end() -> None:
    jobs = [{"type": "whatever", "priority": "1"}] * 1000

    assert fix({"jobs": jobs}, PARSER.read_batch) == {"jobs": [{"type": "whatever", "priority": 1}] * 1000}


def test_a_batch_that_cannot_be_mended_is_given_up_at_its_first_such_job(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []

    def counted(name: str, choices: Iterable[str]) -> str | None:
        looked_up.append(name)
        return meant(name, choices)

    monkeypatch.setattr("app.fix.meant", counted)
    for wrong in ({"type": "nothing like it"}, {"type": "whatever", "queue": "elsewhere"}):
        looked_up.clear()
        assert fix({"jobs": [wrong] * 1000}, PARSER.read_batch) is None
        # Once by each of the two reads that fix makes.
        assert len(looked_up) == 2


def test_a_body_that_is_not_json_has_no_fix() -> None:
    assert raw_fix(b'{"type": "whatver"') is None
    assert raw_fix(b'{"type": "whatver", "type": "whatver"}') is None


def test_a_big_body_is_not_looked_at() -> None:
    def submission(size: int) -> dict[str, object]:
        return {"type": "whatver", "payload": "x" * (size - 40)}

    assert fix(submission(65_536))["type"] == "whatever"
    assert fix(submission(65_536 + 50)) is None


def test_a_fix_that_would_be_too_large_a_body_is_not_shown() -> None:
    body = b'{"type":"whatver"}'

    assert raw_fix(body, FixingParser(registry(), ["default"], len(body) + 1).read) == b'{"type":"whatever"}'
    assert raw_fix(body, FixingParser(registry(), ["default"], len(body)).read) is None


def test_what_is_shown_is_accepted_over_http_and_stands_last(service: Service) -> None:
    refusal = service.post("/jobs", {"type": "Typed", "paylod": {"rows": {"price": "1.5"}}})

    assert refusal.status == 422
    assert list(refusal.json) == ["type", "title", "status", "detail", "errors", "fix"]
    job = service.post("/jobs", refusal.json["fix"])
    assert job.status == 201
    assert service.finished(job.json["id"])["result"] == 1.5


def test_a_batch_that_is_shown_is_accepted_over_http(service: Service) -> None:
    refusal = service.post("/jobs/batch", {"jobs": [{"type": "ECHO"}, {"type": "echo", "tags": "a"}]})

    assert service.post("/jobs/batch", refusal.json["fix"]).status == 201


# Properties

NEAR_NAMES = ["type", "typ", "Type", "payload", "paylod", "queue", "Queue", "priority", "tags", "tag", "max_attempts"]
NEAR_NAMES += ["maxAttempts", "timeout", "run_at", "backoff", "colour", "jobs"]
NEAR_FIELDS = ["count", "Count", "ratio", "express", "size", "method", "items", "item", "address", "words", "kind"]
NEAR_FIELDS += ["name", "price", "prise", "note", "street", "zipCode", "width", "base", "cap", "factor"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-200, 200),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["5", " 5 ", "1.5", "1e3", "1e400", "true", "small", "get", "picture", "order", "Order", "", "x"]),
    st.sampled_from(["number", "numbr", "whatever", "default", "slow", "slwo", "2030-01-01T00:00:00Z"]),
    st.text(max_size=5),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NEAR_FIELDS), inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=8,
)
SUBMISSIONS = st.one_of(
    VALUES,
    st.dictionaries(st.sampled_from(NEAR_NAMES), VALUES, max_size=5),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["order", "Order", "oder", "picture", "media", "number", "whatever"])},
        optional={name: VALUES for name in NEAR_NAMES if name != "type"},
    ),
)


SMALL_TEXT = st.text(st.characters(categories=["L"]), min_size=1, max_size=5)
#: Names that are nobody's field: a slip in one of these could not be told.
FREE_NAMES = SMALL_TEXT.filter(lambda name: name not in [*NEAR_NAMES, *NEAR_FIELDS])
CORRECT = st.fixed_dictionaries(
    {
        "type": st.just("order"),
        "payload": st.fixed_dictionaries(
            {"count": st.integers(1, 100), "ratio": st.decimals(-9, 9, places=3).map(float), "express": st.booleans()},
            optional={
                "size": st.sampled_from(["small", "large"]),
                "words": st.dictionaries(FREE_NAMES, st.lists(SMALL_TEXT, min_size=1, max_size=1), max_size=2),
            },
        ),
    },
    optional={
        "priority": st.integers(-100, 100),
        "timeout": st.integers(1, 1000),
        "queue": st.sampled_from(["default", "slow"]),
        "tags": st.lists(SMALL_TEXT, min_size=1, max_size=1),
    },
)


Draw = Callable[[st.SearchStrategy[Any]], Any]


def slipped(value: Any, draw: Draw) -> Any:
    """``value`` with slips in it: numbers as text, fields in capitals, one for a list of one."""
    if isinstance(value, dict):
        return {_slipped_name(name, draw): slipped(item, draw) for name, item in value.items()}
    if isinstance(value, list):
        return slipped(value[0], draw) if draw(st.booleans()) else [slipped(item, draw) for item in value]
    if isinstance(value, bool):
        return draw(st.sampled_from([value, str(value), json.dumps(value)]))
    if isinstance(value, int | float):
        return draw(st.sampled_from([value, json.dumps(value), f" {value} "]))
    return value


def _slipped_name(name: str, draw: Draw) -> str:
    known = name in NEAR_NAMES or name in NEAR_FIELDS
    return draw(st.sampled_from([name, name.upper(), name + "s"])) if known and len(name) > 3 else name


@st.composite
def nearly_correct(draw: Draw) -> Any:
    """A submission with slips, and perhaps with something else in one place."""
    submission = slipped(draw(CORRECT), draw)
    if draw(st.booleans()):
        place = submission if draw(st.booleans()) else next(iter(submission.values()))
        if isinstance(place, dict):
            place[draw(st.sampled_from([*NEAR_NAMES, *NEAR_FIELDS]))] = draw(VALUES)
    return submission


ANY = nearly_correct() | SUBMISSIONS


def leaves(value: object) -> int:
    """How many values that hold no other there are."""
    if isinstance(value, dict):
        return sum(leaves(item) for item in value.values())
    if isinstance(value, list):
        return sum(leaves(item) for item in value)
    return 1


@given(ANY)
def test_whatever_is_shown_is_accepted_and_holds_no_more_than_was_sent(submission: object) -> None:
    shown = raw_fix(json.dumps(submission).encode())

    if shown is not None:
        PARSER.read(shown)
        assert leaves(json.loads(shown)) <= leaves(submission)


@given(st.lists(ANY, max_size=3) | ANY)
def test_whatever_is_shown_of_a_batch_is_accepted(jobs: object) -> None:
    shown = raw_fix(json.dumps({"jobs": jobs}).encode(), PARSER.read_batch)

    if shown is not None:
        PARSER.read_batch(shown)


@given(CORRECT, st.data())
def test_slips_are_undone(submission: Any, data: st.DataObject) -> None:
    body = json.dumps(slipped(submission, data.draw)).encode()
    shown = raw_fix(body)

    if shown is None:
        PARSER.read(body)  # there was no slip
    else:
        assert json.loads(shown, parse_float=Decimal) == json.loads(json.dumps(submission), parse_float=Decimal)
