"""What a value was most likely meant to be, seen from the type that it should have had.

A number that was sent as text, a name with a slip in it, a null where nothing was meant. These are
guesses: whoever shows one asks first whether it would be accepted.
"""

import re
from collections.abc import Container, Sequence
from decimal import Decimal
from typing import Any

from msgspec import inspect

from app.alternatives import OPEN, RECORDS, SEQUENCES, alternatives, takes_null
from app.spelling import meant

#: What JSON may write as a string, of any content or of one that no slip of a letter leads to.
_TEXTS = (
    inspect.StrType,
    inspect.BytesType,
    inspect.ByteArrayType,
    inspect.MemoryViewType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.TimeType,
    inspect.TimeDeltaType,
    inspect.UUIDType,
    inspect.DecimalType,
)
_FRACTIONS = (inspect.FloatType, inspect.DecimalType)

#: RFC 8259, section 6: the whole part, the fraction, the exponent.
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][+-]?[0-9]+)?")
#: Nobody means a number that is longer, in characters.
_LONGEST_NUMBER = 40
#: No whole number of 64 bits has more digits.
_MOST_DIGITS = 20


class Incorrigible(Exception):
    """There is something in the value that nobody can tell the meaning of, and that is refused for sure."""


def corrected(value: Any, wanted: inspect.Type) -> Any:
    """``value`` as it was most likely meant where a ``wanted`` belongs; as it is where nobody can tell.

    ``value`` comes from JSON, with a Decimal for each number that has a fraction or an exponent, so
    that what need not be corrected stays exactly as it was sent.

    Raises Incorrigible for an unknown name where none is taken, so that a flood of them costs nothing.
    """
    members = [member for member in alternatives(wanted) if not isinstance(member, inspect.NoneType)]
    if value is None or _has(members, OPEN):
        return value
    sequence = _only(members, SEQUENCES)
    if isinstance(value, list):
        return [corrected(item, sequence.item_type) for item in value] if sequence else value
    if sequence and len(members) == 1:
        return [corrected(value, sequence.item_type)]  # one, where a list of them belongs
    if isinstance(value, dict):
        return _corrected_object(value, members)
    if isinstance(value, str):
        return _corrected_text(value, members)
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return _corrected_number(value, members)
    return value


def _has(members: Sequence[inspect.Type], kinds: tuple[type, ...]) -> bool:
    return any(isinstance(member, kinds) for member in members)


def _only(members: Sequence[inspect.Type], kinds: tuple[type, ...]) -> Any:
    """The member of one of these kinds; None if there is none, or more than one to choose from."""
    found = [member for member in members if isinstance(member, kinds)]
    return found[0] if len(found) == 1 else None


def _corrected_object(value: dict[str, Any], members: Sequence[inspect.Type]) -> dict[str, Any]:
    shape = _only(members, (*RECORDS, inspect.DictType))
    if shape is None:
        return value
    if isinstance(shape, inspect.DictType):
        return {name: corrected(item, shape.value_type) for name, item in value.items()}
    fields = {field.encode_name: field for field in shape.fields}
    result: dict[str, Any] = {}
    for given, item in value.items():
        name = given if given in fields else _meant_field(given, shape, value, result)
        field = fields.get(name)
        if field is None:
            result[name] = item
        elif item is not None or field.required or takes_null(field.type):
            result[name] = corrected(item, field.type)
    return result


def _meant_field(name: str, shape: Any, *given: Container[str]) -> str:
    """The field that an unknown ``name`` was meant to be, none of those ``given``; else the name itself."""
    if name == getattr(shape, "tag_field", None):
        return name
    # Where unknown names are passed over, one is a slip only if something is missing instead.
    is_refused = getattr(shape, "forbid_unknown_fields", False)
    names = [field.encode_name for field in shape.fields if is_refused or field.required]
    known = meant(name, [field for field in names if not any(field in others for others in given)])
    if known is None and is_refused:
        raise Incorrigible
    return known or name


def _corrected_text(value: str, members: Sequence[inspect.Type]) -> object:
    if choices := [choice for member in members for choice in _choices(member)]:
        return value if value in choices else meant(value, choices) or value
    if _has(members, _TEXTS):
        return value
    text = value.strip()
    if _has(members, (inspect.IntType, *_FRACTIONS)):
        number = _NUMBER.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
        if number:
            is_whole = not (number[2] or number[3])
            return _corrected_number(int(text) if is_whole else Decimal(text), members)
    if _has(members, (inspect.BoolType,)):
        return {"true": True, "false": False}.get(text.lower(), value)
    return value


def _choices(member: inspect.Type) -> list[str]:
    """The strings that a type enumerates."""
    if isinstance(member, inspect.LiteralType):
        return [choice for choice in member.values if isinstance(choice, str)]
    if isinstance(member, inspect.EnumType):
        return [choice.value for choice in member.cls if isinstance(choice.value, str)]
    return []


def _corrected_number(value: int | Decimal, members: Sequence[inspect.Type]) -> object:
    if _has(members, _FRACTIONS):
        return value
    if _has(members, (inspect.IntType,)) and _is_whole(value):
        return int(value)
    return str(value) if _has(members, (inspect.StrType,)) else value


def _is_whole(value: int | Decimal) -> bool:
    """Whether there is nothing after the point; of 1e999999 nobody wants to know the digits."""
    return isinstance(value, int) or (value.adjusted() < _MOST_DIGITS and value == value.to_integral_value())
