"""Listings of a store with many jobs look at few of them, whatever is asked for, and miss none."""

import itertools
import random
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from store.clock import SystemClock
from store.job import JobStatus
from store.protocol import JobFilter
from store.queries import load_queries
from store.sqlite import SqliteStore
from tests.soak.crowded_store import CrowdedStore
from tests.store.samples import EVERYTHING, all_jobs

FILTERS = {
    "status": (JobStatus.COMPLETED, JobStatus.PENDING),
    "type": ("echo", "sleep"),
    "queue": ("default", "reports"),
    "tag": ("many", "others"),
    "created_after": (0.2, 0.7),
    "created_before": (0.8, 0.3),
}
LISTINGS = ("list_jobs", "list_jobs_by_kind", "list_jobs_by_tag", "first_created_after", "last_created_before")
QUERIES = load_queries("sqlite")


@pytest.fixture(autouse=True)
def _look_at_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a store of some thousand jobs is a crowded one."""
    monkeypatch.setattr("store.sqlite.listing._MOST_LOOKED_AT", 100)


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[SqliteStore, CrowdedStore]]:
    """A store with as many jobs as the test says."""
    crowded = CrowdedStore(tmp_path / "gofer.db", request.param, mixed=True)
    store = SqliteStore(tmp_path / "gofer.db", SystemClock(), random.Random(1))
    yield store, crowded
    store.close()


def filters(crowded: CrowdedStore) -> Iterator[JobFilter]:
    """Every combination, with values that many jobs have in common, and with others that no job has in common."""
    for chosen in itertools.product(*[(None, *values) for values in FILTERS.values()]):
        fields: dict[str, Any] = dict(zip(FILTERS, chosen, strict=True))
        for name in ("created_after", "created_before"):
            if fields[name] is not None:
                fields[name] = datetime.fromisoformat(crowded.created_at(fields[name]))
        yield JobFilter(**fields)


def steps(store: SqliteStore, where: JobFilter, cursor: str | None) -> int:
    """How many thousand instructions of SQLite's machine a page takes."""
    thousands = 0

    def count() -> bool:
        nonlocal thousands
        thousands += 1
        return False

    with store._database.reader() as session:
        session.connection.set_progress_handler(count, 1_000)
    store.list_jobs(where, 50, cursor)
    return thousands


@pytest.mark.parametrize("opened", [20_000], indirect=True)
def test_no_page_takes_as_much_work_as_looking_at_every_job(opened: tuple[SqliteStore, CrowdedStore]) -> None:
    store, crowded = opened
    work = {
        (where, cursor): steps(store, where, cursor) for where in filters(crowded) for cursor in (None, str(10_000))
    }
    worst = max(work, key=lambda each: work[each])
    # To step through all jobs, or an index of them, takes five instructions for each at the very least: 100 thousand.
    assert work[worst] < 50, worst


@pytest.mark.parametrize("opened", [1_000], indirect=True)
def test_the_pages_of_every_filter_show_what_matches_in_order(opened: tuple[SqliteStore, CrowdedStore]) -> None:
    store, crowded = opened
    everything = all_jobs(store, EVERYTHING, limit=100)
    assert len(everything) == 1_000
    for where in filters(crowded):
        assert all_jobs(store, where, limit=60) == [job for job in everything if where.matches(job)], where


@pytest.mark.parametrize("opened", [1_000], indirect=True)
def test_a_page_may_be_empty_and_not_the_last(opened: tuple[SqliteStore, CrowdedStore]) -> None:
    """The one case that no index helps with: two filters that many jobs match, and none matches both."""
    store, _ = opened
    page = store.list_jobs(JobFilter(tag="many", status=JobStatus.PENDING), 50)
    assert page.jobs == []
    assert page.next_cursor is not None


@pytest.mark.parametrize("name", LISTINGS)
def test_no_listing_scans_or_sorts_a_table(tmp_path: Path, name: str) -> None:
    SqliteStore(tmp_path / "gofer.db", SystemClock(), random.Random(1)).close()
    with apsw.Connection(str(tmp_path / "gofer.db")) as connection:
        values = dict.fromkeys(("first", "last", "most", "time", "id", *FILTERS))
        plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + QUERIES[name], values)]
    # The first of all kinds is read from the beginning of its index.
    scans = [step for step in plan if "SCAN jobs" in step and "COVERING INDEX jobs_by_kind" not in step]
    assert scans == []
    assert not any("TEMP B-TREE" in step for step in plan)
