"""SQL by name: each dialect's statements stand in ``sql/<dialect>/queries.sql``."""

import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)


def load_queries(dialect: str) -> Mapping[str, str]:
    """The statements of a dialect by name, without comments and the semicolon at the end."""
    text = resources.files("store").joinpath("sql", dialect, "queries.sql").read_text("utf-8")
    _, *parts = _NAME.split(text)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return MappingProxyType({name: _COMMENT.sub("", sql).strip().removesuffix(";") for name, sql in pairs})


def load_migrations(dialect: str) -> list[str]:
    """The schema's scripts in the order of their numbers; the n-th leads to version n."""
    folder = resources.files("store").joinpath("sql", dialect)
    scripts = sorted(entry.name for entry in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", entry.name))
    return [folder.joinpath(name).read_text("utf-8") for name in scripts]
