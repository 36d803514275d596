"""Clients that submit, read and steer jobs of a service that dies under them, and tell the ledger."""

import contextlib
import http.client
import json
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.soak.ledger import Fate, Ledger, Submission
from tests.soak.submissions import Submissions
from tests.system.service import PATIENCE, Answer


class Gone(Exception):
    """The service was gone before it answered."""


class Connection:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request. Raises Gone."""
        data = None if body is None else json.dumps(body).encode()
        try:
            self._http.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            response = self._http.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        except (OSError, http.client.HTTPException) as error:
            raise Gone(repr(error)) from error

    def close(self) -> None:
        """Close it."""
        self._http.close()


class Client:
    """One client, who lives through the crashes. It steers the jobs that it has submitted."""

    def __init__(self, ledger: Ledger, submissions: Submissions, rng: random.Random) -> None:
        self._ledger = ledger
        self._submissions = submissions
        self._rng = rng
        self._connection = Connection(0)
        # The newest of its jobs and of its submissions with a key.
        self._ids: deque[str] = deque(maxlen=60)
        self._keyed: deque[Submission] = deque(maxlen=30)
        # What it was sending when the service died.
        self._open: Submission | None = None
        self._acts: list[Callable[[], None]] = [
            *[self._submit] * 10,
            *[self._submit_batch] * 1,
            *[self._submit_again] * 2,
            *[self._cancel] * 4,
            *[self._retry] * 4,
            *[self._delete] * 2,
            *[self._read_one] * 3,
            *[self._read_page] * 1,
        ]

    def work(self, connection: Connection) -> None:
        """Do one thing after the other until the service is gone. Raises Gone."""
        self._connection = connection
        self.settle(connection)
        while True:
            self._rng.choice(self._acts)()

    def settle(self, connection: Connection) -> None:
        """See what came of the submission that was under way when the service died. Raises Gone."""
        self._connection = connection
        if self._open is None:
            return
        if self._open.key is not None and self._rng.random() < 0.5:
            self._send(self._open, again=True)
            return
        asked_at = self._ledger.now()
        answer = connection.request("GET", f"/jobs?tag={self._open.tag}&limit=1000")
        if self._expect(answer, 200):
            self._ledger.settled(self._open, asked_at, answer.json["jobs"])
            self._open = None

    def _submit(self) -> None:
        job = self._submissions.draw(self._rng)
        self._send(self._ledger.submitting([job], keyed=self._rng.random() < 0.5))

    def _submit_batch(self) -> None:
        jobs = [self._submissions.draw(self._rng) for _ in range(self._rng.randint(2, 10))]
        self._send(self._ledger.submitting(jobs, keyed=self._rng.random() < 0.5))

    def _submit_again(self) -> None:
        known = [submission for submission in self._keyed if not submission.was_thinned]
        if known:
            self._send(self._rng.choice(known), again=True)

    def _send(self, submission: Submission, *, again: bool = False) -> None:
        self._open = submission if submission.fate is Fate.UNKNOWN else None
        headers = {"Idempotency-Key": submission.key} if submission.key is not None else {}
        is_batch = len(submission.jobs) > 1
        asked_at = self._ledger.now()
        if is_batch:
            answer = self._connection.request("POST", "/jobs/batch", {"jobs": submission.jobs}, headers)
        else:
            if self._rng.random() < 0.05:
                headers["Prefer"] = "wait=1"
            answer = self._connection.request("POST", "/jobs", submission.jobs[0], headers)
        if self._expect(answer, 200, 201):
            jobs = answer.json["jobs"] if is_batch else [answer.json]
            replayed = "Idempotency-Replayed" in answer.headers
            self._ledger.accepted(submission, asked_at, jobs, replayed=replayed)
            self._remember(submission)
            self._open = None
        elif not again:
            self._ledger.refused(submission)
            self._open = None

    def _remember(self, submission: Submission) -> None:
        self._ids.extend(submission.ids)
        if submission.key is not None:
            self._keyed.append(submission)

    def _cancel(self) -> None:
        if job_id := self._any():
            self._ledger.cancelling(job_id)
            asked_at = self._ledger.now()
            answer = self._connection.request("POST", f"/jobs/{job_id}/cancel")
            if self._expect(answer, 200, 202, 404, 409):
                if answer.status in (200, 202):
                    self._ledger.cancelled(asked_at, answer.json, at_once=answer.status == 200)
                elif answer.status == 404:
                    self._ledger.missed(asked_at, job_id)

    def _retry(self) -> None:
        if job_id := self._any():
            self._ledger.retrying(job_id)
            asked_at = self._ledger.now()
            try:
                answer = self._connection.request("POST", f"/jobs/{job_id}/retry")
            except Gone:
                self._ledger.retry_unknown(job_id)
                raise
            if not self._expect(answer, 200, 404, 409):
                self._ledger.retry_unknown(job_id)
            elif answer.status == 200:
                self._ledger.retried(asked_at, answer.json)
            elif answer.status == 409:
                self._ledger.not_retried(job_id)
            else:
                self._ledger.missed(asked_at, job_id)

    def _delete(self) -> None:
        if job_id := self._any():
            may_be_gone = self._ledger.deleting(job_id)
            answer = self._connection.request("DELETE", f"/jobs/{job_id}")
            if not self._expect(answer, 204, 404, 409):
                return
            if answer.status == 404 and not may_be_gone:
                self._ledger.accuse("an acknowledged job is gone", job_id)
            if answer.status == 409:
                self._ledger.not_deleted(job_id)
            else:
                self._ledger.deleted(job_id)
                self._ids.remove(job_id)

    def _read_one(self) -> None:
        if job_id := self._any():
            asked_at = self._ledger.now()
            answer = self._connection.request("GET", f"/jobs/{job_id}")
            if answer.status == 404:
                self._ledger.missed(asked_at, job_id)
            elif self._expect(answer, 200):
                self._ledger.saw(asked_at, [answer.json])

    def _read_page(self) -> None:
        asked_at = self._ledger.now()
        answer = self._connection.request("GET", "/jobs?limit=100")
        if self._expect(answer, 200):
            self._ledger.saw(asked_at, answer.json["jobs"])

    def _any(self) -> str | None:
        return self._rng.choice(self._ids) if self._ids else None

    def _expect(self, answer: Answer, *statuses: int) -> bool:
        """Whether the answer is one of these. Else it must be the refusal of a service that stops."""
        if answer.status in statuses:
            return True
        if answer.status != 503 or answer.json["type"] not in ("/problems/shutting_down", "/problems/backlog_full"):
            self._ledger.accuse("an answer that nobody expects", answer)
        return False


class Crowd:
    """Clients at work at the same time."""

    def __init__(self, clients: list[Client], ledger: Ledger) -> None:
        self._clients = clients
        self._ledger = ledger

    @contextlib.contextmanager
    def at_work(self, port: int, doomed: threading.Event) -> Iterator[None]:
        """Have all of them work until the service is gone, which is fine once ``doomed`` is set."""
        threads = [threading.Thread(target=self._work, args=(client, port, doomed)) for client in self._clients]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for thread in threads:
                thread.join()

    def _work(self, client: Client, port: int, doomed: threading.Event) -> None:
        connection = Connection(port)
        try:
            client.work(connection)
        except Gone as gone:
            if not doomed.is_set():
                self._ledger.accuse("a request got no answer though nobody had killed the service", gone)
        except Exception as error:
            self._ledger.accuse("a client cannot make sense of an answer", repr(error))
            raise
        finally:
            connection.close()

    def settle(self, port: int) -> None:
        """Have all see what came of what they were sending last."""
        connection = Connection(port)
        try:
            for client in self._clients:
                client.settle(connection)
        finally:
            connection.close()


def every_job(connection: Connection) -> Iterator[dict[str, Any]]:
    """Every job of the service, newest first."""
    path: str | None = "/jobs?limit=1000"
    while path is not None:
        page = connection.request("GET", path).json
        yield from page["jobs"]
        path = page["next"]
