"""What a gateway adds to a stream: until the first event, to each event's way; what it loses."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from bench import process
from bench.contenders import BARE, DIRECT, WORKERS
from bench.measure import Case
from bench.traffic import CPU
from bench.trip import THEATRE, TINY, Scene, Trip, case, order_for

FIRST, WAY = "a stream's first event", "an event's way"
SPOILT, PACE, IDLE = "events lost or merged", "events without a pause", "open idle streams"
_MS, _GB = "ms", 1024 * 1024
_EVENTS = 20
_ONE = Scene("one stream", f"{_EVENTS}/0.01", connections=1, calls=10)
_SOME = Scene("streams", "40/0.005", connections=8, calls=8)
_FAST = Scene("fast streams", "250/0", connections=4, calls=16)
_SHORT = "10/0"  # events of a stream, in a run that only shows that it runs
_HELD = (
    320  # streams open at the same time; with half as many before, under limits.requests_per_client
)
_LEAST = 3  # streams of one connection, in the shortest run that says anything


def cases(share: float, names: Sequence[str]) -> list[Case]:
    """Streams that a provider sends event by event, by each of these contenders."""
    # A bare mitmdump holds a stream back until it is whole.
    able = [name for name in names if name != BARE]
    slow = replace(_ONE, calls=max(round(_ONE.calls * share), _LEAST if share > TINY else 1))
    found = [*_ways({name: Trip(name, slow, 1) for name in able})]
    for name in (name for name in names if name != DIRECT):
        trip = Trip(name, _SOME, share)
        bare = BARE if BARE in names else None
        found.append(case("a stream of 40 events", name, CPU, trip.cpu, against=bare))
    fast = _FAST if share > TINY else replace(_FAST, want=_SHORT)
    for name in able:
        found.append(case(PACE, name, "events a second", Trip(name, fast, share).events))
    return found


def idle_cases(share: float, names: Sequence[str]) -> list[Case]:
    """Streams that stay open; before large bodies leave room in which they would not be seen."""
    held = max(round(_HELD * min(1, 5 * share)), 2)
    return [
        case(IDLE, name, "a GB of memory", partial(_open, name, held), once=True)
        for name in names
        if name not in (DIRECT, BARE, WORKERS)
    ]


def _ways(trips: dict[str, Trip]) -> Iterator[Case]:
    direct = DIRECT if DIRECT in trips else None
    for name, trip in trips.items():
        yield case(FIRST, name, _MS, trip.first, beyond=direct)
    for name, trip in trips.items():
        yield case(WAY, name, _MS, trip.way, beyond=direct)
    for name, trip in trips.items():
        yield case(SPOILT, name, f"of {_EVENTS * trip.calls} events", trip.spoilt)


def _open(name: str, count: int) -> float:
    """How many streams of which nothing is heard would fill a GB."""
    stage = THEATRE.stage()
    contender = stage.contender(name)
    assert contender.pid
    # The first ones fill what is there for them; only what comes on top is memory of a stream.
    first = order_for(contender, Scene("", "2/600", connections=count // 2), 1)
    stage.load(replace(first, hold=True))
    process.settle(contender.pid)
    before = process.resident(contender.pid)
    more = order_for(contender, Scene("", "2/600", connections=count), 1)
    stage.load(replace(more, hold=True, more=True))
    grown = (process.resident(contender.pid) - before) * 1024
    return _GB * count / max(grown, 1.0)
