"""The payloads that people are shown are payloads that handlers take."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict
from uuid import UUID

import msgspec
import pytest
from msgspec import UNSET, Meta

from app.payload_example import Example, example
from worker import JobContext, handler
from worker.registry import HandlerSpec, PayloadDecoder, Registry


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(msgspec.Struct, forbid_unknown_fields=True):
    x: int
    y: float
    label: str = "origin"


class Named(msgspec.Struct, rename="camel", tag_field="kind", tag="named"):
    full_name: str


class Old(TypedDict):
    size: int


class Pair(NamedTuple):
    one: int
    other: str


@dataclass
class Plain:
    when: datetime
    colour: Colour = Colour.RED


class Tree(msgspec.Struct):
    children: list["Tree"]
    left: Optional["Tree"]
    names: dict[str, "Tree"]


class Sum(msgspec.Struct, tag=True):
    left: "Sum | Number"
    right: "Sum | Number"


class Number(msgspec.Struct, tag=True):
    value: int


class Either(msgspec.Struct, tag=True):
    one: "Either | Number | Sum"
    other: "Either | Number | Sum"
    third: "Either | Number | Sum"


class Endless(msgspec.Struct):
    next: "Endless"


class EitherOr(msgspec.Struct, forbid_unknown_fields=True):
    column: str
    csv: str | None = None
    path: str | None = None

    def __post_init__(self) -> None:
        if (self.csv is None) == (self.path is None):
            raise ValueError("give either csv or path")


class Together(msgspec.Struct, forbid_unknown_fields=True):
    low: int | None = None
    high: int | None = None

    def __post_init__(self) -> None:
        if self.low is None or self.high is None:
            raise ValueError("give both")


def spec(payload_type: Any, **more: Any) -> HandlerSpec:
    """A type of job with such a payload."""
    decode = PayloadDecoder(payload_type)
    return HandlerSpec(
        type="t",
        function=lambda ctx, payload: None,
        decode=decode,
        takes_anything=payload_type is Any,
        payload_type=payload_type,
        **more,
    )


@pytest.mark.parametrize(
    ("payload_type", "payload"),
    [
        (int, 1),
        (float, 1),
        (bool, True),
        (str, "text"),
        (None, None),
        (Annotated[int, Meta(ge=5)], 5),
        (Annotated[int, Meta(gt=5)], 6),
        (Annotated[int, Meta(lt=-5)], -6),
        (Annotated[int, Meta(ge=-3, le=0)], 0),
        (Annotated[int, Meta(ge=7, le=20, multiple_of=5)], 10),
        (Annotated[float, Meta(gt=0, lt=1)], 0.5),
        (Annotated[str, Meta(min_length=6)], "text--"),
        (Annotated[str, Meta(max_length=2)], "te"),
        (Annotated[str, Meta(examples=["a.png"], pattern=r"\.png$")], "a.png"),
        (Annotated[list[int], Meta(min_length=2)], [1, 1]),
        (list[str], ["text"]),
        (tuple[int, str], [1, "text"]),
        (dict[str, int], {"name": 1}),
        (Colour, "red"),
        (Literal["b", "a"], "a"),
        (int | None, 1),
        (Point, {"x": 1, "y": 1}),
        (Point | float, {"x": 1, "y": 1}),
        (Named, {"kind": "named", "fullName": "text"}),
        (Old, {"size": 1}),
        (Plain, {"when": "2026-01-05T10:00:00Z"}),
        (EitherOr, {"column": "text", "csv": "text"}),
        (Together, {"low": 1, "high": 1}),
    ],
)
def test_the_smallest_payload_that_the_handler_takes_is_shown(payload_type: Any, payload: object) -> None:
    assert example(spec(payload_type)) == Example(payload, is_complete=True)


@pytest.mark.parametrize(
    "payload_type",
    [
        date,
        time,
        timedelta,
        UUID,
        Decimal,
        bytes,
        Annotated[datetime, Meta(tz=False)],
        Annotated[datetime, Meta(tz=True)],
        Annotated[time, Meta(tz=True)],
        set[int],
        dict[str, Any],
        list[Point],
        Tree,
        Number,
    ],
)
def test_what_is_shown_of_any_type_is_taken(payload_type: Any) -> None:
    assert example(spec(payload_type)).is_complete


def test_of_types_that_hold_themselves_the_smallest_is_shown() -> None:
    number = {"type": "Number", "value": 1}

    assert example(spec(Sum)).payload == {"type": "Sum", "left": number, "right": number}
    assert example(spec(Tree)).payload == {"children": [], "left": None, "names": {}}
    assert example(spec(Either)).payload == {"type": "Either", "one": number, "other": number, "third": number}


def test_a_type_that_nothing_but_itself_makes_is_shown_as_one_to_mend() -> None:
    assert not example(spec(Endless)).is_complete


def test_words_of_which_only_some_will_do_leave_a_place_to_fill_in() -> None:
    class Resize(msgspec.Struct):
        size: Annotated[str, Meta(pattern=r"^\d{1,4}x\d{1,4}$")]

    assert example(spec(Resize)) == Example({"size": r"<size: ^\d{1,4}x\d{1,4}$>"}, is_complete=False)


def test_a_payload_that_may_be_anything_is_left_out() -> None:
    assert example(spec(Any)) == Example(UNSET, is_complete=True)


def test_a_handler_that_tells_nothing_of_what_it_takes_is_shown_without() -> None:
    quiet = HandlerSpec(type="t", function=lambda ctx, payload: None, decode=PayloadDecoder(Point))

    assert example(quiet) == Example(UNSET, is_complete=False)


def test_an_example_of_the_author_comes_first() -> None:
    assert example(spec(Any, example={"a": 1})) == Example({"a": 1}, is_complete=True)
    assert example(spec(Point, example={"x": 2, "y": 3})) == Example({"x": 2, "y": 3}, is_complete=True)


def test_the_built_in_types_have_their_examples() -> None:
    types = Registry()

    assert example(types.get("echo")) == Example({"hello": "world"}, is_complete=True)
    assert example(types.get("sleep")) == Example({"seconds": 1}, is_complete=True)


def test_an_example_that_is_refused_is_shown_as_one_to_mend() -> None:
    assert example(spec(Point, example={"x": "<here>"})) == Example({"x": "<here>"}, is_complete=False)


def test_an_example_that_json_cannot_hold_is_refused_where_it_is_written() -> None:
    mark: Callable[..., object] = handler("t", example={"a": 1})
    assert mark

    with pytest.raises(TypeError):

        @handler("t", example=object())
        def function(ctx: JobContext, payload: Any) -> None: ...
