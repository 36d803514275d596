"""Durations and sizes as people write them."""

import pytest

from worker.quantities import seconds, size


@pytest.mark.parametrize(
    ("text", "value"),
    [("10", 10), ("90s", 90), (" 15 m ", 900), ("12h", 43_200), ("7d", 604_800), ("1.5m", 90), ("0", 0)],
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "soon", "-1", "1 s s", "5w", "nan", "inf", "1e3", "٣", "9" * 400])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a duration such as 10, 90s, 15m, 12h or 7d"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("65536", 65_536), ("10B", 10), ("256KiB", 262_144), ("1 MiB", 1_048_576), ("2GB", 2 * 10**9)],
)
def test_a_size_has_a_unit_or_is_in_bytes(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize("text", ["", "big", "-1", "1.5MiB", "1K", "1mib", "٣", "9" * 400])
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a size such as 65536, 256KiB, 1MiB or 2GB"):
        size(text)
