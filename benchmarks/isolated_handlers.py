"""The handler that ``benchmarks/isolated.py`` measures, for Gofer and for its peer alike."""

from worker import JobContext, handler


@handler("noop", isolation="process")
def noop(ctx: JobContext | None = None, payload: object = None) -> None:
    """Do nothing."""
