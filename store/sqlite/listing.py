"""Listing jobs: the one statement that is put together from what was asked for."""

from typing import Any

import apsw

from store.errors import InvalidCursor
from store.job import Job
from store.protocol import PAGE_SIZE, JobFilter, Page
from store.sqlite.rows import Row, job_from_row, to_micros
from store.sqlite.session import SQL, Session, corrupt


def list_jobs(session: Session, where: JobFilter, limit: int, cursor: str | None) -> Page:
    """One page, newest first. Raises InvalidCursor."""
    conditions = _conditions(where)
    if cursor is not None:
        conditions["number < ?"] = _number(cursor)
        if where.tag is not None:  # said twice, so that SQLite starts its walk of the tag there
            conditions["job < ?"] = _number(cursor)
    sql = SQL["list_jobs"] if where.tag is None else SQL["list_jobs_by_tag"]
    if conditions:
        sql += " WHERE " + " AND ".join(conditions)
    sql += f" ORDER BY {'number' if where.tag is None else 'job'} DESC LIMIT ?"
    rows = session.connection.execute(sql, (*conditions.values(), limit + 1))
    try:
        return _page(rows, limit)
    except UnicodeDecodeError as error:
        raise corrupt(error) from error


def _conditions(where: JobFilter) -> dict[str, Any]:
    found = {
        "status = ?": where.status,
        "type = ?": where.type,
        "queue = ?": where.queue,
        "tag = ?": where.tag,
        "created_at > ?": where.created_after and to_micros(where.created_after),
        "created_at < ?": where.created_before and to_micros(where.created_before),
    }
    return {condition: value for condition, value in found.items() if value is not None}


def _number(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise InvalidCursor
    return int(cursor)


def _page(rows: apsw.Cursor, limit: int) -> Page:
    jobs: list[Job] = []
    characters = 0
    last = 0
    for row in rows:
        if len(jobs) == limit or characters > PAGE_SIZE:
            rows.close(force=True)
            return Page(jobs, str(last))
        jobs.append(job_from_row(row))
        characters += _size(row)
        last = row[-1]
    return Page(jobs, None)


def _size(row: Row) -> int:
    return len(row[5]) + len(row[6] or "")
