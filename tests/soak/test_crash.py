"""Promises 1 to 3: whatever a service had said before it was killed stays true."""

from pathlib import Path

from tests.soak.crash import CrashSoak


def test_nothing_that_a_service_said_turns_out_false_however_often_it_is_killed(tmp_path: Path) -> None:
    soak = CrashSoak(tmp_path, seed=1)

    figures = soak.run(kills=20)

    assert soak.ledger.broken == [], figures
    # The load was worth it: something ran at the crashes, was left without an answer, and was seen to end.
    for name in ("crashed attempts", "unknown submissions", "outcomes seen", "retries", "cancels", "deletions"):
        assert soak.ledger.counts[name], figures


def test_a_service_that_keeps_nothing_is_found_out(tmp_path: Path) -> None:
    """So the test above is known to bite."""
    soak = CrashSoak(tmp_path, seed=2, GOFER_STORE="memory:")

    soak.run(kills=2)

    assert any("acknowledged" in broken for broken in soak.ledger.broken)
