"""What scopes allow."""

import pytest

from app import scopes
from app.policy import Policy, needs, policy_of


def test_scopes_are_the_three_and_one_for_each_type() -> None:
    assert scopes.parse(["read", "submit", "manage", "submit:mail.send", "read"]) == {
        "read",
        "submit",
        "manage",
        "submit:mail.send",
    }


@pytest.mark.parametrize("name", ["", "Read", "read ", "submit:", "submit:a b", "submit:*", "manage:x", "admin", "*"])
def test_what_is_no_scope_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match="no scope; there are read, submit, manage, and submit:TYPE"):
        scopes.parse([name])


def test_a_key_without_a_scope_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="at least one scope is needed"):
        scopes.parse([])


@pytest.mark.parametrize(
    ("held", "types", "missing"),
    [
        ({"submit"}, ["a", "b"], []),
        ({"submit:a"}, ["a", "a"], []),
        ({"submit:a"}, ["b", "a", "b", "c"], ["submit:b", "submit:c"]),
        ({"submit:a", "submit:b"}, ["a", "b"], []),
        ({"read", "manage"}, ["a"], ["submit:a"]),
        ({"submit:a"}, ["ab"], ["submit:ab"]),
    ],
)
def test_a_type_is_submitted_by_who_may_submit_it_or_everything(
    held: set[str], types: list[str], missing: list[str]
) -> None:
    assert scopes.missing_to_submit(held, types) == missing


@pytest.mark.parametrize(
    ("policy", "held", "missing"),
    [
        (Policy.OPEN, set(), None),
        (Policy.ANY_KEY, {"submit:a"}, None),
        (Policy.READ, {"read"}, None),
        (Policy.READ, {"submit", "manage"}, "read"),
        (Policy.MANAGE, {"manage"}, None),
        (Policy.MANAGE, {"submit", "read"}, "manage"),
        (Policy.SUBMIT, {"submit"}, None),
        (Policy.SUBMIT, {"submit:a"}, None),
        (Policy.SUBMIT, {"read", "manage"}, "submit"),
    ],
)
def test_a_policy_says_which_scope_lacks(policy: Policy, held: set[str], missing: str | None) -> None:
    assert policy.missing(held) == missing


def test_a_call_that_does_not_say_who_may_make_it_has_no_policy() -> None:
    class Calls:
        @needs(Policy.READ)
        def marked(self) -> None: ...

        def unmarked(self) -> None: ...

    assert policy_of(Calls().marked) is Policy.READ
    assert policy_of(Calls().unmarked) is None
