"""Which of several forms of an answer the client prefers (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Sequence

from flask import request
from werkzeug.datastructures import MIMEAccept

from app.errors import Problem, shown

#: The parameter that goes without saying; Werkzeug compares parameters, too.
_UTF_8 = re.compile(r'\s*;\s*charset="?utf-8"?\s*', re.IGNORECASE)


def preferred(offers: Sequence[str]) -> str:
    """The media type among ``offers`` that the current request accepts best; of equals, the first.

    A request without a usable ``Accept`` accepts everything. Raises Problem, ``not_acceptable``.
    """
    given = request.accept_mimetypes
    if not given:
        return offers[0]
    accept = MIMEAccept([(_UTF_8.sub("", media_range), quality) for media_range, quality in given])
    best = max(offers, key=accept.quality)
    if accept.quality(best) <= 0:
        raise Problem("not_acceptable", f"Accept allows {shown(str(given))}; there is: {', '.join(offers)}")
    return best
