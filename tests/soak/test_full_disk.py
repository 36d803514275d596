"""Promises 1 and 5: what is accepted is stored and run once, what is refused is not stored, and a full disk heals."""

from pathlib import Path

from tests.soak.full_disk import FullDiskSoak


def test_a_disk_that_fills_up_again_and_again_costs_no_job_and_no_attempt(tmp_path: Path) -> None:
    soak = FullDiskSoak(tmp_path, seed=1)

    figures = soak.run(rounds=2)

    assert soak.broken == [], figures
    assert soak.counts["refused"], figures
