import random

import msgspec
import pytest

from store.job import Job
from store.transitions import claimed, created
from tests.fake_clock import START
from tests.worker.harness import new_job
from worker.errors import Cancelled, Fail, InvalidPayload, InvalidResult, Retry, UnknownType
from worker.isolation import messages
from worker.isolation.errors import Garbled
from worker.isolation.messages import Begin, Failure, Line, Ready, Record, Steer, Step, Success, Unusable
from worker.outcome import Raised, StopReason, decide, raised


def job() -> Job:
    return claimed(created(new_job(payload={"a": 1}), "job-1", START), START)


class OwnFail(Fail):
    """A handler's own kind of Fail."""


def test_a_job_arrives_as_it_was_sent() -> None:
    sent = messages.framed(Begin(job()))
    received = messages.begin(sent[4:]).job
    assert messages.framed(Begin(received)) == sent
    assert (received.id, received.started_at) == ("job-1", START)


@pytest.mark.parametrize(
    "message",
    [Ready(), Unusable("why"), Line("info", "ü\n"), Step(0.5, ""), Record("a.b", 30, "text")],
)
def test_every_message_arrives_as_it_was_sent(message: messages.Message) -> None:
    assert messages.message(messages.framed(message)[4:]) == message


def test_a_result_arrives_as_it_was_sent() -> None:
    sent = Success(msgspec.Raw(b'{"a":[1,null]}'), seen=True, is_fit=False)
    received = messages.message(messages.framed(sent)[4:])
    assert isinstance(received, Success)
    assert (bytes(received.result), received.seen, received.is_fit) == (b'{"a":[1,null]}', True, False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[]",
        b'{"type":"Begin"}',
        b'{"type":"Line","level":1,"text":""}',
        b'{"type":"Success","result":nonsense,"seen":true,"is_fit":true}',
        b'{"type":"Success","result":"\xff","seen":true,"is_fit":true}',
        b'{"type":"Success","result":' + b"[" * 100_000,
    ],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(Garbled):
        messages.message(body)


def test_a_retry_that_cannot_be_is_refused() -> None:
    failure = Failure(raised(ValueError()).error, Steer.RETRY, after=-1.0, is_fit=True)
    with pytest.raises(Garbled):
        failure.exception()


@pytest.mark.parametrize("reason", [None, StopReason.CANCEL, StopReason.SHUTDOWN, StopReason.TIMEOUT])
@pytest.mark.parametrize(
    "exception",
    [
        ValueError("x"),
        SystemExit(1),
        Fail("no"),
        OwnFail("no"),
        Retry(),
        Retry(after=90.0),
        Cancelled(),
        InvalidPayload([("payload", "bad")]),
        InvalidResult("bad"),
        UnknownType("job", []),
    ],
)
def test_an_exception_steers_from_another_process_as_it_does_here(
    exception: BaseException, reason: StopReason | None
) -> None:
    here = raised(exception)
    after = exception.after if isinstance(exception, Retry) else None
    failure = Failure(here.error, messages.steer_of(exception), after, is_fit=True)
    there = Raised(failure.exception(), failure.error)

    def outcome(ending: Raised) -> object:
        return decide(ending, reason, seen=True, job=job(), rng=random.Random(1))

    assert outcome(there) == outcome(here)
