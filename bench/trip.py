"""One kind of call by one way, made once a round whatever is asked of it: the cases' own runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median, quantiles

from bench import process
from bench.call import Order, Outcome
from bench.contenders import TOKENS, Contender
from bench.measure import Case
from bench.stage import Stage


@dataclass(frozen=True, slots=True)
class Scene:
    """A kind of call; `want` is what the provider is asked for, `size` how many bytes are sent.

    It goes on for `seconds`, or for `calls` calls where that is longer; at least one call is made
    on each connection. A `rare` scene is left out of short runs, and one
    that is not `warm` is played without a rehearsal.
    """

    name: str
    want: str
    size: int = 1 << 10
    connections: int = 16
    calls: int = 0
    seconds: float = 3.0
    longest: float = 0.8
    keep: bool = True
    tls: bool = False
    rare: bool = False
    warm: bool = True


class Theatre:
    """The stage of this run; there is none until a case needs it."""

    def __init__(self) -> None:
        self._stage: Stage | None = None

    def stage(self) -> Stage:
        """The stage, set up when it is asked for first."""
        if self._stage is None:
            self._stage = Stage()
        return self._stage

    def ready(self, names: Sequence[str]) -> dict[str, str]:
        """Start these contenders; returns why one that is not ours does not start."""
        return self.stage().ready(names) if names else {}

    def close(self) -> None:
        """End all processes."""
        if self._stage is not None:
            self._stage.close()
            self._stage = None


THEATRE = Theatre()
TINY = 0.01
"""Of the usual work: a run that only shows that it runs, without a rehearsal or many at once."""
_FEW = 4  # connections, in such a run


class Trip:
    """What calls of a kind by a way came to when they were made last.

    Each reading is of the same calls as the ones before it, until one is asked for again: then it
    is the next round, and they are made anew.
    """

    def __init__(self, name: str, scene: Scene, share: float) -> None:
        self._name, self._scene, self._share = name, scene, share
        self.calls = _calls(scene, share)
        self._told: set[str] = set()
        self._outcome: Outcome | None = None

    def cpu(self) -> float:
        """Microseconds of processor time that a call takes."""
        outcome = self.made("cpu")
        return self._spent.all / len(outcome.seconds) * 1e6

    def loop(self) -> float:
        """The same without the threads that write records."""
        outcome = self.made("loop")
        return self._spent.first / len(outcome.seconds) * 1e6

    def time(self) -> float:
        """Milliseconds that a call takes."""
        return median(self.made("time").seconds) * 1e3

    def rate(self) -> float:
        """Calls a second."""
        outcome = self.made("rate")
        return len(outcome.seconds) / outcome.took

    def first(self) -> float:
        """Milliseconds until a stream's first event."""
        return median(self.made("first").first) * 1e3

    def way(self) -> float:
        """Milliseconds of an event's way from the provider to the client."""
        return median(self.made("way").delays) * 1e3

    def spoilt(self) -> float:
        """How many events were lost, or came as one with another although sent apart."""
        outcome = self.made("spoilt")
        return outcome.lost + outcome.merged

    def events(self) -> float:
        """Events a second."""
        outcome = self.made("events")
        return len(outcome.delays) / outcome.took

    def megabytes(self) -> float:
        """MB a second, of a body that goes one way."""
        outcome = self.made("megabytes")
        size = max(self._scene.size, int(self._scene.want))
        return len(outcome.seconds) * size / outcome.took / 1e6

    def held(self) -> float:
        """By how many MB the contender grew meanwhile."""
        self.made("held")
        return self._grown

    def made(self, reading: str) -> Outcome:
        """The outcome that this reading is of."""
        if self._outcome is None or reading in self._told:
            self._told.clear()
            self._make()
        assert self._outcome
        self._told.add(reading)
        return self._outcome

    def _make(self) -> None:
        stage = THEATRE.stage()
        contender = stage.contender(self._name)
        order = order_for(contender, self._scene, self._share)
        if self._outcome is None and self._scene.keep and self._scene.warm and self._share > TINY:
            # Connections are made, and what is loaded once is loaded.
            stage.load(replace(order, calls=order.connections, seconds=0.0))
        pid, before = contender.pid, _used(contender)
        memory = process.resident(pid) if pid else 0.0
        if pid:
            process.forget_peak(pid)
        self._outcome = stage.load(order)
        self._spent = _used(contender) - before
        self._grown = max(process.peak(pid) - memory, 0.0) if pid else 0.0


def _connections(scene: Scene, share: float) -> int:
    return scene.connections if share > TINY else min(scene.connections, _FEW)


def _calls(scene: Scene, share: float) -> int:
    return max(round(scene.calls * min(1, share)), _connections(scene, share))


def order_for(contender: Contender, scene: Scene, share: float, client: str = "bench") -> Order:
    """An order for calls of this kind to this contender."""
    target = contender.tls if scene.tls else contender.plain
    assert target
    return Order(
        contender.port,
        target,
        f"localhost:{contender.port}",
        scene.want,
        scene.size,
        _calls(scene, share),
        _connections(scene, share),
        scene.keep,
        seconds=0.0 if scene.calls else min(scene.longest, scene.seconds * share),
        token=contender.token or TOKENS[client],
        extra=contender.extra,
    )


def _used(contender: Contender) -> process.Cpu:
    return process.cpu(contender.pid) if contender.pid else process.Cpu(0, 0)


def percentile(seconds: Sequence[float], hundredth: int) -> float:
    """In milliseconds; of few values, the greatest."""
    if len(seconds) < 2:
        return max(seconds) * 1e3
    return quantiles(seconds, n=100, method="inclusive")[hundredth - 1] * 1e3


def case(
    row: str,
    column: str,
    unit: str,
    run: Callable[[], float],
    *,
    against: str | None = None,
    beyond: str | None = None,
    over: str | None = None,
    once: bool = False,
) -> Case:
    """A case of a contender; `against` and `beyond` are columns of the same row, `over` is the
    name of a case of another one that the ratio is to."""
    ratio, more = (f"{row}: {other}" if other else None for other in (against, beyond))
    name = f"{row}: {column}"
    return Case(name, unit, run, over or ratio, once=once, row=row, column=column, beyond=more)
