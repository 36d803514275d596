"""Handlers: which function runs which type of job, with which defaults, on what payload."""

import importlib
import importlib.util
import inspect
import math
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Literal, TypeVar

import msgspec

from store.job import Backoff
from worker.context import JobContext
from worker.errors import DuplicateHandler, HandlerImportError, InvalidPayload, UnknownType

#: The name of a type of job, or of a queue.
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")

#: Where ``@handler`` leaves its marks on a function.
_MARKS = "__gofer_handlers__"

#: Always registered, so that a first try needs no configuration.
_BUILT_IN = ("worker.handlers.demo",)

#: Seconds that an isolated handler has, once it was told to end, before its process is killed; and
#: those that the kill may take.
KILL_AFTER, _KILL_TIME = 5.0, 1.0

#: msgspec ends the message of a refused field with its place in the document.
_PLACE = re.compile(r" - at `(?:key in )?\$(.*?)`$", re.DOTALL)

Function = TypeVar("Function", bound=Callable[..., object])


class Isolation(StrEnum):
    """Where a handler runs."""

    #: In a worker's own thread.
    THREAD = "thread"
    #: In a child process, which can be killed.
    PROCESS = "process"


class Mark(msgspec.Struct, frozen=True):
    """What ``@handler`` says about a function."""

    type: str
    queue: str | None
    max_attempts: int | None
    timeout: float | None
    backoff: Backoff | None
    isolation: Isolation
    example: object


def handler(
    job_type: str,
    *,
    queue: str | None = None,
    max_attempts: int | None = None,
    timeout: float | None = None,
    backoff: Backoff | None = None,
    isolation: Literal["thread", "process"] = "thread",
    example: object = msgspec.UNSET,
) -> Callable[[Function], Function]:
    """Mark a function ``(ctx, payload) -> JSON value`` as the handler of a type of job.

    The function itself is returned unchanged and nothing is registered globally: a
    :class:`Registry` that loads the module finds the mark. What is None is left to the service's
    defaults; ``timeout`` is in seconds. An annotation on the payload parameter (a dataclass,
    TypedDict or msgspec.Struct) makes the payload checked when the job is submitted.

    ``isolation="process"`` runs the function in a child process: work for the processor runs beside
    the service instead of in its way, a timeout or a cancel kills it if it does not end within 5 s,
    and a crash of the interpreter fails its attempt alone. The process calls one handler after the
    other, so what modules hold in memory stays; it is replaced after an attempt that left threads,
    another working directory, umask, signal handlers or limits behind.

    ``example`` is a payload that ``GET /help`` shows; without it, one is made from the annotation.

    Raises ValueError for a default that makes no sense, TypeError for what is no plain function and
    for an example that JSON cannot hold.
    """
    if not NAME_PATTERN.fullmatch(job_type):
        raise ValueError(f"{job_type!r} is no name for a type: letters, digits and . _ : - (at most 100)")
    if max_attempts is not None and max_attempts < 1:
        raise ValueError(f"max_attempts is {max_attempts}; it must be at least 1")
    if timeout is not None and not (0 < timeout < math.inf):
        raise ValueError(f"timeout is {timeout}; it must be a number of seconds greater than 0")
    if example is not msgspec.UNSET:
        msgspec.json.encode(example)  # raises TypeError for what JSON does not have
    mark = Mark(job_type, queue, max_attempts, timeout, backoff, Isolation(isolation), example)

    def mark_function(function: Function) -> Function:
        _check_callable(function)
        setattr(function, _MARKS, (*getattr(function, _MARKS, ()), mark))
        return function

    return mark_function


def _check_callable(function: Callable[..., object]) -> None:
    if type(function) is not FunctionType or inspect.iscoroutinefunction(function):
        raise TypeError(f"a handler is a plain function (def), not {function!r}")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise TypeError(f"the handler {function.__name__} must take (ctx, payload): {error}") from None


