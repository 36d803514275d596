"""From a job's payload to the values of a command's parameters."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from worker.commands.declaration import Command, Param, StdIn
from worker.errors import InvalidPayload


@dataclass(frozen=True, slots=True)
class Call:
    """A checked payload."""

    #: Every parameter's value.
    values: Mapping[str, str]
    #: The payload as it came: JSON.
    payload: bytes


class PayloadReader:
    """Checks payloads against the parameters of one command. Safe to use from any thread."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._params = command.params
        self._takes_more = command.stdin is StdIn.PAYLOAD

    @property
    def takes_anything(self) -> bool:
        """Whether no payload is ever refused."""
        return self._takes_more and not self._params

    @property
    def example(self) -> dict[str, str]:
        """A payload to show: defaults, and what has none as ``<pattern>``, for people to fill in."""
        return {
            name: f"<{param.pattern.pattern}>" if param.default is None else param.default
            for name, param in self._params.items()
        }

    @property
    def payload_type(self) -> Any:
        """The names of a payload's fields, as an annotation; what their values must match, only the check tells."""
        if self.takes_anything:
            return Any
        # Fields of such a type cannot be called like every parameter, so they have numbers behind the names.
        names = {f"p{number}": name for number, name in enumerate(self._params)}
        fields = [
            (field, str | int) if self._params[name].default is None else (field, str | int, "")
            for field, name in names.items()
        ]
        is_closed = not self._takes_more
        return msgspec.defstruct("Params", fields, rename=names, kw_only=True, forbid_unknown_fields=is_closed)

    def __call__(self, raw: msgspec.Raw) -> Call:
        """The call that a payload asks for. Raises InvalidPayload with all that is wrong."""
        payload = bytes(raw)
        if self.takes_anything:
            return Call({}, payload)
        given = self._object(payload)
        errors = [] if self._takes_more else self._unknown(given)
        values: dict[str, str] = {}
        for name, param in self._params.items():
            try:
                values[name] = _value(param, given)
            except ValueError as error:
                errors.append((f"payload.{name}", str(error)))
        if not errors:
            errors = [(f"payload.{name}", self._params[name].dashed) for name in self._command.dashed(values)]
        if errors:
            raise InvalidPayload(errors)
        return Call(values, payload)

    def _object(self, payload: bytes) -> dict[str, Any]:
        try:
            given = msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidPayload([("payload", str(error))]) from error
        if given is None:  # A submission without a payload: what is missing is told by name.
            return {}
        if not isinstance(given, dict):
            raise InvalidPayload([("payload", f"must be an object of {self._names}")])
        return given

    def _unknown(self, given: Mapping[str, object]) -> list[tuple[str, str]]:
        errors = []
        for name in given:
            if name not in self._params:
                close = difflib.get_close_matches(name[:100], self._params, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                errors.append((f"payload.{name}", f"unknown field{hint}; allowed are: {self._names}"))
        return errors

    @property
    def _names(self) -> str:
        return ", ".join(self._params) or "none"


def _value(param: Param, given: Mapping[str, object]) -> str:
    if param.name in given:
        return param.check(given[param.name])
    if param.default is None:
        raise ValueError(param.missing)
    return param.default
