"""What the operator declares about a command: everything but the values of its parameters."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from store.job import Backoff
from worker.commands.template import Template

#: How much of a wrong value a message repeats, in characters.
_SHOWN = 100


class StdIn(StrEnum):
    """What a command reads from its standard input."""

    #: Nothing: it is at its end at once.
    NONE = "none"
    #: The job's payload, as JSON.
    PAYLOAD = "payload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One value that a request gives, and what it may be."""

    name: str
    #: Matches the whole value.
    pattern: re.Pattern[str]
    #: What is taken where the request gives nothing; None: it must give something.
    default: str | None = None
    #: Whether an argument may begin with a dash because the value does, and so be taken for an option.
    leading_dash: bool = False
    #: Characters.
    max_length: int = 1000
    description: str = ""

    def check(self, value: object) -> str:
        """The value as text. Raises ValueError, with a message for people."""
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise ValueError(f"{self._rule} as a string or a whole number")
        text = str(value)
        if len(text) > self.max_length:
            raise ValueError(f"must have at most {self.max_length} characters, not {len(text)}")
        if "\0" in text:
            raise ValueError("must not contain NUL")
        if not self.pattern.fullmatch(text):
            shown = repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}…"
            raise ValueError(f"{self._rule} in full, not {shown}{self._hint}")
        return text

    @property
    def missing(self) -> str:
        """What to say where a request does not give it and must."""
        return f"is missing; it {self._rule}"

    @property
    def dashed(self) -> str:
        """What to say of a value that would make its argument look like an option."""
        return f"must not begin with a dash{self._hint}"

    @property
    def _rule(self) -> str:
        return f"must match {self.pattern.pattern}"

    @property
    def _hint(self) -> str:
        return "" if self.default is None else f" (without it: {self.default!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one process of a command may use of the machine, through setrlimit(2); None is no limit."""

    #: Bytes of address space.
    memory: int | None = None
    #: Seconds of the processor.
    cpu: int | None = None
    #: Open files.
    open_files: int | None = None

    def __bool__(self) -> bool:
        """Whether there is any."""
        return (self.memory, self.cpu, self.open_files) != (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A declared command, checked."""

    #: The type of its jobs.
    name: str
    #: The program and its arguments; the first takes no parameter.
    argv: tuple[Template, ...]
    #: The absolute path of the program.
    program: str
    #: One line for people.
    description: str = ""
    #: The whole environment, but for what tells of the job.
    environment: Mapping[str, str]
    #: The directory that it runs in; None for the service's.
    cwd: str | None = None
    stdin: StdIn = StdIn.NONE
    params: Mapping[str, Param] = field(default_factory=dict)
    #: Defaults for its jobs; None leaves them to the service.
    queue: str | None = None
    max_attempts: int | None = None
    timeout: float | None = None
    backoff: Backoff | None = None
    #: Seconds from SIGTERM to SIGKILL.
    grace: float = 5.0
    #: Bytes of standard output that are kept.
    max_output: int = 262_144
    limits: Limits = Limits()

    def dashed(self, values: Mapping[str, str]) -> list[str]:
        """The parameters whose values would make an argument begin with a dash, and may not."""
        empty = {name for name, value in values.items() if not value}
        firsts = (template.first(empty) for template in self.argv)
        return [
            name
            for name in dict.fromkeys(firsts)
            if name is not None and values[name].startswith("-") and not self.params[name].leading_dash
        ]
