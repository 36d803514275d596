"""Payloads to show to people, made from what a handler takes."""

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import UNSET, Raw, inspect

from app.alternatives import OPEN, RECORDS, SEQUENCES, alternatives
from worker.errors import InvalidPayload
from worker.registry import HandlerSpec

#: What JSON holds of types without limits of their own.
_TYPICAL = MappingProxyType(
    {
        inspect.NoneType: None,
        inspect.BoolType: True,
        inspect.BytesType: "Z29mZXI=",
        inspect.ByteArrayType: "Z29mZXI=",
        inspect.MemoryViewType: "Z29mZXI=",
        inspect.DateType: "2026-01-05",
        inspect.TimeDeltaType: "PT90S",
        inspect.UUIDType: "01a20c2a-c6f9-72bc-969e-ad5505ad248e",
        inspect.DecimalType: "9.90",
    }
)


@dataclass(frozen=True, slots=True)
class Example:
    """A payload for a type of job."""

    #: A value that JSON can hold; UNSET where none need be sent.
    payload: object
    #: Whether the handler takes it as it is; if not, it has places to fill in.
    is_complete: bool


def example(spec: HandlerSpec) -> Example:
    """The payload that its author gave as an example; else the smallest one that it takes."""
    if spec.example is UNSET and spec.payload_type is Any:
        return Example(UNSET, _is_taken(spec, None))
    payloads = list(_candidates(spec.payload_type)) if spec.example is UNSET else [spec.example]
    taken = next((payload for payload in payloads if _is_taken(spec, payload)), UNSET)
    return Example(payloads[0], is_complete=False) if taken is UNSET else Example(taken, is_complete=True)


def _is_taken(spec: HandlerSpec, payload: object) -> bool:
    try:
        spec.check_payload(Raw(msgspec.json.encode(payload)))
    except InvalidPayload:
        return False
    return True


def _candidates(payload_type: Any) -> Iterator[Any]:
    """Payloads from the smallest on: a handler may ask for more than its fields say."""
    wanted = inspect.type_info(payload_type)
    smallest = _typical(wanted, "payload")
    yield smallest
    record = next((member for member in alternatives(wanted) if isinstance(member, RECORDS)), None)
    if record is None or not isinstance(smallest, dict):
        return
    optional = {field.encode_name: field.type for field in record.fields if not field.required}
    added = {name: _typical(hint, name) for name, hint in optional.items()}
    for name, value in added.items():
        yield {**smallest, name: value}
    yield {**smallest, **added}


def _typical(wanted: inspect.Type, name: str, within: tuple[object, ...] = ()) -> Any:
    """A value of a type; ``name`` is that of the field that it is for.

    ``within``: the records that it is a part of. None of them is in it once more, if that can be avoided.
    """
    if isinstance(wanted, inspect.Metadata):
        examples = (wanted.extra_json_schema or {}).get("examples")
        return examples[0] if examples else _typical(wanted.type, name, within)
    if _goes_round(wanted, within):
        return None  # whatever it was, it would not come to an end
    if isinstance(wanted, inspect.UnionType):
        return _typical(next(member for member in wanted.types if not _goes_round(member, within)), name, within)
    if isinstance(wanted, RECORDS):
        return _record(wanted, within)
    if isinstance(wanted, inspect.DictType):
        return {} if _goes_round(wanted.value_type, within) else {"name": _typical(wanted.value_type, "name", within)}
    if isinstance(wanted, SEQUENCES):
        if _goes_round(wanted.item_type, within):
            return []
        return [_typical(wanted.item_type, name, within)] * (wanted.min_length or 1)
    if isinstance(wanted, inspect.TupleType):
        return [_typical(item, name, within) for item in wanted.item_types]
    return _scalar(wanted, name)


def _goes_round(wanted: inspect.Type, within: tuple[object, ...]) -> bool:
    """Whether nothing but one of the records ``within`` is of this type."""
    return all(isinstance(member, RECORDS) and member.cls in within for member in alternatives(wanted))


def _record(shape: Any, within: tuple[object, ...]) -> Any:
    if getattr(shape, "array_like", False):
        return None  # too rare a shape
    tag = {shape.tag_field: shape.tag} if getattr(shape, "tag_field", None) else {}
    return tag | {
        field.encode_name: _typical(field.type, field.encode_name, (*within, shape.cls))
        for field in shape.fields
        if field.required
    }


def _scalar(wanted: inspect.Type, name: str) -> Any:
    if isinstance(wanted, inspect.StrType):
        return _text(wanted, name)
    if isinstance(wanted, inspect.IntType | inspect.FloatType):
        return _number(wanted)
    if isinstance(wanted, inspect.EnumType):
        return next(iter(wanted.cls)).value
    if isinstance(wanted, inspect.LiteralType):
        return min((choice for choice in wanted.values if choice is not None), key=str, default=None)
    if isinstance(wanted, inspect.DateTimeType):
        return "2026-01-05T10:00:00" + ("" if wanted.tz is False else "Z")
    if isinstance(wanted, inspect.TimeType):
        return "10:00:00" + ("" if wanted.tz is False else "Z")
    return "anything" if isinstance(wanted, OPEN) else _TYPICAL.get(type(wanted))


def _text(wanted: inspect.StrType, name: str) -> str:
    """A word; where only some words will do, a place for one, which says which."""
    if wanted.pattern is not None:
        return f"<{name}: {wanted.pattern}>"
    return "text".ljust(wanted.min_length or 0, "-")[: wanted.max_length]


def _number(wanted: inspect.IntType | inspect.FloatType) -> float:
    """1, or of the numbers at the limits the closest to it that they allow."""
    limits = [limit for limit in (wanted.ge, wanted.gt, wanted.le, wanted.lt) if limit is not None]
    numbers = [1, *(limit + step for step in (0, 1, -1) for limit in limits)]
    if limits:
        numbers.append(sum(limits) / len(limits))
    if wanted.multiple_of:
        numbers += [wanted.multiple_of * math.ceil(number / wanted.multiple_of) for number in numbers]
    allowed = [number for number in numbers if _is_allowed(number, wanted)]
    return min(allowed, key=lambda number: abs(number - 1), default=1)


def _is_allowed(number: float, wanted: inspect.IntType | inspect.FloatType) -> bool:
    rules = ((wanted.ge, operator.ge), (wanted.gt, operator.gt), (wanted.le, operator.le), (wanted.lt, operator.lt))
    return (
        all(limit is None or holds(number, limit) for limit, holds in rules)
        and (wanted.multiple_of is None or number % wanted.multiple_of == 0)
        and (isinstance(number, int) or isinstance(wanted, inspect.FloatType))
    )
