"""Which form of an answer a client gets that accepts some more than others."""

import pytest
from flask import Flask

from app.accept import preferred
from app.errors import Problem

OFFERS = ["application/json", "text/plain"]
JSON, TEXT = OFFERS


def chosen(accept: str | None) -> str:
    headers = {} if accept is None else {"Accept": accept}
    with Flask("test").test_request_context(headers=headers):
        return preferred(OFFERS)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, JSON),
        ("", JSON),
        (",,,", JSON),
        ("*/*", JSON),
        ("text/plain", TEXT),
        ("TEXT/PLAIN", TEXT),
        ("text/plain; charset=utf-8", TEXT),
        ("text/*", TEXT),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        ("text/plain;q=0.5, application/json;q=0.4", TEXT),
        ("text/plain, application/json", JSON),
        ("text/plain, */*;q=0.1", TEXT),
        ("*/*, application/json;q=0", TEXT),
        ("application/json;q=0.2, text/*;q=0.3", TEXT),
    ],
)
def test_the_client_s_preference_decides_and_then_the_order(accept: str | None, media_type: str) -> None:
    assert chosen(accept) == media_type


@pytest.mark.parametrize(
    "accept", ["text/html", "garbage", "application/json;q=0", "*/*;q=0", "text/plain; charset=latin-1"]
)
def test_a_client_that_accepts_nothing_of_it_is_told_what_there_is(accept: str) -> None:
    with pytest.raises(Problem, match="there is: application/json, text/plain") as caught:
        chosen(accept)
    assert caught.value.kind.status == 406