class PayloadDecoder:
    """From a payload's JSON to a value of a type that msgspec knows."""

    def __init__(self, payload_type: Any) -> None:
        """``payload_type``: an annotation; ``Any`` takes every JSON value."""
        self.payload_type = payload_type
        self._decoder = msgspec.json.Decoder(payload_type)

    def __call__(self, raw: msgspec.Raw) -> Any:
        """The decoded payload. Raises InvalidPayload."""
        try:
            return self._decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidPayload([_path_and_message(error)]) from error
        except Exception as error:  # the operator's own code ran: a __post_init__ may raise anything
            raise InvalidPayload([("payload", f"refused with {type(error).__name__}: {error}")]) from error


def _whole(_result: msgspec.Raw) -> bool:
    return False


def _as_it_is(result: msgspec.Raw) -> msgspec.Raw:
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerSpec:
    """A type of job: what runs it, its defaults, and what payload it takes."""

    type: str
    #: Called with the JobContext and the decoded payload; returns the result.
    function: Callable[[JobContext, Any], object]
    #: From the payload's JSON to the function's argument; raises InvalidPayload.
    decode: Callable[[msgspec.Raw], Any]
    #: Every JSON value will do as a payload, so none need be checked.
    takes_anything: bool = False
    #: Defaults for jobs of this type; None leaves them to the service.
    queue: str | None = None
    max_attempts: int | None = None
    timeout: float | None = None
    backoff: Backoff | None = None
    isolation: Isolation = Isolation.THREAD
    #: Seconds that its work may take to end once it was told to, because it is killed if need be.
    #: Nobody gives up on its thread before that; 0 for what nobody can kill.
    stop_time: float = 0.0
    #: One line for people.
    summary: str = ""
    #: The shape of the payload, as an annotation that msgspec knows; Any where there is none to tell.
    #: For people only: what help and corrections are made from. ``decode`` alone decides.
    payload_type: Any = Any
    #: A payload to show to people; UNSET has one made from ``payload_type``.
    example: object = msgspec.UNSET
    #: What is shown as the bare result: text as it is, or JSON.
    bare: Callable[[msgspec.Raw], str | msgspec.Raw] = _as_it_is
    #: Whether a bare result lacks its end, which it does not show by itself.
    is_truncated: Callable[[msgspec.Raw], bool] = _whole

    def check_payload(self, raw: msgspec.Raw) -> None:
        """Raise InvalidPayload, with the path of the bad field, unless the handler takes ``raw``."""
        if not self.takes_anything:
            self.decode(raw)


def _path_and_message(error: Exception) -> tuple[str, str]:
    text = str(error)
    place = _PLACE.search(text)
    if place is None:
        return "payload", text
    return "payload" + place.group(1), text[: place.start()]


