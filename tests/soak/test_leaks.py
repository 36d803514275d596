"""Whatever clients do, the service holds no more of the machine when it rests than it did before."""

from pathlib import Path

import pytest

from tests.soak import usage
from tests.soak.leaks import LeakSoak
from tests.soak.usage import Usage

WARM = Usage(threads=30, descriptors=40, processes=3, memory=50.0)


def test_a_service_that_was_busy_holds_no_more_than_before(tmp_path: Path) -> None:
    soak = LeakSoak(tmp_path, seed=1)

    figures = soak.run(stretches=3, seconds=0.5, acts=20)

    assert soak.broken == [], figures


def test_descriptors_that_a_handler_keeps_are_noticed(tmp_path: Path) -> None:
    """So the test above is known to bite."""
    soak = LeakSoak(tmp_path, seed=1, more=[{"type": "soak-leaking"}] * 100)

    figures = soak.run(stretches=3, seconds=0.5, acts=20)

    assert any("descriptors grew" in leak for leak in soak.broken), figures


@pytest.mark.parametrize("name", usage.NAMES)
def test_what_grows_without_end_is_noticed(name: str) -> None:
    field = "memory" if name == "MB" else name
    start = getattr(WARM, field)
    grown = [Usage(**{**_fields(WARM), field: start + 3 * look}) for look in range(10)]

    assert [leak.split()[0] for leak in usage.leaks(grown)] == [name]


def test_what_grows_only_while_it_warms_up_is_no_leak() -> None:
    cold = Usage(threads=20, descriptors=10, processes=1, memory=20.0)

    assert list(usage.leaks([cold, cold, *[WARM] * 8])) == []


def _fields(quiet: Usage) -> dict[str, float]:
    return {name: getattr(quiet, name) for name in ("threads", "descriptors", "processes", "memory")}
