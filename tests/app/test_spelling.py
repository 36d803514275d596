"""Names with a slip in them, and names that are other names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.spelling import meant

FIELDS = ["type", "payload", "queue", "priority", "max_attempts", "run_at", "tags"]


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("paylod", "payload"),
        ("payloads", "payload"),
        ("pauload", "payload"),
        ("palyoad", "payload"),
        ("typ", "type"),
        ("Type", "type"),
        ("QUEUE", "queue"),
        ("maxAttempts", "max_attempts"),
        ("max-attempts", "max_attempts"),
        ("MAX ATTEMPTS", "max_attempts"),
        ("max_atempts", "max_attempts"),
        ("runat", "run_at"),
    ],
)
def test_a_slip_leads_to_the_name_that_was_meant(name: str, choice: str) -> None:
    assert meant(name, FIELDS) == choice


@pytest.mark.parametrize(
    "name", ["", "_", "p", "pylod", "colour", "prio", "args", "payyyload", "typetype", "x" * 100_000]
)
def test_any_other_name_leads_nowhere(name: str) -> None:
    assert meant(name, FIELDS) is None


def test_a_short_name_is_like_too_many_others() -> None:
    assert meant("cut", ["cat"]) is None
    assert meant("CAT", ["cat"]) == "cat"


def test_a_digit_is_no_slip() -> None:
    assert meant("report2", ["report1"]) is None
    assert meant("report-10", ["report-1"]) is None
    assert meant("v1.1", ["v11"]) is None
    assert meant("v1 . 1", ["v11"]) is None
    assert meant("report1--2", ["report12"]) is None
    assert meant("reprt2", ["report1", "report2"]) == "report2"


def test_between_two_names_nothing_is_guessed() -> None:
    assert meant("sleap", ["sleep", "sleay"]) is None
    assert meant("mail-send", ["mail_send", "mail.send"]) is None


def test_a_name_that_differs_in_case_alone_comes_before_one_with_another_letter() -> None:
    assert meant("Sleep", ["sleep", "sleeps"]) == "sleep"


@given(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=5))
def test_what_was_meant_is_one_of_the_choices(name: str, choices: list[str]) -> None:
    assert meant(name, choices) in (None, *choices)


@given(st.sampled_from([name for name in FIELDS if len(name) >= 4]), st.data())
def test_any_one_letter_that_is_missing_or_too_many_is_forgiven(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 1))
    assert meant(name[:at] + "x" + name[at:], [name]) == name
    assert meant(name[:at] + name[at + 1 :], [name]) == name
