"""The page that shows how everything is done with curl."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from app.help import WIDTH, HelpPage, address_of
from tests.app.conftest import Service, running
from tests.app.conversation import Conversation
from tests.app.keyholder import KeyHolder, bearer
from tests.fake_clock import FakeClock
from worker.registry import HandlerSpec, PayloadDecoder


def spec(job_type: str, payload_type: Any = Any, **more: Any) -> HandlerSpec:
    return HandlerSpec(
        type=job_type,
        function=lambda ctx, payload: None,
        decode=PayloadDecoder(payload_type),
        takes_anything=payload_type is Any,
        payload_type=payload_type,
        **more,
    )


def page(*specs: HandlerSpec, queue: str = "default") -> str:
    return HelpPage(specs, queue).at("http://localhost:8080")


def submissions(text: str) -> list[Any]:
    """What the lines about types submit, as a shell reads them."""
    about_types = text.partition("THE TYPES OF JOB")[2]
    lines = [line.strip().removeprefix("# ") for line in about_types.splitlines() if "curl " in line]
    return [json.loads(shlex.split(line)[4]) for line in lines]


@pytest.fixture(scope="module")
def open_service() -> Iterator[Service]:
    """One that is served under any name, as one with keys is."""
    with running(any_host=True) as service:
        yield service


def test_it_is_text_with_the_address_that_the_client_used(open_service: Service) -> None:
    with Conversation(open_service.port) as client:
        client.send(b"GET /help HTTP/1.1\r\nHost: jobs.example:81\r\n\r\n")
        reply = client.read()

    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "\n  G=http://jobs.example:81\n" in reply.body.decode()


@pytest.mark.parametrize("head", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nHost: $(reboot)\r\n", b"HTTP/1.1\r\nHost:\r\n"])
def test_without_a_name_that_makes_sense_it_is_the_address_that_is_listened_on(
    open_service: Service, head: bytes
) -> None:
    with Conversation(open_service.port) as client:
        client.send(b"GET /help " + head + b"\r\n")
        body = client.read().body.decode()

    assert f"\n  G=http://127.0.0.1:{open_service.port}\n" in body


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]", "[::1]:8080", "a-b.c_d.example"]
)
def test_a_name_that_makes_sense_is_kept(host: str) -> None:
    assert address_of(host, ("127.0.0.1", "80")) == f"http://{host}"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        "a;b",
        "$(id)",
        "`id`",
        "a'b",
        'a"b',
        "a\nb",
        "a/b",
        "u@a",
        "a:",
        "a:1x",
        "[::1",
        "::1",
        "ä",
        "a" * 254,
    ],
)
def test_a_name_that_makes_none_is_not(host: str) -> None:
    assert address_of(host, ("127.0.0.1", "80")) == "http://127.0.0.1:80"


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    assert address_of(None, ("::1", "8080")) == "http://[::1]:8080"


def test_it_tells_of_every_type_and_of_a_queue_that_there_is(shared: Service) -> None:
    body = shared.get("/help").body.decode()

    assert [one["type"] for one in submissions(body)] == shared.engine.registry.types()
    assert '"$G/queues/default/pause"' in body
    assert "{queue}" not in body


def test_the_index_leads_to_it(shared: Service) -> None:
    assert shared.get("/").json["links"]["help"] == "/help"


def test_its_own_lines_fit_into_a_terminal() -> None:
    text = HelpPage([], "default").at("http://localhost:8080", with_key=True)

    assert [line for line in text.splitlines() if len(line) > WIDTH] == []


def test_a_type_comes_with_its_summary_and_a_payload() -> None:
    class Resize(msgspec.Struct):
        width: int

    text = page(spec("resize", Resize, summary="Make a picture\nsmaller."), spec("other"))

    assert "\nresize: Make a picture smaller.\n\n  curl " in text
    assert "\nother\n\n  curl " in text
    assert submissions(text) == [{"type": "resize", "payload": {"width": 1}}, {"type": "other"}]
    assert "places to fill in" not in text


def test_a_long_summary_is_folded() -> None:
    text = page(spec("resize", summary="word " * 100))

    assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_a_line_that_would_be_refused_is_a_comment() -> None:
    class Resize(msgspec.Struct):
        size: Annotated[str, msgspec.Meta(pattern=r"^\d+x\d+$")]

    text = page(spec("resize", Resize))

    assert "\n  # curl " in text
    assert "places to fill in" in text
    assert submissions(text) == [{"type": "resize", "payload": {"size": r"<size: ^\d+x\d+$>"}}]


@pytest.mark.parametrize("text", ["it's", '"', "$G `id` $(id) \\ !x", "a\nb\tc", "\x1b[31m", "ä € 😀", "<a> & | ; #"])
def test_a_payload_passes_through_a_shell_unchanged(text: str) -> None:
    line = next(line for line in page(spec("t", example=text)).splitlines() if '"type": "t"' in line)
    printed = subprocess.run(
        ["/bin/sh", "-c", 'curl() { printf %s "$4"; }\n' + line], capture_output=True, check=True
    ).stdout

    assert json.loads(printed) == {"type": "t", "payload": text}
    assert line.isascii()
    assert line.isprintable()


def test_who_comes_with_a_key_is_told_how_to_send_it(shared: Service, tmp_path: Path) -> None:
    line = '\n  curl() { command curl -H "Authorization: Bearer $KEY" "$@"; }\n'
    holder = KeyHolder(tmp_path)
    key = holder.make("reader", "read")

    with running(gate=holder.gate(FakeClock())) as service:
        assert line in service.get("/help", bearer(key)).body.decode()
    # A service that asks for none does not say that it does, whatever it is sent.
    assert line not in shared.get("/help", bearer(key)).body.decode()


def test_a_query_is_refused(shared: Service) -> None:
    assert shared.get("/help?type=echo").status == 400
