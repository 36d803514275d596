import socket
from collections.abc import Iterator

import pytest

from worker.isolation.errors import Garbled
from worker.isolation.inbox import Inbox
from worker.isolation.messages import Line, framed


class Pair:
    """A connection, with an inbox at one end."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.inbox = Inbox(self.ours, limit=100_000)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def frame(text: str) -> bytes:
    return framed(Line("info", text))


def test_a_message_is_read_without_its_length(pair: Pair) -> None:
    pair.theirs.sendall(frame("hello"))
    assert pair.inbox.read() == [frame("hello")[4:]]


def test_several_messages_may_come_at_once(pair: Pair) -> None:
    pair.theirs.sendall(frame("one") + frame("two") + frame("three")[:-1])
    assert pair.inbox.read() == [frame("one")[4:], frame("two")[4:]]
    pair.theirs.sendall(frame("three")[-1:])
    assert pair.inbox.read() == [frame("three")[4:]]


def test_a_message_may_come_byte_by_byte(pair: Pair) -> None:
    read = []
    for number in frame("slow") + frame("ly"):
        pair.theirs.sendall(bytes([number]))
        read += pair.inbox.read() or []
    assert read == [frame("slow")[4:], frame("ly")[4:]]


def test_what_was_read_stays_what_it_was(pair: Pair) -> None:
    pair.theirs.sendall(frame("first"))
    first = pair.inbox.read()
    pair.theirs.sendall(frame("other"))
    pair.inbox.read()
    assert first == [frame("first")[4:]]


def test_a_message_may_be_larger_than_what_is_read_at_a_time(pair: Pair) -> None:
    pair.theirs.sendall(frame("x" * 90_000))
    assert pair.inbox.read() == []
    assert pair.inbox.read() == [frame("x" * 90_000)[4:]]


def test_nothing_there_is_not_the_end(pair: Pair) -> None:
    with pytest.raises(BlockingIOError):
        pair.inbox.read()


def test_the_end_is_told(pair: Pair) -> None:
    pair.theirs.close()
    assert pair.inbox.read() is None


def test_the_end_is_told_too_if_the_other_side_has_not_read_everything(pair: Pair) -> None:
    pair.ours.sendall(b"unread")
    pair.theirs.close()
    assert pair.inbox.read() is None


def test_a_message_that_is_too_long_is_refused_before_it_is_there(pair: Pair) -> None:
    pair.theirs.sendall(b"\xff\xff\xff\x7f")
    with pytest.raises(Garbled, match="2147483647 bytes"):
        pair.inbox.read()
