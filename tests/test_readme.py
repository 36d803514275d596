"""What the README shows is what there is."""

import re
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from app.config import Config
from worker.errors import InvalidPayload
from worker.registry import Registry

README = Path(__file__).parent.parent.joinpath("README.md").read_text("utf-8")


def block(language: str) -> str:
    """The first code block in a language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_the_table_of_settings_is_that_of_the_configuration() -> None:
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for setting in fields(Config):
        if "default" not in setting.metadata:
            continue  # a table of the file, described elsewhere
        default = setting.metadata["default"]
        shown = f"`{default}`" if default else ""
        rows.append(f"| `GOFER_{setting.name.upper()}` | {shown} | {setting.metadata['meaning']} |")
    table = re.search(r"<!-- settings -->\n(.*)\n<!-- /settings -->", README, re.DOTALL)
    assert table
    assert table[1].splitlines() == rows


def test_the_handler_that_is_shown_can_be_served(tmp_path: Path) -> None:
    module = tmp_path / "thumbnails.py"
    module.write_text(block("python"))
    registry = Registry()
    registry.load([str(module)])
    spec = registry.get("thumbnail")
    assert (spec.max_attempts, spec.timeout) == (3, 60)
    spec.check_payload(msgspec.Raw(b'{"path": "a.png"}'))
    with pytest.raises(InvalidPayload):
        spec.check_payload(msgspec.Raw(b'{"path": 1}'))


def test_the_commands_are_marked_for_those_who_run_them() -> None:
    """``.ci/run`` takes the test command from here."""
    for mark in ("serve-command", "test-command"):
        assert re.search(rf"^<!-- {mark} -->\n```sh\n.+\n```$", README, re.MULTILINE)
