"""Results by themselves: what a shell gets, so that the answer is the output and ``curl -f`` the exit code."""

from collections.abc import Iterable

from msgspec import DecodeError, Raw

from app.errors import Problem
from app.resources import JSON, Answer, answer_with
from store.job import Job, JobStatus
from worker.errors import UnknownType
from worker.registry import Registry

#: A text goes out as it is, without a newline of ours: it may be a file's content.
_TEXT = "text/plain; charset=utf-8"


class BareResults:
    """Answers with what a job came to and nothing around it. Safe to use from any thread."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def answer(self, job: Job, headers: Iterable[tuple[str, str]] = ()) -> Answer:
        """200 and the result, or 202 and nothing while there is none yet.

        Raises Problem (424): ``job_failed``, ``job_cancelled``.
        """
        if job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
            raise _without_result(job, headers)
        if not job.status.is_final:
            return _unfinished(job, headers)
        bare, is_truncated = self._bare(job)
        body, media_type = (bytes(bare) + b"\n", JSON) if isinstance(bare, Raw) else (bare.encode(), _TEXT)
        own = [("Gofer-Truncated", "true")] if is_truncated else []
        return answer_with(body, 200, [*headers, *own], media_type)

    def _bare(self, job: Job) -> tuple[str | Raw, bool]:
        assert job.result is not None  # the store keeps one, if only null, for every job that completed
        try:
            spec = self._registry.get(job.type)
            return spec.bare(job.result), spec.is_truncated(job.result)
        except (UnknownType, DecodeError):  # its handler is not loaded any more, or is another one by now
            return job.result, False


def _unfinished(job: Job, headers: Iterable[tuple[str, str]]) -> Answer:
    """No body, so that a shell's ``$(curl …)`` is empty; the headers say the rest."""
    own = {"Location": f"/jobs/{job.id}", "Retry-After": "1", "Gofer-Status": job.status.value, "Content-Length": "0"}
    return Answer([], 202, [*own.items(), *((name, value) for name, value in headers if name not in own)])


def _without_result(job: Job, headers: Iterable[tuple[str, str]]) -> Problem:
    why = [f"{job.error.type}: {job.error.message}"] if job.error is not None else []
    if job.status is JobStatus.CANCELLED:
        why.insert(0, "the job was cancelled")
    code = f"job_{job.status}"
    return Problem(code, "; ".join(why), headers=headers, extensions={"job": job.id, "error": job.error})
