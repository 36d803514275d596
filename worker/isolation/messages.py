"""What the service and its child processes say to each other: data only, as JSON, each message after its length."""

import struct
from enum import StrEnum

import msgspec

from store.job import Job, JobError
from worker.errors import Cancelled, Fail, InvalidPayload, Retry, UnknownType
from worker.isolation.errors import Garbled, HandlerRaised

#: The length of a message in bytes stands before it.
LENGTH = struct.Struct("<I")


class Start(msgspec.Struct, frozen=True):
    """What a child process needs to know first; its last argument on the command line."""

    #: The service's ``sys.path``.
    path: list[str]
    #: The modules that the service loaded handlers from.
    modules: list[str]
    #: The descriptors that it inherits: messages; what tells it to cancel; what ends it with the service.
    socket: int
    cancel: int
    alive: int
    #: The largest result, as JSON.
    max_result_bytes: int
    #: Log records below this level are not sent.
    log_level: int


class Begin(msgspec.Struct, frozen=True):
    """To the child: call the handler of this job. The only message in this direction."""

    job: Job


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The handlers are loaded."""


class Unusable(msgspec.Struct, frozen=True, tag=True):
    """The handlers cannot be loaded, and the child ends."""

    reason: str


class Line(msgspec.Struct, frozen=True, tag=True):
    """``ctx.log``."""

    level: str
    text: str


class Step(msgspec.Struct, frozen=True, tag=True):
    """``ctx.progress``."""

    fraction: float
    text: str


class Record(msgspec.Struct, frozen=True, tag=True):
    """What the handler wrote to a logger of the module ``logging``."""

    logger: str
    level: int
    text: str


class Success(msgspec.Struct, frozen=True, tag=True):
    """The handler returned."""

    result: msgspec.Raw
    #: It had looked and seen that it was told to end.
    seen: bool
    #: The child will do for a further attempt.
    is_fit: bool


class Steer(StrEnum):
    """What an exception says about the job beside that the attempt failed."""

    RETRY = "retry"
    FAIL = "fail"
    CANCELLED = "cancelled"
    UNKNOWN_TYPE = "unknown type"
    NOTHING = "nothing"


class Failure(msgspec.Struct, frozen=True, tag=True):
    """The handler raised, or what it returned cannot be kept."""

    error: JobError
    steer: Steer
    #: ``Retry.after``.
    after: float | None
    is_fit: bool

    def exception(self) -> BaseException:
        """An exception that steers as the handler's did. Raises Garbled."""
        match self.steer:
            case Steer.RETRY:
                try:
                    return Retry(self.after)
                except ValueError as error:
                    raise Garbled(str(error)) from error
            case Steer.FAIL:
                return Fail()
            case Steer.CANCELLED:
                return Cancelled()
            case Steer.UNKNOWN_TYPE:
                return UnknownType("", ())
            case Steer.NOTHING:
                return HandlerRaised()


Message = Ready | Unusable | Line | Step | Record | Success | Failure

_BEGIN = msgspec.json.Decoder(Begin)
_MESSAGE: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_START = msgspec.json.Decoder(Start)


def steer_of(exception: BaseException) -> Steer:
    """How an exception steers; ``outcome.decide`` draws the same distinctions."""
    match exception:
        case Retry():
            return Steer.RETRY
        case Fail() | InvalidPayload():
            return Steer.FAIL
        case Cancelled():
            return Steer.CANCELLED
        case UnknownType():
            return Steer.UNKNOWN_TYPE
        case _:
            return Steer.NOTHING


def framed(message: msgspec.Struct) -> bytes:
    """A message as it goes over the socket."""
    body = msgspec.json.encode(message)
    return LENGTH.pack(len(body)) + body


def begin(body: bytes) -> Begin:
    """What the service said."""
    return _BEGIN.decode(body)


def start(argument: str) -> Start:
    """What the command line says."""
    return _START.decode(argument)


def message(body: bytes) -> Message:
    """What a child said. Raises Garbled: a handler may write to any descriptor by mistake."""
    try:
        # msgspec does not look at the bytes inside of a Raw.
        return _MESSAGE.decode(body.decode())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(str(error)) from error
