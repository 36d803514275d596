"""Who may make a call. Each says so itself, with :func:`needs`; one that does not is denied to all."""

from collections.abc import Callable, Collection
from enum import Enum
from typing import TypeVar

from app import scopes

_POLICY = "__gofer_policy__"

Call = TypeVar("Call", bound=Callable[..., object])


class Policy(Enum):
    """Who may make a call, once there are keys."""

    #: Anyone, without a key: whoever watches over the process.
    OPEN = "open"
    #: Whoever has a key.
    ANY_KEY = "any key"
    #: Whoever has the scope of that name.
    READ = scopes.READ
    MANAGE = scopes.MANAGE
    #: Whoever may submit jobs of some type; the call itself looks at the type.
    SUBMIT = scopes.SUBMIT

    def missing(self, held: Collection[str]) -> str | None:
        """The scope that lacks to make the call; None if none does."""
        if self.value in held or self is Policy.ANY_KEY or self is Policy.OPEN:
            return None
        if self is Policy.SUBMIT and scopes.may_submit_something(held):
            return None
        return str(self.value)


def needs(policy: Policy) -> Callable[[Call], Call]:
    """Mark a call with who may make it."""

    def mark(call: Call) -> Call:
        setattr(call, _POLICY, policy)
        return call

    return mark


def policy_of(call: Callable[..., object]) -> Policy | None:
    """Who may make a call; None if it does not say, and nobody may."""
    return getattr(call, _POLICY, None)
