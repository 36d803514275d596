"""What makes the container: that the files agree with each other, with the settings and with the README.

Whether the image builds and runs is tried by ``python3 -m scripts.container``, which takes some minutes and root.
"""

import platform
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from app.config import Config
from scripts.container import engine
from scripts.container.steps import readme

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "compose.yaml").read_text()

#: hadolint's wheels are for this alone.
LINTED = sys.platform == "linux" and platform.machine() == "x86_64"


@pytest.mark.skipif(not LINTED, reason="there is no wheel of hadolint for this machine")
def test_hadolint_has_nothing_to_say() -> None:
    linter = Path(sys.executable).with_name("hadolint")

    done = subprocess.run([linter, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_both_stages_begin_with_what_the_trial_puts_in_the_place_of() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)

    assert {f"docker.io/library/{base}" for base in bases} == {engine.BASE}


def test_every_setting_that_is_named_is_one() -> None:
    named = set(re.findall(r"\bGOFER_[A-Z_]+", DOCKERFILE + COMPOSE))

    assert named <= {f"GOFER_{setting.name.upper()}" for setting in fields(Config)}
    assert "GOFER_API_KEY" in named


def test_the_image_listens_on_the_port_that_is_exposed() -> None:
    """It names none, so that PORT is honoured, too."""
    default = next(setting.metadata["default"] for setting in fields(Config) if setting.name == "port")

    assert f"\nEXPOSE {default}\n" in DOCKERFILE
    assert "GOFER_PORT" not in DOCKERFILE


@pytest.mark.parametrize("name", ["build", "run", "stop", "end", "compose", "derived"])
def test_the_readme_has_the_commands_that_are_tried(name: str) -> None:
    assert readme(f"docker-{name}").startswith(("docker ", "export "))


def test_the_readme_and_the_compose_file_lock_away_the_same() -> None:
    options = readme("docker-run")

    for option, entry in {
        "--read-only": "read_only: true",
        "--tmpfs /tmp": "tmpfs:\n      - /tmp\n",
        "--cap-drop ALL": "cap_drop:\n      - ALL\n",
        "--security-opt no-new-privileges": "security_opt:\n      - no-new-privileges:true\n",
        "--publish 8080:8080": 'ports:\n      - "8080:8080"\n',
        "--stop-timeout 30": "stop_grace_period: 30s",
    }.items():
        assert option in options
        assert entry in COMPOSE
