"""Handlers that the tests of the HTTP interface submit jobs to."""

from typing import Any

import msgspec

from worker import Backoff, Fail, JobContext, handler


class Row(msgspec.Struct):
    """Part of a payload."""

    price: float


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """A payload with a shape."""

    rows: list[Row]


@handler("typed")
def typed(ctx: JobContext, payload: Order) -> object:
    """Returns the sum of the prices."""
    return sum(row.price for row in payload.rows)


@handler("particular", queue="slow", max_attempts=2, timeout=30, backoff=Backoff(base=3.0))
def particular(ctx: JobContext, payload: Any) -> object:
    """Has defaults of its own."""
    return payload


@handler("fails")
def fails(ctx: JobContext, payload: Any) -> object:
    """Logs, and fails for good."""
    ctx.log("about to fail", level="warning")
    raise Fail("as it was asked to")
