"""File descriptors: how many this process may have, and how many connections that lets it serve."""

import contextlib

_OURS = 48
"""Those for listening, records, the log, mitmweb, and what is opened for a moment."""
_ENOUGH = 1 << 16

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]


def connections() -> int | None:
    """How many clients' connections there may be, each with one to an upstream; the process takes
    as many descriptors as it is allowed to. None where nothing limits it."""
    if resource is None:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return max(4, (soft - _OURS) // 2)
