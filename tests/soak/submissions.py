"""The jobs that long runs submit: ordinary, failing, isolated ones, and commands."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

_HANDLERS = Path(__file__).with_name("handlers.py")

_BACKOFF = {"base": 0.01, "factor": 2, "cap": 0.1}

#: What the command does is what the handlers do.
_COMMAND = """
[commands.soak-command]
argv = ["sh", "-c", '''
trap "exit 143" TERM
echo "begin $GOFER_JOB_ID $GOFER_ATTEMPT" >> '{trace}'
sleep $0
echo "end $GOFER_JOB_ID $GOFER_ATTEMPT" >> '{trace}'
echo "{{\\"id\\": \\"$GOFER_JOB_ID\\", \\"attempt\\": $GOFER_ATTEMPT}}"
exit $1
''', "{{seconds}}", "{{code}}"]
env.SOAK = "{directory}"
[commands.soak-command.params]
seconds = {{ pattern = '0\\.[0-9]{{1,4}}' }}
code = {{ pattern = '[0-9]+' }}
"""


class Submissions:
    """Makes submissions for a service in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.trace = directory / "trace"
        self.config = directory / "gofer.toml"
        self.config.write_text(_COMMAND.format(trace=self.trace, directory=directory))
        self.trace.touch()

    @property
    def settings(self) -> dict[str, object]:
        """What a service needs to take them."""
        return {"GOFER_HANDLERS": _HANDLERS, "GOFER_CONFIG": self.config, "GOFER_QUEUES": "isolated=2"}

    def draw(self, rng: random.Random) -> dict[str, object]:
        """One submission."""
        job: dict[str, object] = {"max_attempts": rng.randint(1, 5), "backoff": _BACKOFF}
        seconds = rng.choice([0.0] * 5 + [0.005, 0.02, 0.02, 0.1, 0.2])
        if rng.random() < 0.04:
            code = str(rng.choice([0, 0, 0, 1, 75]))
            job |= {"type": "soak-command", "payload": {"seconds": f"{seconds:.4f}", "code": code}}
        else:
            kind = "soak-isolated" if rng.random() < 0.06 else "soak"
            end = rng.choice(["return"] * 7 + ["raise", "retry", "fail"])
            plan = {"trace": str(self.trace), "seconds": seconds, "end": end, "lines": rng.choice([0, 0, 0, 2])}
            job |= {"type": kind, "payload": plan}
        if rng.random() < 0.1:
            job["priority"] = rng.randint(-5, 5)
        if rng.random() < 0.05:
            job["run_at"] = (datetime.now(UTC) + timedelta(seconds=rng.random())).isoformat()
        return job
