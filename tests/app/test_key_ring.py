"""Which keys are in force, and how a change of the file comes about."""

import logging
import os
from pathlib import Path

import pytest

from app.config import ConfigError
from app.key_ring import KeyRing
from app.keys import chosen, digest, new_key
from tests.app.keyholder import KeyHolder
from tests.fake_clock import FakeClock
from tests.store.race import race

OWN = chosen("the operator's own-key".replace(" ", "-"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def holder(tmp_path: Path) -> KeyHolder:
    return KeyHolder(tmp_path)


def name_of(ring: KeyRing, key: str) -> str | None:
    """Whose key it is."""
    found = ring.find(key)
    return found.name if found else None


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_keys_of_both_places_are_found(holder: KeyHolder, clock: FakeClock) -> None:
    ci, ops = holder.make("ci", "submit"), holder.make("ops", "manage")
    ring = KeyRing(clock, OWN, holder.path)

    assert [name_of(ring, key) for key in (ci, ops, "the-operator's-own-key")] == ["ci", "ops", "default"]
    assert [name_of(ring, key) for key in (new_key(), "", ci[:-1], ci + "0", ci.upper(), "\xff")] == [None] * 6


def test_the_own_key_needs_no_file(clock: FakeClock) -> None:
    ring = KeyRing(clock, OWN)
    clock.advance(10)

    assert name_of(ring, "the-operator's-own-key") == "default"


def test_the_file_is_found_whatever_the_working_directory_becomes(
    holder: KeyHolder, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler may change it, and a revoked key must not stay in force for that."""
    ci = holder.make("ci", "submit")
    holder.make("ops", "manage")
    monkeypatch.chdir(tmp_path)
    ring = KeyRing(clock, None, holder.path.relative_to(tmp_path))
    monkeypatch.chdir("/")
    holder.revoke("ci")
    clock.advance(10)

    assert name_of(ring, ci) is None


def test_a_new_key_is_in_force_within_a_second_and_a_revoked_one_is_not(holder: KeyHolder, clock: FakeClock) -> None:
    ci = holder.make("ci", "submit")
    ring = KeyRing(clock, None, holder.path)
    ops = holder.make("ops", "manage")
    holder.revoke("ci")

    clock.advance(0.9)
    assert (name_of(ring, ci), name_of(ring, ops)) == ("ci", None)
    clock.advance(0.1)
    assert (name_of(ring, ci), name_of(ring, ops)) == (None, "ops")


def test_a_change_in_place_with_the_old_time_and_size_is_noticed(holder: KeyHolder, clock: FakeClock) -> None:
    old, new = holder.make("ci", "submit"), new_key()
    ring = KeyRing(clock, None, holder.path)
    before = holder.path.stat()
    holder.path.write_text(holder.path.read_text().replace(digest(old).hex(), digest(new).hex()))
    os.utime(holder.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    clock.advance(1)

    after = holder.path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    assert (name_of(ring, old), name_of(ring, new)) == (None, "ci")


def test_a_file_that_stays_as_it_is_is_not_read_again(
    holder: KeyHolder, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    ci = holder.make("ci", "submit")
    ring = KeyRing(clock, None, holder.path)
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            clock.advance(1)
            ring.find(ci)
        assert caplog.records == []
        holder.make("ops", "manage")
        for _ in range(5):
            clock.advance(1)
            ring.find(ci)

    (record,) = caplog.records
    assert (record.getMessage(), vars(record)["keys"]) == ("the keys file was read again", "ci,ops")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_text("ci = 3"), "'ci': must be a table"),
        (lambda path: path.write_text(""), "holds no key"),
        (lambda path: path.unlink(), "No such file or directory"),
        (lambda path: (path.unlink(), path.mkdir()), "is not a file"),
    ],
)
def test_a_version_that_cannot_be_used_changes_nothing_and_is_logged_once(
    holder: KeyHolder, clock: FakeClock, caplog: pytest.LogCaptureFixture, spoil: object, message: str
) -> None:
    ci = holder.make("ci", "submit")
    ring = KeyRing(clock, None, holder.path)
    assert callable(spoil)
    spoil(holder.path)
    for _ in range(5):
        clock.advance(1)
        assert name_of(ring, ci) == "ci"

    (complaint,) = complaints(caplog)
    assert complaint.startswith("the keys file cannot be used, so the keys before stay in force: ")
    assert message in complaint


def test_each_wrong_version_is_logged_and_a_right_one_ends_it(
    holder: KeyHolder, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    ci = holder.make("ci", "submit")
    ring = KeyRing(clock, None, holder.path)
    for text in ("one", "three"):
        holder.path.write_text(text)
        clock.advance(1)
        ring.find(ci)
    holder.path.unlink()
    clock.advance(1)
    ring.find(ci)
    ops = holder.make("ops", "manage")
    clock.advance(1)

    assert name_of(ring, ops) == "ops"
    assert len(complaints(caplog)) == 3


def test_a_link_may_be_switched_to_and_fro_between_versions(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """As containers are given files: what comes back has all the times that it had before."""
    for name in ("good", "wrong"):
        (tmp_path / name).mkdir()
    ci = KeyHolder(tmp_path / "good").make("ci", "submit")
    (tmp_path / "wrong" / "keys.toml").write_text("wrong")
    link = tmp_path / "current"
    link.symlink_to("good")
    ring = KeyRing(clock, None, link / "keys.toml")
    for target in ("wrong", "good", "wrong", "good", "nowhere", "good", "nowhere", "good"):
        link.unlink()
        link.symlink_to(target)
        for _ in range(2):
            clock.advance(1)
            assert name_of(ring, ci) == "ci"

    assert ["TOML" in complaint for complaint in complaints(caplog)] == [True, True, False, False]


def test_no_thread_misses_a_key_while_the_file_changes(holder: KeyHolder, clock: FakeClock) -> None:
    ci = holder.make("ci", "submit")
    ring = KeyRing(clock, None, holder.path)

    def change() -> bool:
        for i in range(50):
            holder.make("other", "read") if i % 2 else holder.path.write_text("wrong")
            clock.advance(1)
        return True

    def look() -> bool:
        return all(name_of(ring, ci) == "ci" for _ in range(500))

    assert all(race([change, look, look, look]))


def test_an_emptied_file_revokes_its_keys_where_there_is_another(holder: KeyHolder, clock: FakeClock) -> None:
    ci = holder.make("ci", "submit")
    ring = KeyRing(clock, OWN, holder.path)
    holder.revoke("ci")
    clock.advance(1)

    assert (name_of(ring, ci), name_of(ring, "the-operator's-own-key")) == (None, "default")


def test_a_start_without_any_key_is_refused(holder: KeyHolder, clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match=r"GOFER_KEYS_FILE: .*keys\.toml: holds no key; make one with"):
        KeyRing(clock, None, holder.path)
    KeyRing(clock, OWN, holder.path)


def test_a_start_with_a_wrong_file_is_refused_with_all_that_is_wrong(holder: KeyHolder, clock: FakeClock) -> None:
    holder.path.write_text("a = 1\nb = 2\n")
    with pytest.raises(ConfigError) as caught:
        KeyRing(clock, OWN, holder.path)

    assert len(caught.value.errors) == 2
    assert all(error.startswith(f"GOFER_KEYS_FILE: {holder.path}: ") for error in caught.value.errors)


def test_a_start_without_the_file_is_refused(tmp_path: Path, clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match=r"GOFER_KEYS_FILE: cannot read .*nowhere.*: No such file or directory"):
        KeyRing(clock, OWN, tmp_path / "nowhere")


def test_one_key_in_both_places_is_refused(holder: KeyHolder, clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match="ci has the hash of the key in GOFER_API_KEY"):
        KeyRing(clock, chosen(holder.make("ci", "read")), holder.path)
