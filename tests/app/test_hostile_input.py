"""No input whatsoever gets a 500, a traceback or silence."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.app.conftest import Service
from tests.app.conversation import Conversation

#: The same examples in each run, and few enough that the suite stays quick.
bounded = settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

#: What is said to every kind of mistake, and to what is right by accident.
SANE = {200, 201, 202, 204, 304, 400, 404, 405, 409, 413, 415, 421, 422, 431, 501}

ANY_TEXT = st.text(max_size=30)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | ANY_TEXT
    | st.sampled_from(
        ["echo", "default", "2026-01-05T10:00:00Z", "9999-12-31T23:59:59-23:59", "\ud800", "\x00", 10**309]
    )
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3), max_leaves=8
)
FIELDS = ["payload", "queue", "priority", "max_attempts", "timeout", "run_at", "tags", "backoff", "base", "cap", "jobs"]
SUBMISSIONS = st.fixed_dictionaries(
    {"type": st.sampled_from(["echo", "typed", "sleep", "fails"]) | VALUES},
    optional=dict.fromkeys(FIELDS, VALUES) | {"\ud800": VALUES, "": VALUES},
)
JSON_BODIES = (SUBMISSIONS | st.fixed_dictionaries({"jobs": st.lists(SUBMISSIONS, max_size=3) | VALUES}) | VALUES).map(
    lambda value: json.dumps(value).encode()
)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """JSON with a few bytes put in, taken out or replaced."""
    body = bytearray(draw(JSON_BODIES))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(body)))
        body[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(body)


BODIES = JSON_BODIES | broken() | st.binary(max_size=50)
#: What a header may hold on the wire, as WSGI sees it.
HEADER = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40)
CONTENT_TYPES = st.sampled_from(["application/json", "application/json; charset=utf-8", 'application/json; charset="'])


@pytest.fixture(scope="module")
def errors_logged() -> Iterator[list[str]]:
    """What was logged as an error while the tests of this module ran."""
    records: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    yield records
    logging.getLogger().removeHandler(handler)


def ask(service: Service, method: str, path: str, query: str = "", body: bytes = b"", **headers: str) -> int:
    """Call the application as waitress would, without the network in between; return the status."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.url_scheme": "http",
        "wsgi.errors": io.StringIO(),
        **headers,
    }
    seen: list[tuple[str, dict[str, str]]] = []
    parts = service.server.application(environ, lambda status, head: seen.append((status, dict(head))))
    answer = b"".join(parts)
    ((line, head),) = seen
    status = int(line[:3])
    if status >= 400:
        assert head["Content-Type"] == "application/problem+json"
        assert method == "HEAD" or json.loads(answer)["status"] == status
    return status


@bounded
@given(path=st.sampled_from(["/jobs", "/jobs/batch"]), body=BODIES)
def test_any_body_gets_an_answer_that_makes_sense(
    shared: Service, errors_logged: list[str], path: str, body: bytes
) -> None:
    assert ask(shared, "POST", path, body=body) in {201, 400, 422}
    assert errors_logged == []


@bounded
@given(
    content_type=CONTENT_TYPES | HEADER,
    key=HEADER,
    prefer=HEADER | st.sampled_from(["wait=99999999999", "wait=-0", 'wait="0', "wait=0;", "wait=,,wait"]),
    host=HEADER,
    length=st.sampled_from(["16", "", "x", "-1", "99999999999999999999", "1_6", "\xb2"]),
    encoding=HEADER,
)
def test_any_headers_get_an_answer_that_makes_sense(
    shared: Service,
    errors_logged: list[str],
    content_type: str,
    key: str,
    prefer: str,
    host: str,
    length: str,
    encoding: str,
) -> None:
    headers = {"CONTENT_TYPE": content_type, "HTTP_PREFER": prefer, "HTTP_HOST": host, "CONTENT_LENGTH": length}
    optional = {"HTTP_IDEMPOTENCY_KEY": key, "HTTP_CONTENT_ENCODING": encoding}
    body = b'{"type": "echo"}'

    assert ask(shared, "POST", "/jobs", body=body, **headers, **{k: v for k, v in optional.items() if v}) in SANE
    assert ask(shared, "GET", "/queues", HTTP_HOST=host, HTTP_ACCEPT=encoding, HTTP_COOKIE=key) in SANE
    assert errors_logged == []


@bounded
@given(
    names=st.lists(st.sampled_from(["limit", "cursor", "status", "tag", "wait", "created_after"]) | ANY_TEXT),
    data=st.data(),
)
def test_any_query_string_gets_an_answer_that_makes_sense(
    shared: Service, errors_logged: list[str], names: list[str], data: st.DataObject
) -> None:
    texts = [data.draw(ANY_TEXT | st.sampled_from(["0", "1e3", "2026-01-05T10:00:00Z", "pending"])) for _ in names]
    pairs = [
        f"{quote(name, errors='ignore')}={quote(text, errors='replace')}"
        for name, text in zip(names, texts, strict=True)
    ]
    raw = data.draw(HEADER)

    for query in ("&".join(pairs), raw):
        for path in ("/jobs", "/jobs/0192f0c1-0000-7000-8000-000000000000", "/stats"):
            assert ask(shared, "GET", path, query) in {200, 400, 404}
    assert errors_logged == []


@bounded
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "HEAD", "PUT", "OPTIONS", "TRACE", "X"]),
    # WSGI hands the bytes of a path over as Latin-1.
    parts=st.lists(
        st.sampled_from(["jobs", "queues", "default", "pause", "cancel", "logs", "batch", "0" * 36, "..", ""])
        | st.binary(max_size=40).map(lambda part: part.decode("latin-1")),
        max_size=4,
    ),
    etag=HEADER,
)
def test_any_path_gets_an_answer_that_makes_sense(
    shared: Service, errors_logged: list[str], method: str, parts: list[str], etag: str
) -> None:
    status = ask(shared, method, "/" + "/".join(parts), HTTP_IF_NONE_MATCH=etag, body=b"{}")

    if parts[1:] == ["default", "pause"]:
        ask(shared, "POST", "/queues/default/resume")
    assert status in SANE
    assert errors_logged == []


@settings(bounded, max_examples=100)
@given(
    start=st.sampled_from(
        [b"", b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n", b"POST /jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"]
    ),
    noise=st.lists(
        st.sampled_from([b"\r\n", b"\r\n\r\n", b":", b" ", b"HTTP/1.1", b"%", b"\x00"]) | st.binary(max_size=20)
    ),
)
def test_any_bytes_on_the_wire_leave_the_server_alive(
    shared: Service, errors_logged: list[str], start: bytes, noise: list[bytes]
) -> None:
    with Conversation(shared.port) as client:
        client.send(start + b"".join(noise) + b"\r\n\r\n")
    with Conversation(shared.port) as client:
        assert client.ask("GET", "/health").status == 200
    assert errors_logged == []
