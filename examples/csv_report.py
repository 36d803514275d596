"""A handler that summarises a CSV file: count, sum, mean, smallest and greatest value of a column, by group.

Serve it with ``GOFER_HANDLERS=examples.csv_report`` (or the path of this file)
and submit, for instance::

    {"type": "csv_report", "payload": {"path": "orders.csv", "column": "amount", "group_by": "region"}}

or send the rows along in ``csv`` instead of ``path``. Files are read below
``CSV_REPORT_DIR``, by default the ``data`` directory beside this file.
"""

import csv
import io
import math
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec

from worker import Fail, JobContext, handler

#: Rows between two looks at whether the job is to stop, and two reports of progress.
_STEP = 100
#: Groups that a report may have; a column of unique values makes a bad grouping.
_MAX_GROUPS = 1_000


class CsvReport(msgspec.Struct, forbid_unknown_fields=True):
    """What to report on; checked when the job is submitted."""

    #: Header of the column of numbers.
    column: str
    #: The rows themselves, the header first. Either this or ``path``.
    csv: str | None = None
    #: A file, relative to the directory that the operator allows.
    path: str | None = None
    #: Header of the column whose values form the groups.
    group_by: str | None = None

    def __post_init__(self) -> None:
        if (self.csv is None) == (self.path is None):
            raise ValueError("give either csv or path")
        if self.path is not None:
            _check_path(self.path)


class Summary:
    """Numbers seen so far, in no more memory than one number takes."""

    def __init__(self) -> None:
        self.count = 0
        # Decimal, because 0.1 + 0.2 of someone's money is 0.3.
        self._sum = Decimal(0)
        self._min = Decimal("Infinity")
        self._max = Decimal("-Infinity")

    def add(self, number: Decimal) -> None:
        """Take one more number in."""
        self.count += 1
        self._sum += number
        self._min = min(self._min, number)
        self._max = max(self._max, number)

    def as_json(self) -> dict[str, float | None]:
        """Count, sum, mean, min and max; None for those that no number has."""
        if not self.count:
            return {"count": 0, "sum": 0.0, "mean": None, "min": None, "max": None}
        return {
            "count": self.count,
            "sum": float(self._sum),
            "mean": float(self._sum / self.count),
            "min": float(self._min),
            "max": float(self._max),
        }


class Source:
    """A CSV text that is read line by line and knows how far it has been read."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size
        self._read = 0
        # Strict: a stray quote is an error instead of a guess.
        self._reader = csv.reader(self._lines(), strict=True)
        self.columns = next(self.rows(), [])

    @property
    def fraction(self) -> float:
        """How much of the text has been read, 0 to 1."""
        return min(1.0, self._read / self._size) if self._size else 1.0

    @property
    def line(self) -> int:
        """The line that was read last, counted from 1."""
        return self._reader.line_num

    def rows(self) -> Iterator[list[str]]:
        """The rows that are left, without blank lines. Raises Fail when the text is no CSV in UTF-8."""
        try:
            for row in self._reader:
                if row:
                    yield row
        except UnicodeDecodeError as error:
            raise Fail(f"line {self.line + 1} is not UTF-8") from error
        except csv.Error as error:
            raise Fail(f"line {self.line} is not valid CSV: {error}") from error

    def index(self, column: str) -> int:
        """The position of a column. Raises Fail when there is no such column."""
        if column not in self.columns:
            raise Fail(f"there is no column {column!r}; the columns are {', '.join(self.columns) or 'none'}")
        return self.columns.index(column)

    def _lines(self) -> Iterator[str]:
        encoding = "utf-8-sig"  # Spreadsheets begin their files with a byte order mark.
        for line in self._stream:
            self._read += len(line)
            yield line.decode(encoding)
            encoding = "utf-8"


@handler(
    "csv_report",
    timeout=600,
    example={"path": "orders.csv", "column": "amount", "group_by": "region"},
)
def csv_report(ctx: JobContext, payload: CsvReport) -> dict[str, object]:
    """Summarise one column of a CSV text."""
    with _open(payload) as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        ctx.log(f"reading {payload.path or 'the rows of the payload'}, {size:,} bytes")
        return _report(ctx, payload, Source(stream, size))


def _report(ctx: JobContext, payload: CsvReport, source: Source) -> dict[str, object]:
    value_at = source.index(payload.column)
    group_at = None if payload.group_by is None else source.index(payload.group_by)
    total, groups, empty = Summary(), dict[str, Summary](), 0
    for row in _watched(ctx, source):
        number = _number(row, value_at, source)
        if number is None:
            empty += 1
            continue
        total.add(number)
        if group_at is not None:
            _group(groups, row[group_at]).add(number)
    if empty:
        ctx.log(f"{empty:,} rows have no {payload.column} and are left out", level="warning")
    return {
        "rows": total.count + empty,
        "columns": source.columns,
        "empty": empty,
        "total": total.as_json(),
        "groups": {name: groups[name].as_json() for name in sorted(groups)},
    }


def _watched(ctx: JobContext, source: Source) -> Iterator[list[str]]:
    """The rows, with a report of progress and a look at whether the job is to stop every so often."""
    for number, row in enumerate(source.rows(), 1):
        if number % _STEP == 0:
            ctx.sleep(0)  # Ends the job here when it has been told to stop.
            ctx.progress(source.fraction, f"{number:,} rows")
        yield row


def _open(payload: CsvReport) -> BinaryIO:
    if payload.path is None:
        return io.BytesIO((payload.csv or "").encode())
    root = Path(os.environ.get("CSV_REPORT_DIR", Path(__file__).parent / "data")).resolve()
    path = (root / payload.path).resolve()
    # Resolved once more, because a symbolic link in there may lead out of it.
    if not path.is_relative_to(root) or not path.is_file():
        raise Fail(f"there is no file {payload.path!r}")
    return path.open("rb")


def _check_path(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or "/" in parts or ".." in parts or "\0" in path:
        raise ValueError("path must name a file below the data directory")


def _number(row: list[str], index: int, source: Source) -> Decimal | None:
    """The number in one cell, None where the cell is empty. Raises Fail when it is something else."""
    if len(row) != len(source.columns):
        raise Fail(f"line {source.line} has {len(row)} values, but there are {len(source.columns)} columns")
    cell = row[index].strip()
    if not cell:
        return None
    if not _is_finite(cell):
        raise Fail(f"line {source.line}: {cell[:50]!r} in column {source.columns[index]!r} is not a number")
    return Decimal(cell)


def _is_finite(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _group(groups: dict[str, Summary], name: str) -> Summary:
    if name not in groups and len(groups) == _MAX_GROUPS:
        raise Fail(f"group_by gives more than {_MAX_GROUPS:,} groups; choose a column with fewer different values")
    return groups.setdefault(name, Summary())
