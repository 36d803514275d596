"""The gate: who calls, and whether they may. It stands before every call, known or not.

Keys are bearer tokens (RFC 6750) in the ``Authorization`` header, and nowhere else: an address ends
up in logs. No answer shows a key, or anything of what was expected.
"""

import logging
import math
from collections.abc import Iterable, Sequence

from flask import Flask, Request
from flask.globals import request_ctx
from msgspec.structs import replace

from app import keys, scopes
from app.errors import Problem
from app.key_ring import KeyRing
from app.keys import ApiKey
from app.policy import Policy, policy_of
from app.rate_limit import FailureLimit
from app.request_headers import Environ
from store.clock import Clock
from store.job import NewJob

_log = logging.getLogger(__name__)

#: Where a request carries the key that it came with.
_CALLER = "gofer.caller"
#: Where a request carries whether its body was thrown away, for it was a stranger's when it began.
UNREAD = "gofer.unread"
#: RFC 6750, section 3.
_CHALLENGE = 'Bearer realm="gofer"'
#: How many scopes an answer names.
_MOST_SHOWN = 10


class Gate:
    """Lets a request in, or refuses it. Safe to use from any thread."""

    def __init__(self, ring: KeyRing, clock: Clock) -> None:
        self._ring = ring
        self._clock = clock
        self._failures = FailureLimit(clock)

    def is_stranger(self, authorization: str) -> bool:
        """Whether a request with this header will be refused, unless anyone may make it."""
        key = self._ring.find(_bearer(authorization))
        return key is None or self._has_expired(key)

    def guard(self, app: Flask) -> None:
        """Stand before every request to ``app``, whatever becomes of it: what is not there is not told to strangers."""
        calls = app.view_functions

        def check() -> None:
            current = request_ctx.request  # the request itself: each look through its proxy costs a microsecond
            # A path or method that there is not has no rule.
            rule = current.url_rule
            policy = policy_of(calls[rule.endpoint]) if rule else Policy.ANY_KEY
            self._check(current, policy)

        app.before_request(check)

    def _check(self, current: Request, policy: Policy | None) -> None:
        """Raise Problem unless the request may be made; note who makes it."""
        if policy is Policy.OPEN:
            return
        caller = self._caller(current.environ)
        current.environ[_CALLER] = caller
        if policy is None:
            raise LookupError(f"{current.url_rule} does not say who may call it, so nobody may")
        # What a call allows is no secret to those who have a key, and changes nothing.
        missing = policy.missing(caller.scopes) if current.method != "OPTIONS" else None
        if missing is not None:
            raise _forbidden([missing])

    def _caller(self, environ: Environ) -> ApiKey:
        """Whose key the request carries. Raises Problem."""
        given = _bearer(environ.get("HTTP_AUTHORIZATION", ""))
        if not given:
            detail = (
                'this needs a key, in the header Authorization: Bearer KEY; with curl: -H "Authorization: Bearer $KEY"'
            )
            raise Problem("unauthorized", detail, headers=[("WWW-Authenticate", _CHALLENGE)])
        key = self._ring.find(given)
        if key is None:
            damaged = "the key was mistyped or cut off: its checksum is wrong"
            raise self._failure(environ, damaged if keys.is_damaged(given) else "the key is not known here")
        if self._has_expired(key):
            raise self._failure(environ, "the key has expired")
        if environ.get(UNREAD):
            raise _invalid("the key was not in force yet when the request began; send it again")
        return key

    def _has_expired(self, key: ApiKey) -> bool:
        return key.expires_at is not None and key.expires_at <= self._clock.now()

    def _failure(self, environ: Environ, reason: str) -> Problem:
        # A right key never gets here: clients behind one address cannot lock each other out.
        refusal = self._failures.count(environ.get("REMOTE_ADDR", ""))
        if refusal is None:
            return _invalid(reason)
        if refusal.is_first:
            _log.warning("too many wrong keys from %s", refusal.client)
        seconds = math.ceil(refusal.seconds)
        detail = f"too many wrong keys came from this address; try again in {seconds} s, with a right one"
        return Problem("too_many_attempts", detail, headers=[("Retry-After", str(seconds))])


def caller_name(environ: Environ) -> str | None:
    """The name of the key that a request came with; None without keys, and for an open call."""
    caller: ApiKey | None = environ.get(_CALLER)
    return caller.name if caller else None


def in_callers_name(environ: Environ, new_jobs: Sequence[NewJob]) -> Sequence[NewJob]:
    """The jobs as ones of whoever submits them. Raises Problem, ``forbidden``, for a type that they may not submit.

    An idempotency key is one of its caller: nobody gets at a job of others by guessing theirs. No
    key holds a tab, so one of a caller is never one of nobody.
    """
    caller: ApiKey | None = environ.get(_CALLER)
    if caller is None:
        return new_jobs
    if missing := scopes.missing_to_submit(caller.scopes, (new.type for new in new_jobs)):
        raise _forbidden(missing[:_MOST_SHOWN])
    return [
        replace(
            new,
            submitted_by=caller.name,
            idempotency_key=new.idempotency_key and f"{caller.name}\t{new.idempotency_key}",
        )
        for new in new_jobs
    ]


def _bearer(authorization: str) -> str:
    """The key in the header ``Authorization`` (RFC 6750, section 2.1); empty if there is none."""
    scheme, _, given = authorization.partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _invalid(reason: str) -> Problem:
    challenge = f'{_CHALLENGE}, error="invalid_token", error_description="{reason}"'
    return Problem("unauthorized", reason, headers=[("WWW-Authenticate", challenge)])


def _forbidden(missing: Iterable[str]) -> Problem:
    names = list(missing)
    challenge = f'{_CHALLENGE}, error="insufficient_scope", scope="{" ".join(names)}"'
    noun = "scope" if len(names) == 1 else "scopes"
    return Problem(
        "forbidden", f"the key lacks the {noun} {', '.join(names)}", headers=[("WWW-Authenticate", challenge)]
    )
