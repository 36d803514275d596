"""Scopes: what the holder of a key may do."""

from collections.abc import Collection, Iterable

from worker.registry import NAME_PATTERN

#: Look at jobs, their logs and results, queues and numbers.
READ = "read"
#: Submit jobs of any type; ``submit:TYPE`` is the same for one type.
SUBMIT = "submit"
#: Cancel, retry and delete jobs, pause and resume queues.
MANAGE = "manage"

#: Every scope, as a message lists them.
ALL = (READ, SUBMIT, MANAGE)

_TYPED = SUBMIT + ":"


def parse(names: Iterable[str]) -> frozenset[str]:
    """The scopes, checked. Raises ValueError, which says what is wrong and what is allowed."""
    given = list(names)
    if not given:
        raise ValueError(f"at least one scope is needed: {_allowed()}")
    for name in given:
        is_typed = name.startswith(_TYPED) and NAME_PATTERN.fullmatch(name.removeprefix(_TYPED))
        if name not in ALL and not is_typed:
            raise ValueError(f"{name[:100]!r} is no scope; there are {_allowed()}")
    return frozenset(given)


def may_submit_something(scopes: Collection[str]) -> bool:
    """Whether there is any type of job that may be submitted."""
    return SUBMIT in scopes or any(scope.startswith(_TYPED) for scope in scopes)


def missing_to_submit(scopes: Collection[str], types: Iterable[str]) -> list[str]:
    """The scopes that lack to submit jobs of these types, each once."""
    if SUBMIT in scopes:
        return []
    return [scope for scope in dict.fromkeys(_TYPED + job_type for job_type in types) if scope not in scopes]


def _allowed() -> str:
    return f"{', '.join(ALL)}, and {_TYPED}TYPE for one type of job"
