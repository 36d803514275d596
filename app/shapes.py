"""What is wrong with a value that does not have its shape: everything, not only the first thing.

A shape is a ``msgspec.Struct`` whose fields carry their limits in ``msgspec.Meta``;
the Meta's ``description`` says them in words, as in "a whole number from 1 to 100".
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

import msgspec

from app.errors import FieldError, shown
from app.spelling import meant


def mismatches(shape: type[msgspec.Struct], value: object, path: str = "") -> Iterator[FieldError]:
    """Every reason why ``value``, decoded from JSON, is not a ``shape``. ``path`` is where it stands."""
    if not isinstance(value, dict):
        yield FieldError(path, f"must be an object, not {shown(value)}")
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    prefix = f"{path}." if path else ""
    for name in value:
        if name not in fields:
            yield FieldError(prefix + name, unknown(name, "field", fields))
    for name, field in fields.items():
        if name in value:
            yield from _field_mismatches(field.type, value[name], prefix + name)
        elif field.required:
            yield FieldError(prefix + name, f"is missing; it must be {description(field.type)}")


def unknown(name: str, noun: str, allowed: Iterable[str]) -> str:
    """The message for a name that is not allowed, with the closest one that is."""
    choices = sorted(allowed)
    if not choices:
        return f"unknown {noun}; none is allowed here"
    slip = meant(name[:100], choices)
    close = [slip] if slip else difflib.get_close_matches(name[:100], choices, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown {noun}{hint}; allowed are: {', '.join(choices)}"


def description(hint: Any) -> str:
    """In words, what a field of this type may hold."""
    metas = [meta for part in _parts(hint) if get_origin(part) is Annotated for meta in part.__metadata__]
    return next((meta.description for meta in metas if meta.description), "something else")


def base_type(hint: Any) -> Any:
    """The type that a field's annotation limits: ``int`` of ``Annotated[int, …] | None``."""
    return next((get_args(part)[0] for part in _parts(hint) if get_origin(part) is Annotated), hint)


def nested_shape(hint: Any) -> type[msgspec.Struct] | None:
    """The Struct that a field holds, if it holds one."""
    base = base_type(hint)
    return base if isinstance(base, type) and issubclass(base, msgspec.Struct) else None


def _field_mismatches(hint: Any, value: object, path: str) -> Iterator[FieldError]:
    if hint is msgspec.Raw:
        return
    nested = nested_shape(hint)
    if nested is not None and isinstance(value, Mapping):
        yield from mismatches(nested, value, path)
        return
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        # msgspec names the place inside the value: "… - at `$[2]`".
        _, _, inner = str(error).partition(" - at `$")
        yield FieldError(path + inner.rstrip("`"), f"must be {description(hint)}, not {shown(value)}")


def _parts(hint: Any) -> tuple[Any, ...]:
    """The members of a union; of anything else, itself."""
    return (hint,) if get_origin(hint) is Annotated else get_args(hint) or (hint,)
