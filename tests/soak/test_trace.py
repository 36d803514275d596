"""What handlers leave behind shows what the service would not."""

import pytest

from tests.soak.trace import Job, Line, attempt_faults, faults, solitude_faults

DONE = {"status": "completed", "attempt": 2, "max_attempts": 5, "error": None}
BEGIN, END = "begin", "end"


def attempts(*statuses: str) -> list[dict[str, object]]:
    return [{"attempt": number, "status": status} for number, status in enumerate(statuses, 1)]


def test_attempts_one_after_the_other_are_no_fault() -> None:
    lines = [Line(BEGIN, "a", 1), Line(BEGIN, "b", 1), Line(END, "b", 1), Line(BEGIN, "a", 2), Line(END, "a", 2)]

    assert list(faults(lines, {"a": DONE, "b": DONE | {"attempt": 1}})) == []
    assert list(solitude_faults(lines, lambda job_id, attempt: attempt == 2)) == []
    assert list(attempt_faults(DONE, attempts("crashed", "completed"), 0)) == []


@pytest.mark.parametrize(
    "lines",
    [
        [Line(BEGIN, "a", 1), Line(BEGIN, "a", 2), Line(BEGIN, "a", 2), Line(END, "a", 2)],
        [Line(BEGIN, "a", 1), Line(BEGIN, "a", 2), Line(END, "a", 1), Line(END, "a", 2)],
        [Line(BEGIN, "a", 2), Line(END, "a", 2), Line(BEGIN, "a", 3)],
        [Line(BEGIN, "a", 1), Line(END, "a", 1)],
        [Line(BEGIN, "a", 2)],
    ],
    ids=["twice", "at the same time", "not counted", "never", "not to its end"],
)
def test_an_execution_that_contradicts_its_job_is_noticed(lines: list[Line]) -> None:
    assert list(faults(lines, {"a": DONE}))


@pytest.mark.parametrize(
    ("job", "statuses"),
    [
        (DONE, ["completed"]),
        (DONE, ["completed", "completed"]),
        (DONE, ["crashed", "processing"]),
        (DONE | {"max_attempts": 1, "attempt": 8}, ["crashed"] * 7 + ["completed"]),
        (DONE | {"max_attempts": 1, "attempt": 3}, ["failed", "timed_out", "completed"]),
        (DONE | {"status": "failed", "error": {"type": "Crashed"}}, ["interrupted", "crashed"]),
    ],
    ids=[
        "one is missing",
        "ended twice",
        "still running",
        "beyond its bound",
        "failed too often",
        "given up too early",
    ],
)
def test_attempts_that_cannot_be_are_noticed(job: Job, statuses: list[str]) -> None:
    assert list(attempt_faults(job, attempts(*statuses), 0))


def test_a_suspect_with_others_beside_it_is_noticed() -> None:
    lines = [Line(BEGIN, "a", 2), Line(BEGIN, "b", 1), Line(END, "a", 2)]

    assert list(solitude_faults(lines, lambda job_id, attempt: job_id == "a"))
