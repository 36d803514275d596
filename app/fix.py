"""Refused submissions with their ``fix``: the whole body as it was most likely meant."""

from collections.abc import Callable, Collection, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from msgspec import Raw, inspect

from app.corrections import Incorrigible, corrected
from app.errors import Problem
from app.spelling import meant
from app.submission import Batch, Submission, SubmissionParser
from store.job import NewJob
from worker.registry import Registry

#: Bytes of a body beyond which nobody looks for what was meant.
_MAX_BODY = 65_536

# Numbers come out as they went in, digit by digit.
_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


class FixingParser:
    """Reads submissions like the SubmissionParser in it, and adds to a refusal what was meant, if it can be known.

    Safe to use from any thread.
    """

    def __init__(self, registry: Registry, queues: Collection[str], max_body: int) -> None:
        """``queues``: the names of the queues that are configured. ``max_body``: bytes of a request's body."""
        self._parser = SubmissionParser(registry, queues)
        self._queues = frozenset(queues)
        self._max_body = min(max_body, _MAX_BODY)
        self._payloads = {spec.type: inspect.type_info(spec.payload_type) for spec in registry.specs()}
        self._submission_type, self._batch_type = inspect.multi_type_info([Submission, Batch])

    def read(self, body: bytes, idempotency_key: str | None = None) -> NewJob:
        """Like ``SubmissionParser.read``."""
        try:
            return self._parser.read(body, idempotency_key)
        except Problem as problem:
            self._add_fix(problem, body, self._meant_submission, self._parser.read)
            raise

    def read_batch(self, body: bytes, idempotency_key: str | None = None) -> list[NewJob]:
        """Like ``SubmissionParser.read_batch``."""
        try:
            return self._parser.read_batch(body, idempotency_key)
        except Problem as problem:
            self._add_fix(problem, body, self._meant_batch, self._parser.read_batch)
            raise

    def _add_fix(
        self, problem: Problem, body: bytes, correct: Callable[[Any], object], read: Callable[[bytes], object]
    ) -> None:
        if problem.code != "invalid_submission" or len(body) > self._max_body:
            return
        try:
            fix = _encode(correct(_decode(body)))
            read(fix)
        except (Incorrigible, Problem):
            return  # there is something that nobody knows how to mend
        except InvalidOperation:
            return  # an exponent of 19 digits, with which Decimal can do nothing
        if len(fix) <= self._max_body:
            problem.extensions = {**problem.extensions, "fix": Raw(fix)}

    def _meant_batch(self, value: Any) -> object:
        batch = corrected(value, self._batch_type)
        if isinstance(batch, dict) and isinstance(batch.get("jobs"), list):
            batch["jobs"] = [self._with_known_names(job) for job in batch["jobs"]]
        return batch

    def _meant_submission(self, value: Any) -> object:
        return self._with_known_names(corrected(value, self._submission_type))

    def _with_known_names(self, submission: Any) -> object:
        """A submission, otherwise corrected, with a type and a queue that exist, and that type's payload corrected."""
        if not isinstance(submission, dict):
            return submission
        mended = dict(submission)
        if isinstance(job_type := mended.get("type"), str):
            job_type = mended["type"] = self._meant_type(job_type)
            if "payload" in mended and job_type in self._payloads:
                mended["payload"] = corrected(mended["payload"], self._payloads[job_type])
        if isinstance(queue := mended.get("queue"), str):
            mended["queue"] = self._meant_queue(queue)
        return mended

    def _meant_type(self, name: str) -> str:
        return name if name in self._payloads else _meant_one(name, self._payloads)

    def _meant_queue(self, name: str) -> str:
        if name in self._queues:
            return name
        if len(self._queues) == 1:
            return next(iter(self._queues))
        return _meant_one(name, self._queues)


def _meant_one(name: str, choices: Iterable[str]) -> str:
    """The one of ``choices`` that an unknown name was meant to be. Raises Incorrigible: it is refused for sure."""
    found = meant(name, choices)
    if found is None:
        raise Incorrigible
    return found
