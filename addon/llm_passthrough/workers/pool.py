"""What clients have used, counted by all workers together.

Each worker counts what it serves and tells its sums, never what was added: a sum that comes twice,
or late, or through somebody else, changes nothing. What a worker counted that is no more stays
known to the others, who tell it to the next one.
"""

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

from llm_passthrough.allowance import Memory, Past, Spent, Used, day_of, minute_of, month_of
from llm_passthrough.policy import Client

type Sum = list[float]
"""The number of a minute, a day or a month, and what was used in it."""
type Sums = list[Sum]
"""Requests and tokens of the minute, calls of the day and of the month; see `_sums`."""

type Told = dict[str, dict[str, Sums]]
"""By life and by client."""

_AT_ONCE = 200
_NUMBERS = (minute_of, minute_of, day_of, month_of)
_LENGTHS = (2, 2, 5, 5)
_ASKEW = 60.0
"""Seconds by which the clock of another machine may be before ours."""


class Pool(Memory):
    """The allowance of one worker: what it counts itself, and what others have told.

    `life` is the name of this worker as long as it lives, `machine` the one of all workers here,
    `elsewhere` what machines have used, as they told it. See Memory for the rest.
    """

    def __init__(
        self,
        life: str,
        past: Callable[[float], Past] | None = None,
        began: float | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(past, wall, began)
        self._life = life
        self._lives: Told = {}
        self.machine = ""
        self.elsewhere: Told = {}
        # Of which life and client there is a new sum; the writer's thread adds to it too.
        self._fresh: deque[tuple[str, str]] = deque()

    async def take(self, client: Client) -> None:
        """See Allowance.take."""
        await super().take(client)
        self._fresh.append((self._life, client.name))

    def spend(self, name: str, spent: Spent) -> None:
        """See Allowance.spend."""
        super().spend(name, spent)
        self._fresh.append((self._life, name))

    def used(self, name: str) -> Used:
        """See Allowance.used; of all workers, and of all machines."""
        own = self._here(name)
        for machine, others in self.elsewhere.items():
            if machine != self.machine and (sums := others.get(name)):
                own = _plus(own, sums, self._wall())
        return own

    def _here(self, name: str) -> Used:
        own = super().used(name)
        for others in self._lives.values():
            if sums := others.get(name):
                own = _plus(own, sums, self._wall())
        return own

    def news(self) -> Told:
        """Sums that are new since the last time; of many clients only some, then the next ones."""
        told: Told = defaultdict(dict)
        wanted: set[tuple[str, str]] = set()
        while self._fresh and len(wanted) < _AT_ONCE:
            wanted.add(self._fresh.popleft())
        for life, name in wanted:
            told[life][name] = self._known(life, name)
        return told

    def again(self) -> None:
        """All that is known is new to somebody."""
        self._fresh.extend((self._life, name) for name in self.names())
        self._fresh.extend((life, name) for life in self._lives for name in self._lives[life])

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._wall()

    def learn(self) -> list[str]:
        """Who spent something before this start, once that was read."""
        reading = self._reading
        if self._past is not None or reading is None or not reading.done():
            return []
        if reading.cancelled() or reading.exception() is not None:
            return []
        self._past = reading.result()
        return list(self._past.months)

    def total(self, name: str) -> Sums:
        """What a client has used on this machine, before this start too. As long as that is not
        known, what the machine told before it ended is more, and stays."""
        numbers, now = None, [number(self._wall()) for number in _NUMBERS]
        while numbers != now:  # not the sum of one minute with the number of the next one
            numbers, used = now, self._here(name)
            now = [number(self._wall()) for number in _NUMBERS]
        sums: Sums = [
            [now[0], used.requests],
            [now[1], used.tokens],
            *(
                [n, s.calls, s.tokens, s.cost, s.unpriced]
                for n, s in zip(now[2:], (used.day, used.month), strict=True)
            ),
        ]
        before = self.elsewhere.get(self.machine, {}).get(name)
        return list(map(_newer, before, sums)) if before else sums

    def machines(self) -> Told:
        """What each machine has used, as far as it is known; this one too."""
        past = set() if self._past is None else set(self._past.months)
        names = self.names() | past | {name for life in self._lives.values() for name in life}
        own = {name: self.total(name) for name in names}
        return self.elsewhere | {self.machine: self.elsewhere.get(self.machine, {}) | own}

    def hear_machine(self, machine: str, name: str, sums: Sums) -> None:
        """A machine has used this; see `sums_of`."""
        known = self.elsewhere.setdefault(machine, {})
        before = known.get(name)
        known[name] = list(map(_newer, before, sums)) if before else sums

    def _known(self, life: str, name: str) -> Sums:
        return _sums(self, name) if life == self._life else self._lives[life][name]

    def hear(self, told: Told) -> None:
        """Take what another worker knows."""
        for life, clients in told.items():
            if life == self._life:
                continue
            known = self._lives.setdefault(life, {})
            for name, sums in clients.items():
                before = known.get(name)
                known[name] = list(map(_newer, before, sums)) if before else sums


def sums_of(told: Any, now: float) -> Sums:
    """Sums as a stranger told them. Raises ValueError or TypeError where they are none.

    A window that is yet to come would hide the present one.
    """
    sums = [list(map(_number, each)) for each in told]
    if tuple(map(len, sums)) != _LENGTHS:
        raise ValueError("no sums")
    for (number, *_), number_of in zip(sums, _NUMBERS, strict=True):
        if number > number_of(now + _ASKEW):
            raise ValueError("a window that is yet to come")
    return sums


def _number(told: Any) -> float:
    if type(told) not in (int, float) or not math.isfinite(told) or not 0 <= told <= 1e15:
        raise ValueError("no number")
    return float(told)


def is_present(sums: Sums, now: float) -> bool:
    """Whether the month of these sums is not over."""
    return sums[3][0] >= month_of(now)


def _sums(pool: Pool, name: str) -> Sums:
    requests, tokens, day, month = pool.counted(name)
    return [
        [requests[0], requests[1]],
        [tokens[0], tokens[1]],
        *([n, s.calls, s.tokens, s.cost, s.unpriced] for n, s in (day, month)),
    ]


def _newer(one: Sum, other: Sum) -> Sum:
    """Of two sums of one counter the later one: it only grows, and begins anew with each window."""
    if one[0] != other[0]:
        return max(one, other, key=lambda each: each[0])
    return [*map(max, one, other)]


def _plus(used: Used, sums: Sums, now: float) -> Used:
    requests, tokens, day, month = _present(sums, now)
    return Used(
        used.requests + int(sum(requests)),
        used.tokens + int(sum(tokens)),
        used.day + _spent(day),
        used.month + _spent(month),
    )


def _present(sums: Sums, now: float) -> Iterator[Sum]:
    """The amounts of the present windows; nothing of those that are over."""
    for (number, *amounts), number_of in zip(sums, _NUMBERS, strict=True):
        yield amounts if number == number_of(now) else []


def _spent(amounts: Sum) -> Spent:
    if not amounts:
        return Spent()
    calls, tokens, cost, unpriced = amounts
    return Spent(int(calls), int(tokens), cost, int(unpriced))