class Registry:
    """The handlers of one service. Filled before the service starts and only read afterwards."""

    def __init__(self) -> None:
        """Start with the built-in handlers."""
        self._specs: dict[str, HandlerSpec] = {}
        #: What has been loaded, so that another process can load the same.
        self.modules: list[str] = []
        self.load(_BUILT_IN)

    def load(self, names: Iterable[str]) -> None:
        """Import modules, given by name, as the path of a ``.py`` file or as a directory of such files.

        A directory has a ``/`` in its name; its files whose names begin with ``_`` are for the others to
        import. Raises HandlerImportError (one line that names module and cause) or DuplicateHandler.
        """
        for name in chain.from_iterable(map(_modules, names)):
            # Not isinstance: a module may hold proxies that raise when they are looked at.
            functions = [value for value in list(vars(_import(name)).values()) if type(value) is FunctionType]
            if not any(vars(function).get(_MARKS) for function in functions):
                raise HandlerImportError(f"{name} has no handlers; mark its functions with @handler")
            for function in functions:
                self.add(function)
            self.modules.append(str(Path(name).resolve()) if name.endswith(".py") else name)

    def add(self, function: Callable[..., object]) -> None:
        """Register a function for every type that it is marked with. Raises like ``load``."""
        for mark in vars(function).get(_MARKS, ()):
            known = self._specs.get(mark.type)
            if known is None or known.function is not function:
                self.register(_spec(mark, function))

    def register(self, spec: HandlerSpec) -> None:
        """Add a type of job. Raises DuplicateHandler."""
        known = self._specs.get(spec.type)
        if known is not None:
            raise DuplicateHandler(
                f"two handlers for the type {spec.type!r}: {_origin(known.function)} and {_origin(spec.function)}"
            )
        self._specs[spec.type] = spec

    def get(self, job_type: str) -> HandlerSpec:
        """The handler of a type. Raises UnknownType."""
        spec = self._specs.get(job_type)
        if spec is None:
            raise UnknownType(job_type, self._specs)
        return spec

    def stop_time(self, job_type: str) -> float:
        """``HandlerSpec.stop_time`` of a type; 0 for a type that is not registered."""
        spec = self._specs.get(job_type)
        return 0.0 if spec is None else spec.stop_time

    def types(self) -> list[str]:
        """Every registered type, sorted."""
        return sorted(self._specs)

    def specs(self) -> Iterator[HandlerSpec]:
        """Every registered handler, by type."""
        return (self._specs[job_type] for job_type in self.types())


def _spec(mark: Mark, function: Callable[..., object]) -> HandlerSpec:
    payload_type = _payload_type(function)
    return HandlerSpec(
        type=mark.type,
        function=function,
        decode=PayloadDecoder(payload_type),
        takes_anything=payload_type is Any,
        queue=mark.queue,
        max_attempts=mark.max_attempts,
        timeout=mark.timeout,
        backoff=mark.backoff,
        isolation=mark.isolation,
        stop_time=KILL_AFTER + _KILL_TIME if mark.isolation is Isolation.PROCESS else 0.0,
        summary=(inspect.getdoc(function) or "").partition("\n")[0],
        payload_type=payload_type,
        example=mark.example,
    )


def _origin(function: Callable[..., object]) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _modules(name: str) -> list[str]:
    """The modules that a name stands for: itself, or the handler files of a directory, which may be empty."""
    if "/" not in name or name.endswith(".py"):
        return [name]
    directory = Path(name).resolve()
    try:
        files = sorted(path for path in directory.iterdir() if path.suffix == ".py" and path.name[0] not in "._")
    except OSError as error:
        raise HandlerImportError(f"cannot read the directory of handlers {name!r}: {error.strerror}") from error
    if str(directory) not in sys.path:
        # At the end: no file in there may take the place of a module of Python or of a library.
        sys.path.append(str(directory))
    return [str(path) for path in files]


def _import(name: str) -> ModuleType:
    try:
        return _import_path(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise HandlerImportError(f"cannot import the handler module {name!r}: {_one_line(error)}") from error


def _import_path(path: Path) -> ModuleType:
    """Import a file under a name of its own, known to ``sys.modules`` so that pickling finds its classes."""
    path = path.resolve(strict=True)
    name = "gofer_handlers_" + re.sub(r"\W", "_", str(path.with_suffix("")))
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _payload_type(function: Callable[..., object]) -> Any:
    parameter = list(inspect.signature(function).parameters.values())[:2][-1]
    try:
        annotation = typing.get_type_hints(function, include_extras=True).get(parameter.name, Any)
        if annotation is object:
            return Any
        if isinstance(msgspec.inspect.type_info(annotation), msgspec.inspect.CustomType):
            raise TypeError(f"{annotation!r} is no type that JSON can be checked against")
    except Exception as error:
        raise HandlerImportError(
            f"the payload annotation of the handler {_origin(function)} cannot be used: {_one_line(error)}"
        ) from error
    return annotation


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
