"""How keys look, and what is told from looking at them."""

import re
import string

import pytest

from app import keys
from app.keys import ApiKey, check_name, chosen, digest, is_damaged, new_key, parse_stored, stored

KEY = "gofer_gkpmIj6X2eZNxvrOFX6wQj6KaaoZWatBhM79jPe50P61VyH1e"
ALPHABET = string.digits + string.ascii_letters


def test_a_key_is_a_prefix_43_random_characters_and_a_checksum() -> None:
    assert re.fullmatch(r"gofer_[0-9A-Za-z]{43}[0-9A-Za-z]{6}", new_key())
    assert len({new_key() for _ in range(1000)}) == 1000


def test_a_key_with_little_in_it_has_the_same_length(monkeypatch: pytest.MonkeyPatch) -> None:
    for drawn in (bytes(32), b"\xff" * 32):
        monkeypatch.setattr("secrets.token_bytes", lambda _, drawn=drawn: drawn)
        assert len(new_key()) == len(KEY)
        assert not is_damaged(new_key())


def test_the_checksum_is_that_of_all_that_stands_before_it() -> None:
    """Written down once, so that no later version takes the keys of an earlier one for damaged."""
    body = "gofer_" + "0" * 43

    assert not is_damaged(body + "3tR5aS")


def test_every_mistyped_character_is_noticed() -> None:
    assert not is_damaged(KEY)
    for i in range(len(keys.PREFIX), len(KEY)):
        for other in (ALPHABET[(ALPHABET.index(KEY[i]) + 1) % 62], KEY[i].swapcase(), "-"):
            assert other == KEY[i] or is_damaged(KEY[:i] + other + KEY[i + 1 :])


def test_two_characters_that_changed_places_are_noticed() -> None:
    for i in range(len(keys.PREFIX), len(KEY) - 1):
        swapped = KEY[:i] + KEY[i + 1] + KEY[i] + KEY[i + 2 :]
        assert swapped == KEY or is_damaged(swapped)


@pytest.mark.parametrize("text", [KEY[:-1], KEY + "0", "gofer_", KEY + "\n", KEY[:-1] + "é"])
def test_a_key_that_is_not_all_there_is_damaged(text: str) -> None:
    assert is_damaged(text)


@pytest.mark.parametrize("text", ["", "x" * 55, "GOFER_" + KEY[6:], KEY[6:]])
def test_what_was_never_meant_to_be_a_key_of_ours_is_not_damaged(text: str) -> None:
    assert not is_damaged(text)


def test_what_is_stored_does_not_hold_the_key_and_is_read_back() -> None:
    text = stored(digest(KEY))

    assert re.fullmatch("sha256:[0-9a-f]{64}", text)
    assert KEY[6:] not in text
    assert parse_stored(text) == digest(KEY)


@pytest.mark.parametrize("text", ["", "sha256:", "md5:" + "0" * 64, "sha256:" + "A" * 64, "sha256:" + "0" * 63, KEY])
def test_what_is_no_digest_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="must be sha256: and 64") as caught:
        parse_stored(text)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("text", [KEY, "x" * 20, "pa55-word/with=all+of!it"])
def test_the_key_that_the_operator_chose_may_do_everything(text: str) -> None:
    assert chosen(text) == ApiKey("default", digest(text), frozenset({"read", "submit", "manage"}))


def test_no_chosen_key_is_none() -> None:
    assert chosen("") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x" * 19, "must be 20 to 500 printable ASCII characters without spaces"),
        ("x" * 501, "must be 20 to 500"),
        ("correct horse battery staple", "without spaces"),
        ("pässword-of-some-length", "ASCII"),
        (KEY[:-1], "its checksum is wrong"),
        (KEY + "\n", "its checksum is wrong"),
        (" " + KEY, "without spaces"),
    ],
)
def test_a_chosen_key_that_will_not_do_is_refused_and_not_repeated(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        chosen(text)
    assert text.strip() not in str(caught.value)


@pytest.mark.parametrize("name", ["ci", "nightly_2", "A-Z", "7", "x" * 64])
def test_a_name_is_one_that_toml_takes_without_quotes(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ü", "x" * 65, "ci\n", "default", KEY])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        check_name(name)
