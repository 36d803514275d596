"""Listing jobs: where in the table to look, and how many jobs to look at."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import apsw

from store.errors import InvalidCursor
from store.job import Job
from store.protocol import PAGE_SIZE, JobFilter, Page
from store.sqlite.rows import Row, job_from_row, to_micros
from store.sqlite.session import SQL, Session, corrupt

#: Jobs that are looked at, at most, for one page: about 10 ms. There is one case that needs the limit, a tag on many
#: jobs together with another filter that many jobs match; no index can hold every pair of these.
_MOST_LOOKED_AT = 1_500
#: Milliseconds by which an id may be later than the creation that it tells; beyond, the job is in ``jobs_out_of_step``.
_STEP = 250
#: A number that no job reaches.
_NO_JOB = 2**62


def list_jobs(session: Session, where: JobFilter, limit: int, cursor: str | None) -> Page:
    """One page, newest first. Raises InvalidCursor."""
    last = _NO_JOB if cursor is None else _number(cursor) - 1
    values = {
        "status": where.status,
        "queue": where.queue,
        "type": where.type,
        "tag": where.tag,
        "created_after": where.created_after and to_micros(where.created_after),
        "created_before": where.created_before and to_micros(where.created_before),
        "first": _first(session, where.created_after),
        "last": min(last, _last(session, where.created_before)),
        "most": _MOST_LOOKED_AT + 1,
    }
    pages = []
    for statement in _ways(where):
        page = _page(session.connection.execute(SQL[statement], values), limit)
        if len(page.jobs) == limit or page.next_cursor is None:
            return page
        pages.append(page)
    # Each stopped early, and says where; the one that came farther leaves less to look at.
    return min(pages, key=lambda page: int(page.next_cursor or 0))


def _ways(where: JobFilter) -> Iterator[str]:
    """The statements that list these jobs, the one first that most likely meets few others."""
    if where.tag is not None:
        yield "list_jobs_by_tag"
    if where.status is not None or where.queue is not None or where.type is not None:
        yield "list_jobs_by_kind"
    elif where.tag is None:
        yield "list_jobs"


def _first(session: Session, created_after: datetime | None) -> int:
    if created_after is None:
        return 0
    micros = to_micros(created_after)
    return _found(session, "first_created_after", micros, micros // 1000, _NO_JOB)


def _last(session: Session, created_before: datetime | None) -> int:
    if created_before is None:
        return _NO_JOB
    micros = to_micros(created_before)
    return _found(session, "last_created_before", micros, micros // 1000 + _STEP + 1, 0)


def _found(session: Session, statement: str, micros: int, millis: int, default: int) -> int:
    """The number of the job that ``statement`` finds."""
    digits = f"{max(millis, 0):012x}"
    values = {"time": micros, "id": f"{digits[:8]}-{digits[8:]}"}
    (number,) = session.connection.execute(SQL[statement], values).fetchall()[0]
    return default if number is None else int(number)


def _number(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise InvalidCursor
    return int(cursor)


def _page(candidates: apsw.Cursor, limit: int) -> Page:
    try:
        return _page_of(candidates, limit)
    except UnicodeDecodeError as error:
        raise corrupt(error) from error
    finally:
        candidates.close(force=True)


def _page_of(candidates: Iterator[Row], limit: int) -> Page:
    jobs: list[Job] = []
    characters = 0
    last: Any = None
    for looked_at, row in enumerate(candidates):
        matches = row[0] is not None
        if looked_at == _MOST_LOOKED_AT or characters > PAGE_SIZE or (matches and len(jobs) == limit):
            return Page(jobs, str(last))
        last = row[-1]
        if matches:
            jobs.append(job_from_row(row))
            characters += _size(row)
    return Page(jobs, None)


def _size(row: Row) -> int:
    return len(row[5]) + len(row[6] or "")
