"""What a simulation is mostly about."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Theme:
    """Each field is what is drawn from, so a number that stands there twice is twice as likely."""

    #: How many instances there are. One alone owns its store; several share it.
    instances: tuple[int, ...]
    #: Clients of each instance.
    clients: tuple[int, ...]
    #: What each of them asks for before it ends, at least and at most.
    requests: tuple[int, int]
    #: Seconds between two requests of a client.
    pauses: tuple[float, ...]
    #: Seconds that a job takes.
    durations: tuple[float, ...]
    #: Seconds in which things go wrong.
    seconds: tuple[float, ...]
    #: How likely it is that each kind of harm is done at all.
    harm: Mapping[str, float]
    #: How likely it is that an instance is to stop when a submission has just been stored.
    interruption: float = 0.0


#: Much happens at the same instant, and then nothing until the next second, when all can be seen to be done.
_RUSH = Theme(
    instances=(1, 1, 2),
    clients=(3, 4, 5),
    requests=(5, 12),
    pauses=(0.0, 1.0, 1.0, 1.0),
    durations=(0.0, 0.0, 0.0, 1.0),
    seconds=(5.0, 15.0),
    harm={"crash": 0.2, "freeze": 0.2, "stop": 0.3, "jump": 0.1},
)
#: Jobs outlive leases, and so do pauses of an instance.
_LEASES = Theme(
    instances=(2, 2, 3),
    clients=(1, 2),
    requests=(2, 5),
    pauses=(0.0, 1.0, 10.0),
    durations=(1.0, 12.0, 20.0, 45.0, 58.0),
    seconds=(60.0, 120.0),
    harm={"crash": 0.2, "freeze": 1.0, "stop": 0.1, "jump": 0.1},
)
#: A little of everything.
_MIXTURE = Theme(
    instances=(1, 1, 2, 2, 3),
    clients=(1, 2),
    requests=(2, 8),
    pauses=(0.0, 0.0, 0.1, 1.0, 5.0),
    durations=(0.0, 0.0, 1.0, 8.0, 45.0),
    seconds=(15.0, 60.0),
    harm={"crash": 0.4, "freeze": 0.4, "stop": 0.4, "jump": 0.4},
)
#: Clients are in the middle of something, again and again, when their instance is to stop.
_STOPS = Theme(
    instances=(1, 2, 2),
    clients=(3, 4, 5),
    requests=(5, 12),
    pauses=(0.0, 0.3, 0.3, 2.0),
    durations=(0.0, 0.0, 1.0),
    seconds=(5.0, 15.0),
    harm={"stop": 1.0, "crash": 0.1, "freeze": 0.1},
    interruption=0.1,
)

THEMES = (_RUSH, _LEASES, _MIXTURE, _STOPS)
