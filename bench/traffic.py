"""What a gateway costs over HTTP, beside nothing, nginx or HAProxy, and a bare mitmdump."""

import atexit
import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from statistics import median

from bench import process
from bench.contenders import BARE, DIRECT, SCRIPT, SERVE, Contender, Stage, staged
from bench.load import Order, Outcome
from bench.measure import Case

_CPU = "us of processor time a call"
_TIME = "ms a call, by the clock"
_LATER = "ms later than direct, by the clock"
_MEMORY = "MB"
_HELD = 200  # streams that are open at the same time
_LOOP = f"{SERVE}, its event loop alone"


@dataclass(frozen=True, slots=True)
class Scene:
    """A kind of call; `want` is what the provider is asked for, `size` how many bytes are sent."""

    name: str
    want: str
    size: int = 1 << 10
    connections: int = 16
    calls: int = 480
    keep: bool = True
    tls: bool = False


_KB, _MB = "1024", f"{1 << 20}"
_SCENES = (
    Scene("1 KB, 16 connections", _KB),
    Scene("1 KB, 1 connection", _KB, connections=1, calls=240),
    Scene("1 KB, 64 connections", _KB, connections=64),
    Scene("1 KB, a connection a call", _KB, keep=False, calls=240),
    Scene("1 KB, TLS upstream", _KB, tls=True),
    Scene("1 KB, TLS upstream, a connection a call", _KB, keep=False, calls=120, tls=True),
    Scene("100 KB", f"{100 << 10}", 100 << 10, calls=160),
    Scene("1 MB", _MB, 1 << 20, 4, 40),
)
_EVENTS = 40
_STREAM = Scene("a stream", f"{_EVENTS}/0.02", connections=8, calls=8)


class Trip:
    """One kind of call by one way: what it came to when it was made last."""

    def __init__(self, name: str, scene: Scene, share: float) -> None:
        self._name, self._scene = name, scene
        self.calls = max(round(scene.calls * min(1, share)), scene.connections)
        self.outcome: Outcome | None = None

    def cpu(self) -> float:
        """Microseconds of processor time that a call takes."""
        self._make()
        return self._spent.all / self.calls * 1e6

    def loop(self) -> float:
        """The same without the threads that write records."""
        self._made()
        return self._spent.first / self.calls * 1e6

    def time(self) -> float:
        """Milliseconds that a call takes."""
        return median(self._made().seconds) * 1e3

    def first(self) -> float:
        """Milliseconds until a stream's first event."""
        return median(self._made().first) * 1e3

    def way(self) -> float:
        """Milliseconds of an event's way from the provider to the client."""
        return median(self._made().delays) * 1e3

    def merged(self) -> float:
        """How many reads brought several events that were sent one by one."""
        return self._made().merged

    def _made(self) -> Outcome:
        return self.outcome or self._make()

    def _make(self) -> Outcome:
        stage, contender = _stage(), _contender(self._name)
        order = _order(contender, self._scene, self.calls)
        if self.outcome is None:
            stage.load(order)  # connections are made, and what is loaded once is loaded
        before = _used(contender)
        self.outcome = stage.load(order)
        self._spent = _used(contender) - before
        return self.outcome


def cases(share: float) -> list[Case]:
    """Each kind of call by each way; nothing where processes do not tell what they use."""
    if not process.available():
        return []
    kinds = [found for scene in _SCENES for found in _calls(scene, share)]
    return [*kinds, *_streams(share), *_memory(share)]


def _names() -> list[str]:
    others = [name for name in ("nginx", "haproxy") if shutil.which(name)]
    return [DIRECT, *others[:1], BARE, SCRIPT, SERVE]


def _case(
    row: str,
    column: str,
    unit: str,
    run: Callable[[], float],
    against: str | None = None,
    once: bool = False,
) -> Case:
    to = f"{row}: {against}" if against else None
    return Case(f"{row}: {column}", unit, run, to, once=once, row=row, column=column)


def _calls(scene: Scene, share: float) -> Iterator[Case]:
    names = [name for name in _names() if name != DIRECT or not scene.tls]
    trips = {name: Trip(name, scene, share) for name in names}
    for name, trip in trips.items():
        if name != DIRECT:
            yield _case(scene.name, name, _CPU, trip.cpu, BARE)
    yield _case(scene.name, _LOOP, _CPU, trips[SERVE].loop, BARE)
    base = DIRECT if DIRECT in trips else BARE
    for name, trip in trips.items():
        yield _case(f"{scene.name}, time", name, _TIME, trip.time, base)


def _streams(share: float) -> Iterator[Case]:
    """Streams that a provider sends event by event."""
    trips = {name: Trip(name, _STREAM, share) for name in _names()}
    direct = trips.pop(DIRECT)
    first, way = "a stream's first event", "an event's way"
    yield Case(first, "ms direct, by the clock", lambda: (direct.cpu(), direct.first())[1])
    yield Case(way, "ms direct, by the clock", direct.way)
    for name, trip in trips.items():
        yield _case(f"a stream of {_EVENTS} events", name, _CPU, trip.cpu, BARE)
    for name, trip in trips.items():
        yield _case(first, name, _LATER, lambda trip=trip: trip.first() - direct.first())
        yield _case(way, name, _LATER, lambda trip=trip: trip.way() - direct.way())
        if name != BARE:  # it holds a stream back until it is whole
            yield _case("reads of several events", name, f"of {_EVENTS * trip.calls}", trip.merged)


def _memory(share: float) -> Iterator[Case]:
    """What open streams and past calls leave behind."""
    calls, held = (
        max(round(1000 * min(1, 3 * share)), 16),
        max(round(_HELD * min(1, 2.5 * share)), 2),
    )
    scene = replace(_SCENES[0], calls=calls)
    for name in _names()[1:]:
        trip = Trip(name, scene, 1)
        yield _case(
            f"memory after {calls} calls", name, _MEMORY, lambda t=trip: _after(t), once=True
        )
        again = f"memory after another {calls}"
        yield _case(again, name, _MEMORY, lambda t=trip: _after(t), once=True)
        if name != BARE:
            run = partial(_open_streams, name, held)
            yield _case("memory of an open stream", name, "KB", run, once=True)


def _after(trip: Trip) -> float:
    trip.cpu()
    contender = _contender(trip._name)
    assert contender.pid
    return process.resident(contender.pid)


def _open_streams(name: str, count: int) -> float:
    contender = _contender(name)
    assert contender.pid
    scene = Scene("", "2/60", connections=count)
    # The first ones fill what is there for them; only what comes on top is memory of a stream.
    _stage().load(replace(_order(contender, scene, count), hold=True))
    before = process.resident(contender.pid)
    _stage().load(replace(_order(contender, scene, count), hold=True, more=True))
    return (process.resident(contender.pid) - before) * 1024 / count


def _order(contender: Contender, scene: Scene, calls: int) -> Order:
    target = contender.tls if scene.tls else contender.plain
    assert target
    host = f"localhost:{contender.port}"
    return Order(
        contender.port, target, host, scene.want, scene.size, calls, scene.connections, scene.keep
    )


def _used(contender: Contender) -> process.Cpu:
    return process.cpu(contender.pid) if contender.pid else process.Cpu(0, 0)


@cache
def _stage() -> Stage:
    """The one of this run; it ends with it."""
    open_until_the_end = contextlib.ExitStack()
    atexit.register(open_until_the_end.close)
    return open_until_the_end.enter_context(staged())


def _contender(name: str) -> Contender:
    return _stage().contender(name)
