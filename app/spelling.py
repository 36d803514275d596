"""Names with a slip in them."""

import re
from collections.abc import Iterable

#: What parts the words of a name; between two digits it tells numbers apart.
_SEPARATOR = re.compile(r"(?<![-_.: ])(?:(?<!\d)[-_.: ]+|[-_.: ]++(?!\d))")
#: Shorter names are too much alike for one letter to be a slip.
_SHORTEST = 4


def meant(name: str, choices: Iterable[str]) -> str | None:
    """The one of ``choices`` that ``name`` surely is; None if there is none, or more than one.

    Upper and lower case, and hyphens, underscores and the like make no difference. Then one letter
    may be wrong, missing, too many, or have changed places with its neighbour. A digit may not:
    what ``report2`` is, ``report1`` is not.
    """
    plain = _plain(name)
    plain_choices = {choice: _plain(choice) for choice in choices}
    same = [choice for choice, text in plain_choices.items() if text == plain]
    near = same or [choice for choice, text in plain_choices.items() if _is_one_slip(plain, text)]
    return near[0] if len(near) == 1 else None


def _plain(name: str) -> str:
    return _SEPARATOR.sub("", name).casefold()


def _is_one_slip(one: str, other: str) -> bool:
    if abs(len(one) - len(other)) > 1 or max(len(one), len(other)) < _SHORTEST:
        return False
    one, other = _without_common_start(one, other)
    one, other = (text[::-1] for text in _without_common_start(one[::-1], other[::-1]))
    return (one + other).isalpha() and (max(len(one), len(other)) == 1 or (len(one) == 2 and one == other[::-1]))


def _without_common_start(one: str, other: str) -> tuple[str, str]:
    shared = min(len(one), len(other))
    length = next((i for i in range(shared) if one[i] != other[i]), shared)
    return one[length:], other[length:]
