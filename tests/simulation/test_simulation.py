"""Many seeds, and faults that they must find. In processes of their own, where sets have a fixed order."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]

#: Among which seeds each planted fault is found.
SEEDS_NEEDED = {
    "no-fencing": range(100),
    "claim-before-commit": range(10),
    "lost-wake-up": range(50, 150),
    "lease-not-renewed": range(25),
    "clock-not-followed": range(80, 120),
    "clock-not-noticed": range(150, 250),
    "late-release": range(50),
}


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.soak", "simulation", *arguments]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_500_seeds_break_no_promise() -> None:
    ended = simulate("--seeds", "500", "--processes", "2")

    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("fault", SEEDS_NEEDED)
def test_a_planted_fault_is_found(fault: str) -> None:
    seeds = SEEDS_NEEDED[fault]
    ended = simulate("--from", str(seeds.start), "--seeds", str(len(seeds)), "--planted", fault, "--stop")

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "Error" not in ended.stdout  # By what it does, not because the plant itself does not work.


def test_a_seed_replays_step_by_step() -> None:
    first, second = (simulate("--seeds", "3", "--trace").stdout for _ in range(2))

    assert first.splitlines()[:-1] == second.splitlines()[:-1]


def test_a_broken_seed_is_printed_with_the_command_that_replays_it() -> None:
    found = simulate("--seeds", "100", "--planted", "no-fencing", "--stop").stdout
    command = re.search(r"python -m tests.soak simulation (.*)", found)
    assert command

    replayed = simulate(*command[1].split()).stdout

    assert found.splitlines()[0] in replayed.splitlines()
