"""The keys file: what it may hold, and what is said of everything else."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from app import keys, keys_file
from app.config import ConfigError
from app.keys import ApiKey

KEY = "gofer_TbFee0g6VVWZE51DwXHaMkxQZA2HuZDjF9OXPYwqzqB1qM8XW"
HASH = keys.stored(keys.digest(KEY))
OTHER = "sha256:5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c"
GOOD = f'hash = "{HASH}", scopes = ["read"]'


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        keys_file.parse(text.encode(), "keys.toml")
    return caught.value.errors


def test_a_line_is_a_key() -> None:
    text = (
        f'# our keys\nci = {{ hash = "{HASH}", scopes = ["submit", "submit:a"], expires = 2027-01-01T02:00:00+02:00 }}'
    )

    assert keys_file.parse(text.encode(), "keys.toml") == [
        ApiKey("ci", keys.digest(KEY), frozenset({"submit", "submit:a"}), datetime(2027, 1, 1, tzinfo=UTC))
    ]


def test_a_table_is_a_key_too() -> None:
    text = f'[ci]\nhash = "{HASH}"\nscopes = ["read"]\n\n[ops]\nhash = "{OTHER}"\nscopes = ["manage"]\n'

    assert [key.name for key in keys_file.parse(text.encode(), "keys.toml")] == ["ci", "ops"]


@pytest.mark.parametrize("expires_at", [None, datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, 1, 2, 3, 4, UTC)])
def test_the_line_that_is_made_for_a_key_is_read_back_as_that_key(expires_at: datetime | None) -> None:
    key = ApiKey("nightly-2", keys.digest(KEY), frozenset({"read", "submit:mail.send"}), expires_at)

    assert keys_file.parse(keys_file.line(key).encode(), "keys.toml") == [key]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ci", "keys.toml: is not TOML: "),
        ("ci = " + "[" * 10_000, "keys.toml: is not TOML: "),
        ("ci = 3", "keys.toml: 'ci': must be a table of hash, scopes, expires"),
        ('ci = "sha256:0"', "keys.toml: 'ci': must be a table"),
        (f"ci = {{ {GOOD}, scope = 1 }}", "keys.toml: 'ci': 'scope': unknown member; did you mean scopes?"),
        (f'"c i" = {{ {GOOD} }}', "keys.toml: 'c i': a name is 1 to 64 letters, digits, _ and -"),
        (f"default = {{ {GOOD} }}", "keys.toml: 'default': this is the name of the key in GOFER_API_KEY"),
        ('ci = { scopes = ["read"] }', "keys.toml: 'ci': hash: must be sha256: and 64"),
        (f'ci = {{ hash = "{HASH}" }}', "keys.toml: 'ci': scopes: must be a list of strings"),
        (f'ci = {{ hash = "{HASH}", scopes = "read" }}', "keys.toml: 'ci': scopes: must be a list of strings"),
        (f'ci = {{ hash = "{HASH}", scopes = [] }}', "keys.toml: 'ci': scopes: at least one scope is needed"),
        (f'ci = {{ hash = "{HASH}", scopes = ["all"] }}', "keys.toml: 'ci': scopes: 'all' is no scope"),
        (f"ci = {{ {GOOD}, expires = 2027-01-01 }}", "keys.toml: 'ci': expires: must be a time with an offset"),
        (f"ci = {{ {GOOD}, expires = 2027-01-01T00:00:00 }}", "keys.toml: 'ci': expires: must be a time with"),
        (f'ci = {{ {GOOD}, expires = "2027-01-01T00:00:00Z" }}', "keys.toml: 'ci': expires: must be a time with"),
        (f"ci = {{ {GOOD}, expires = 9999-12-31T23:00:00-05:00 }}", "keys.toml: 'ci': expires: must lie in the years"),
        (f"a = {{ {GOOD} }}\nb = {{ {GOOD} }}", "keys.toml: a and b have the same hash"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(text: str, message: str) -> None:
    (error,) = errors(text)

    assert error.startswith(message)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    assert len(errors('a = 1\nb = { hash = 2, scopes = ["x"], more = 3 }\nc = { }\n')) == 6


def test_a_file_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not TOML"):
        keys_file.parse(b"\xff", "keys.toml")


@pytest.mark.parametrize(
    "text",
    [
        f'ci = {{ hash = "{KEY}", scopes = ["read"] }}',
        f"{KEY} = {{ {GOOD} }}",
        f"ci = {{ {GOOD}, {KEY} = 1 }}",
        f'ci = {{ hash = "{HASH}", scopes = ["read", "{KEY}"] }}',
        KEY,
    ],
)
def test_a_key_that_stands_in_the_file_by_mistake_is_in_no_error(text: str) -> None:
    assert KEY not in "\n".join(errors(text))


@pytest.mark.parametrize("path", ["/dev/null", "/"])
def test_what_is_no_file_is_not_read(path: str) -> None:
    with pytest.raises(ConfigError, match="is not a file"):
        keys_file.read(Path(path))
