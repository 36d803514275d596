"""Arguments with placeholders: ``--size={size}``."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

#: The name of a parameter.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
#: ``{{name}}``, which stands for ``{name}``, or ``{name}``; whatever else has braces is text.
_PLACEHOLDER = re.compile(rf"\{{\{{({NAME.pattern})\}}\}}|\{{({NAME.pattern})\}}")


@dataclass(frozen=True, slots=True)
class Template:
    """One argument of a command. However it is filled, it stays one argument."""

    #: Literal texts and names of parameters in turn, beginning and ending with a text.
    _parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Every text is a template."""
        parts = [""]
        end = 0
        for match in _PLACEHOLDER.finditer(text):
            parts[-1] += text[end : match.start()]
            end = match.end()
            if match[1]:
                parts[-1] += f"{{{match[1]}}}"
            else:
                parts += [match[2], ""]
        parts[-1] += text[end:]
        return cls(tuple(parts))

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that it takes, in order."""
        return self._parts[1::2]

    def fill(self, values: Mapping[str, str]) -> str:
        """The argument. Values are put in as they are, braces and all."""
        return "".join(values[part] if place % 2 else part for place, part in enumerate(self._parts))

    def first(self, empty: Collection[str]) -> str | None:
        """The parameter that the argument begins with if those of ``empty`` are; None: with a text of ours, or not."""
        return next((name for name in self._leading() if name not in empty), None)

    def _leading(self) -> Iterator[str]:
        """The parameters that no text of ours stands before."""
        for place, part in enumerate(self._parts):
            if place % 2:
                yield part
            elif part:
                return
