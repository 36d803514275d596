"""Handlers that run in child processes, and do there what would end a service."""

import ctypes
import logging
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from worker import Cancelled, Fail, JobContext, Retry, handler

#: What this process has seen so far, which a new one has not.
_seen: list[object] = []


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """A payload of its own class."""

    number: int


class Reason(Fail):
    """A handler's own kind of Fail."""


@handler("whoami", isolation="process")
def whoami(_ctx: JobContext, payload: object) -> dict[str, object]:
    """Which process this is, and how many payloads it had."""
    _seen.append(payload)
    return {"pid": os.getpid(), "session": os.getsid(0), "seen": len(_seen), "payload": payload}


@handler("double", isolation="process")
def double(_ctx: JobContext, payload: Order) -> int:
    """Need the payload decoded."""
    return 2 * payload.number


@handler("context", isolation="process")
def context(ctx: JobContext, _payload: object) -> dict[str, object]:
    """What the context tells."""
    return {
        "id": ctx.job_id,
        "type": ctx.type,
        "attempt": ctx.attempt,
        "traceparent": ctx.traceparent,
        "deadline": ctx.deadline,
    }


@handler("talk", isolation="process")
def talk(ctx: JobContext, payload: str) -> None:
    """Say something, and wait until the file ``payload`` is there."""
    ctx.log("hello")
    ctx.log("x" * 10_000, level="warning")
    ctx.progress(0.5, "half \udcff")
    while not Path(payload).exists():
        time.sleep(0.005)


@handler("chatter", isolation="process")
def chatter(ctx: JobContext, payload: int) -> None:
    """Log without end, from two threads."""

    def log() -> None:
        for number in range(payload):
            ctx.log(f"{number} {'y' * 100}")

    other = threading.Thread(target=log)
    other.start()
    log()
    other.join()


@handler("complain", isolation="process")
def complain(_ctx: JobContext, payload: str) -> None:
    """Use the loggers and standard output, as modules do that know nothing of Gofer."""
    logging.getLogger("shop.orders").warning("out of %s", payload)
    logging.getLogger("shop.orders").debug("not wanted")
    print("printed", payload)  # noqa: T201


@handler("raise", isolation="process")
def raising(_ctx: JobContext, payload: str) -> None:
    """Raise what the payload says."""
    exceptions: dict[str, BaseException] = {
        "ValueError": ValueError("bad \udcff value"),
        "Fail": Fail("no such customer"),
        "Reason": Reason("own"),
        "Retry": Retry(after=1234.0, reason="later"),
        "Cancelled": Cancelled("enough"),
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "MemoryError": MemoryError(),
    }
    raise exceptions[payload]


@handler("return", isolation="process")
def returning(_ctx: JobContext, payload: str) -> object:
    """Return what cannot be kept."""
    return {"nan": float("nan"), "large": "x" * 2_000_000, "set": {1}, "object": object()}[payload]


@handler("large", isolation="process")
def large(_ctx: JobContext, payload: str) -> str:
    """Return the payload, whatever its size."""
    return payload


@handler("die", isolation="process")
def die(ctx: JobContext, payload: str) -> None:
    """End the process in one of many ways."""
    match payload:
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "close":
            os.closerange(3, 256)
            time.sleep(3600)
        case "exit from a thread":
            threading.Thread(target=os._exit, args=(4,)).start()
            time.sleep(3600)
        case "garbage":
            _write_to_sockets(b"\x05\x00\x00\x00hello and more")
            time.sleep(3600)


def _write_to_sockets(data: bytes) -> None:
    for entry in Path("/proc/self/fd").iterdir():
        if entry.is_socket():
            os.write(int(entry.name), data)


def _write_pids(path: str, *others: int) -> None:
    partial = Path(path + ".new")
    partial.write_text(" ".join(map(str, [os.getpid(), *others])))
    partial.rename(path)


@handler("forge", isolation="process")
def forge(_ctx: JobContext, payload: str) -> None:
    """Send the service a message that looks like one of ours."""
    body = payload.encode()
    _write_to_sockets(struct.pack("<I", len(body)) + body)
    time.sleep(3600)


