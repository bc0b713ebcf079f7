"""How many files may be open at once.

All images of a chain, and all that are to be removed, are open and locked at the same time. A process begins with a
limit of about a thousand for the sake of programs that use select(2), and may raise it as far as the system allows.

Only the program itself does this, as the limit belongs to the whole process.
"""

from __future__ import annotations

import resource
from contextlib import suppress

_ENOUGH = 65536


def allow_many() -> None:
    """Raise the limit as far as that is allowed and of use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
