"""Query strings, as strict as bodies: known names, once each, with values that have the right shape."""

from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from flask import request

from app.errors import FieldError, Problem, shown
from app.shapes import base_type, description, unknown

Shape = TypeVar("Shape", bound=msgspec.Struct)

#: A parameter that is on or off.
Flag = Annotated[bool, msgspec.Meta(description="1 or true, 0 or false")]

#: More parameters than any call knows; the rest of such a query string is not even read.
_MAX_PARAMETERS = 50


def parse(shape: type[Shape]) -> Shape:
    """The current request's query string as a ``shape``, whose fields are the parameters that are allowed.

    Each has a default. Raises Problem, ``bad_query``.
    """
    query: str = request.environ.get("QUERY_STRING", "")
    if not query:
        return shape()
    pairs = _pairs(query)
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    values: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, text in pairs:
        if name not in fields:
            errors.append(FieldError(name, unknown(name, "query parameter", fields)))
        elif name in values:
            errors.append(FieldError(name, "is given twice"))
        else:
            try:
                values[name] = _convert(text, fields[name].type)
            except msgspec.ValidationError:
                errors.append(FieldError(name, f"must be {description(fields[name].type)}, not {shown(text)}"))
    if errors:
        raise Problem.of_fields("bad_query", errors)
    return shape(**values)


class Nothing(msgspec.Struct, frozen=True):
    """The shape of the query string of a call that takes no parameters."""


def require_empty() -> None:
    """Raise Problem, ``bad_query``, if the current request has any query parameter."""
    if request.environ.get("QUERY_STRING"):
        parse(Nothing)


def _convert(text: str, hint: Any) -> Any:
    # Not strict for these alone: a time must not be taken for a number of seconds.
    value = msgspec.convert(text, hint, strict=base_type(hint) not in (int, float, bool))
    if value is None:  # of the text "null", where nothing at all may be given
        raise msgspec.ValidationError
    return value


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        # WSGI hands bytes over as Latin-1 (PEP 3333).
        text = query.encode("latin-1").decode()
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
    except UnicodeError:
        raise Problem("bad_query", "the query string is not UTF-8") from None
    except ValueError:
        raise Problem("bad_query", f"the query string has more than {_MAX_PARAMETERS} parameters") from None