@handler("busy", isolation="process")
def busy(ctx: JobContext, payload: str) -> None:
    """Keep the interpreter's lock for hours, in C; first write the process's number to the file ``payload``."""
    _write_pids(payload)
    ctx.log("busy")
    pow(7, 10**10)


@handler("spin", isolation="process")
def spin(_ctx: JobContext, payload: str) -> int:
    """Be busy in Python until the file ``payload`` is there."""
    while not Path(payload).exists():
        sum(range(10_000))
    return os.getpid()


@handler("patient", isolation="process")
def patient(ctx: JobContext, payload: str) -> str:
    """Wait to be told to end; ``look`` at it, ``raise`` for it, or end without ever having looked."""
    if payload == "sleep":
        ctx.sleep(3600)
    if payload == "look":
        ctx.log("waiting")
        assert ctx.cancelled.wait(60)
        return "saw it"
    with ctx.cancelled.calling(lambda: None):
        pass
    ctx.log("working")
    while not threading.Event.is_set(ctx.cancelled):
        time.sleep(0.005)
    return "never looked"


@handler("family", isolation="process")
def family(ctx: JobContext, payload: str) -> None:
    """Start a program, leave both numbers in the file ``payload``, and be deaf."""
    program = subprocess.Popen(["sleep", "3600"])
    _write_pids(payload, program.pid)
    ctx.log("started")
    while True:
        time.sleep(1)


@handler("distant-family", isolation="process")
def distant_family(ctx: JobContext, payload: str) -> None:
    """Start a program in a session of its own that starts another one; leave all numbers; be deaf."""
    script = "sleep 3600 & echo $!; wait"
    program = subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE)
    assert program.stdout is not None
    _write_pids(payload, program.pid, int(program.stdout.readline()))
    ctx.log("started")
    while True:
        time.sleep(1)


@handler("leave-program", isolation="process")
def leave_program(_ctx: JobContext, _payload: object) -> list[int]:
    """Start a program and leave it."""
    return [os.getpid(), subprocess.Popen(["sleep", "3600"]).pid]


@handler("fork", isolation="process")
def fork(ctx: JobContext, _payload: object) -> list[int]:
    """Let a copy of this process come back from the handler, too."""
    parent = os.getpid()
    copy = os.fork()
    if copy == 0:
        ctx.log("from the copy")
    else:
        os.waitpid(copy, 0)
    return [parent, os.getpid()]


@handler("haunt", isolation="process")
def haunt(_ctx: JobContext, _payload: object) -> None:
    """Have a copy of this process, in a session of its own, write nonsense to the service for ever."""
    if os.fork() == 0:
        os.setsid()
        try:
            while True:
                _write_to_sockets(b"\xff" * 1000)
        finally:
            os._exit(0)
    time.sleep(3600)


@handler("fork-while-logging", isolation="process")
def fork_while_logging(ctx: JobContext, _payload: object) -> int:
    """Log from a copy of this process that was made while another thread was logging; the copy's exit code."""
    stop = threading.Event()

    def log() -> None:
        while not stop.is_set():
            ctx.log("z" * 8000)

    thread = threading.Thread(target=log)
    thread.start()
    codes = set()
    for _ in range(50):
        copy = os.fork()
        if copy == 0:
            ctx.log("from the copy")
            os._exit(7)
        codes.add(os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]))
    stop.set()
    thread.join()
    return codes.pop()


@handler("litter", isolation="process")
def litter(ctx: JobContext, payload: str) -> int:
    """Leave a thread, or another working directory."""
    if payload == "thread":
        threading.Thread(target=_log_for_ever, args=(ctx,), daemon=True).start()
    else:
        os.chdir("/")
    return os.getpid()


def _log_for_ever(ctx: JobContext) -> None:
    while True:
        ctx.log("still here")
        time.sleep(0.001)


@handler("descriptors", isolation="process")
def descriptors(_ctx: JobContext, _payload: object) -> dict[str, Any]:
    """What is open here."""
    links = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links[entry.name] = str(entry.readlink())
        except OSError:
            continue
    return {"links": links, "path": sys.path}
