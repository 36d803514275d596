"""The one page that shows how everything is done with curl, at this very service."""

import json
import re
import shlex
import textwrap
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import UNSET

from app.payload_example import Example, example
from app.version import VERSION
from worker.registry import HandlerSpec

#: Columns of a terminal that the text fits into; a command is never broken for it.
WIDTH = 100

#: What a client may call this service in its Host header and be shown again: nothing that a shell minds.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")

_PAGE = """\
Gofer {version}: background jobs for anyone who can write a line of curl.

Paste this line first; the others use it. (They need curl 7.83. Before that, instead of --json write
-H 'Content-Type: application/json' -d, and take a job's id from the answer.)

  G={address}
{key}
IN ONE LINE: submit, wait up to 60 seconds for the end, and print the result, nothing else. The exit
code is 22 if the job failed. If it has not ended by then, nothing is printed, and it runs on.

  curl -fsS "$G/jobs?wait=60&result=1" --json '{"type": "echo", "payload": {"hello": "world"}}'

STEP BY STEP: submit, and keep where the job is; look at it; follow its log until it ends; then its
result.

  JOB=$(curl -fsSo /dev/null -w '%header{location}' "$G/jobs" \\
    --json '{"type": "sleep", "payload": 2}')
  curl -sS "$G$JOB"
  curl -sSN "$G$JOB/logs?follow=1"
  curl -fsS "$G$JOB/result?wait=60"

ONLY ONCE: sent again with the same key, it is not run again; the answer is the first job.

  curl -sS "$G/jobs" -H 'Idempotency-Key: order-42' --json '{"type": "echo", "payload": 42}'

LATER, OR NOT AT ALL: a job for another time; cancelled; tried again; its attempts; deleted.

  JOB=$(curl -fsSo /dev/null -w '%header{location}' "$G/jobs" \\
    --json '{"type": "echo", "run_at": "2099-12-31T22:00:00Z"}')
  curl -sS -X POST "$G$JOB/cancel"
  curl -sS -X POST "$G$JOB/retry"
  curl -sS "$G$JOB?wait=60"
  curl -sS "$G$JOB/attempts"
  curl -sS -X DELETE "$G$JOB"

MANY: up to 1,000 jobs at once, all of them or none; then those that there are, newest first, by
status, type, queue or tag.

  curl -sS "$G/jobs/batch" --json '{"jobs": [{"type": "echo"}, {"type": "echo", "tags": ["b"]}]}'
  curl -sS "$G/jobs?status=completed&tag=b&limit=20"

QUEUES: how much waits in each; begin nothing more; go on.

  curl -sS "$G/queues"
  curl -sS -X POST "$G/queues/{queue}/pause"
  curl -sS -X POST "$G/queues/{queue}/resume"

THE SERVICE: whether it takes and runs jobs; what it is doing; every error that it may answer with.

  curl -sS "$G/ready"
  curl -sS "$G/stats"
  curl -sS "$G/problems"

A SUBMISSION is {"type": …} and, all optional, "payload" (any JSON value), "queue", "priority" (-100
to 100, higher first), "max_attempts" (1 to 100), "timeout" (seconds of one attempt), "run_at" (a
time with its offset from UTC), "tags" (a list), and "backoff" ({"base": 1, "factor": 2, "cap": 60},
in seconds).

WHEN SOMETHING IS WRONG with it, the answer says where, and what is allowed. Its fix, where there is
one, is the whole body as it was most likely meant: send that. (With -f curl hides such answers,
with --fail-with-body in its place it does not.)

THE TYPES OF JOB of this service, and a payload for each. README.md and docs/ say more about them.
"""

_KEY = """
This service asks for a key: put yours into KEY, and paste this line, too, which sends it along.

  curl() { command curl -H "Authorization: Bearer $KEY" "$@"; }
"""

_PLACES = "Lines that begin with # have places to fill in: put values of your own instead of <…>."


def address_of(host: str | None, listener: tuple[str, str], scheme: str = "http") -> str:
    """Where a client finds the service: as its Host header has it, if that makes sense; else where it listens.

    ``listener``: host and port. ``scheme``: that of the client's request.
    """
    if host is not None and _HOST.fullmatch(host):
        return f"{scheme}://{host}"
    name, port = listener
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


class HelpPage:
    """The page; all of it but the address is made once, since handlers and queues do not change."""

    def __init__(self, specs: Iterable[HandlerSpec], queue: str) -> None:
        """``specs``: the types of job, in the order of the page. ``queue``: the name of one to show."""
        self._page = _PAGE.replace("{version}", VERSION).replace("{queue}", queue)
        self._types = "\n" + "\n".join(_types(specs))

    def at(self, address: str, *, with_key: bool = False) -> str:
        """The page of a service that is found at ``address``, for a reader who came with a key or without."""
        return self._page.replace("{address}", address).replace("{key}", _KEY if with_key else "") + self._types


def _types(specs: Iterable[HandlerSpec]) -> Iterator[str]:
    """The part about the types, line by line."""
    shown = [(spec, example(spec)) for spec in specs]
    if not all(payload.is_complete for _, payload in shown):
        yield from (_PLACES, "")
    for spec, payload in shown:
        title = f"{spec.type}: {spec.summary}" if spec.summary else spec.type
        yield from textwrap.wrap(" ".join(title.split()), WIDTH)
        yield from ("", f"  {_command(spec, payload)}", "")


def _command(spec: HandlerSpec, payload: Example) -> str:
    """The line that submits a job; a comment while it would be refused, so that nobody runs it by mistake."""
    submission = {"type": spec.type}
    if payload.payload is not UNSET:
        submission["payload"] = msgspec.to_builtins(payload.payload)
    # What is not ASCII is escaped: a terminal is to show all of it, and obey none of it.
    command = f'curl -sS "$G/jobs" --json {shlex.quote(json.dumps(submission))}'
    return command if payload.is_complete else f"# {command}"
