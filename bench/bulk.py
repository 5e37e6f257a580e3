"""Bodies of 500 MB, up and down: how fast, and how much memory they take meanwhile."""

from collections.abc import Sequence

from bench.call import LONG
from bench.contenders import BARE, DIRECT, LITELLM, PORTKEY, WORKERS
from bench.measure import Case
from bench.trip import Scene, Trip, case

_BYTES = 500_000_000
_SPEED, _MEMORY = "MB a second", "MB of memory more"
_NOT = (BARE, WORKERS, LITELLM, PORTKEY)  # they hold a body until it is whole, or are one of ours


def cases(share: float, names: Sequence[str]) -> list[Case]:
    """One upload and one download by each of these contenders."""
    size = max(int(_BYTES * min(1, share)), LONG)
    said = f"{size / 1e6:,.0f} MB"
    found = []
    for row, scene in (
        (f"{said} up", Scene("up", "16", size, 1, 1, warm=False)),
        (f"{said} down", Scene("down", f"{size}", 16, 1, 1, warm=False)),
    ):
        for name in names:
            if name not in _NOT:
                trip = Trip(name, scene, share)
                found.append(case(row, name, _SPEED, trip.megabytes, once=True))
                if name != DIRECT:
                    found.append(case(row + ", memory", name, _MEMORY, trip.held, once=True))
    return found
