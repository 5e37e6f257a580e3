"""The system's allocator, told to keep for the next body what the last one needed.

A body of 1 MB and its record are a dozen copies of a MB that live for milliseconds. By itself
glibc gives each back to the system at once, which clears every page of the next: a third of what
such a record costs.
"""

import ctypes
import sys

_TRIM, _MMAP = -1, -3  # mallopt(3): M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
_KEPT = 16 << 20  # bytes free at the end of a heap that are not given back
_APART = 4 << 20  # bytes: a longer piece is the system's again when it is let go


def keep() -> None:
    """From now on; where there is no glibc nothing is done."""
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_TRIM, _KEPT)
    mallopt(_MMAP, _APART)
