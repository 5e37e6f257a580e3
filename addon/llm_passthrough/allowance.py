"""How much a client has used: requests and tokens a minute, money a day and a month.

Windows are those of the clock, in UTC: a limit is whole again when the minute, the day or the
month ends. Tokens and costs are known when a call is over, so that the next one is refused.
"""

import asyncio
import calendar
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol

from llm_passthrough.errors import Refusal
from llm_passthrough.policy import Client, Limits

DAY = 86_400
"""Seconds."""
_MINUTE = 60
_NONE = Limits()
_PATIENCE = 10.0
"""Seconds for which a request waits until the records of this month were read."""
_AGAIN = 10.0
"""Seconds after records could not be read until the next try."""


class PastError(Exception):
    """What was spent before is not known: the records cannot be read. One line, no secret."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What calls used: how many they were, their tokens, their cost in US dollars, and how many
    of them had a price that is not known."""

    calls: int = 0
    tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        """Both together."""
        return Spent(
            self.calls + other.calls,
            self.tokens + other.tokens,
            self.cost + other.cost,
            self.unpriced + other.unpriced,
        )

    def money(self, limits: Limits) -> float:
        """What they count in a budget."""
        return self.cost + self.unpriced * limits.unpriced


@dataclass(frozen=True, slots=True)
class Used:
    """What a client has used in the present minute, day and month."""

    requests: int = 0
    tokens: int = 0
    day: Spent = Spent()
    month: Spent = Spent()


@dataclass(frozen=True, slots=True)
class Past:
    """What each client spent before this start, in the day and the month of these numbers."""

    day: int
    month: int
    days: Mapping[str, Spent]
    months: Mapping[str, Spent]


class Allowance(Protocol):
    """Where it is kept: in this process (Memory), or in a store that several of them share."""

    def prepare(self) -> None:
        """Budgets will be asked for: begin to find out what was spent before."""

    async def take(self, client: Client) -> None:
        """Count a request. Raises Refusal that names the limit which is used up."""

    def spend(self, name: str, spent: Spent) -> None:
        """Count what a call of a client used, when it is over; may be called by any one thread."""

    def used(self, name: str) -> Used:
        """What a client has used, as far as it is known here."""


def used_by(clients: Iterable[Client], allowance: Allowance) -> dict[str, object]:
    """What each client has used and may use, as a page shows it."""
    return {client.name: _shown(client, allowance.used(client.name)) for client in clients}


def _shown(client: Client, used: Used) -> dict[str, object]:
    return {
        "enabled": client.enabled,
        "this_minute": {"requests": used.requests, "tokens": used.tokens},
        "today": asdict(used.day),
        "this_month": asdict(used.month),
        "limits": asdict(client.limits),
    }


def day_of(epoch: float) -> int:
    """The number of a day, in UTC."""
    return int(epoch // DAY)


def month_of(epoch: float) -> int:
    """The number of a month, in UTC."""
    moment = time.gmtime(epoch)
    return moment.tm_year * 12 + moment.tm_mon - 1


def month_begins(number: int) -> float:
    """When a month begins, in seconds since the epoch."""
    return float(calendar.timegm((number // 12, number % 12 + 1, 1, 0, 0, 0)))


def minute_of(epoch: float) -> int:
    """The number of a minute."""
    return int(epoch // _MINUTE)


type _Count = tuple[int, int]
type _Paid = tuple[int, Spent]


class _Windows[T]:
    """A sum for each name, of the present window alone. One thread adds, any may look."""

    def __init__(self, number: Callable[[float], int], nothing: T) -> None:
        self._number = number
        self._nothing = nothing
        self._sums: dict[str, tuple[int, T]] = {}

    def of(self, name: str, now: float) -> T:
        number, amount = self._sums.get(name, (None, self._nothing))
        return amount if number == self._number(now) else self._nothing

    def put(self, name: str, amount: T, now: float) -> None:
        self._sums[name] = self._number(now), amount

    def last(self, name: str) -> tuple[int, T]:
        """The number of the last window in which there was something, and what."""
        return self._sums.get(name, (0, self._nothing))

    def names(self) -> list[str]:
        return list(self._sums)


class _Rule(NamedTuple):
    """The code of the refusal, what the limit is, how much of it is used, when its window ends."""

    code: str
    words: str
    limit: Callable[[Limits], float | None]
    used: Callable[[Used, Limits], float]
    ends: Callable[[float], float]


def _minute_ends(epoch: float) -> float:
    return float((minute_of(epoch) + 1) * _MINUTE)


_RULES = (
    _Rule(
        "monthly_budget",
        "the monthly budget of ${}",
        lambda limits: limits.monthly,
        lambda used, limits: used.month.money(limits),
        lambda now: month_begins(month_of(now) + 1),
    ),
    _Rule(
        "daily_budget",
        "the daily budget of ${}",
        lambda limits: limits.daily,
        lambda used, limits: used.day.money(limits),
        lambda now: (day_of(now) + 1) * DAY,
    ),
    _Rule(
        "tokens_per_minute",
        "{} tokens per minute",
        lambda limits: limits.tokens_per_minute,
        lambda used, _: used.tokens,
        _minute_ends,
    ),
    _Rule(
        "requests_per_minute",
        "{} requests per minute",
        lambda limits: limits.requests_per_minute,
        lambda used, _: used.requests,
        _minute_ends,
    ),
)


_ONGOING = tuple(rule for rule in _RULES if rule.code != "requests_per_minute")


def check(client: Client, used: Used, now: float, *, ongoing: bool = False) -> None:
    """Refuse who has used up one of its limits; `now` is seconds since the epoch.

    What is `ongoing` is no further request.
    """
    for rule in _ONGOING if ongoing else _RULES:
        limit = rule.limit(client.limits)
        if limit is not None and rule.used(used, client.limits) >= limit:
            pause = max(1, math.ceil(rule.ends(now) - now))
            what = rule.words.format(f"{limit:.10g}")
            raise Refusal(
                rule.code,
                f"client {client.name} has used up {what}; it is whole again in {pause} s",
                pause,
            )


class Memory:
    """Keeps it in this process. `past` tells what was spent before it `began` (now); it blocks, and
    raises PastError. `wall` is seconds since the epoch."""

    def __init__(
        self,
        past: Callable[[float], Past] | None = None,
        wall: Callable[[], float] = time.time,
        began: float | None = None,
    ) -> None:
        self._wall = wall
        self._began = wall() if began is None else began
        self._read = past
        self._past: Past | None = None
        self._reading: asyncio.Future[Past] | None = None
        self._failed_at = -math.inf
        self._requests = _Windows(minute_of, 0)
        self._tokens = _Windows(minute_of, 0)
        self._days = _Windows(day_of, Spent())
        self._months = _Windows(month_of, Spent())

    async def take(self, client: Client) -> None:
        """See Allowance.take."""
        if client.limits.budgeted and self._read is not None and self._past is None:
            await self._remember(self._read)
        now = self._wall()
        if client.limits != _NONE:
            check(client, self.used(client.name), now)
        self._requests.put(client.name, self._requests.of(client.name, now) + 1, now)

    def spend(self, name: str, spent: Spent) -> None:
        """See Allowance.spend."""
        now = self._wall()
        self._tokens.put(name, self._tokens.of(name, now) + spent.tokens, now)
        self._days.put(name, self._days.of(name, now) + spent, now)
        self._months.put(name, self._months.of(name, now) + spent, now)

    def used(self, name: str) -> Used:
        """See Allowance.used."""
        now, past = self._wall(), self._past
        day, month = self._days.of(name, now), self._months.of(name, now)
        if past is not None and past.day == day_of(now):
            day += past.days.get(name, Spent())
        if past is not None and past.month == month_of(now):
            month += past.months.get(name, Spent())
        return Used(self._requests.of(name, now), self._tokens.of(name, now), day, month)

    def names(self) -> set[str]:
        """Who was counted here."""
        return {*self._requests.names(), *self._months.names()}

    def counted(self, name: str) -> tuple[_Count, _Count, _Paid, _Paid]:
        """What was counted here alone, without the past: requests and tokens of a minute, calls of
        a day and of a month, each with the window's number."""
        minute = self._requests.last(name), self._tokens.last(name)
        return *minute, self._days.last(name), self._months.last(name)

    def prepare(self) -> None:
        """Begin to read what was spent before, so that nobody has to wait for it."""
        if self._read is not None and self._past is None and self._reading is None:
            self._reading = asyncio.ensure_future(asyncio.to_thread(self._read, self._began))

    async def _remember(self, read: Callable[[float], Past]) -> None:
        """Wait until the past is known: a budget that is not known is not spent. Raises Refusal."""
        if time.monotonic() - self._failed_at < _AGAIN:
            raise _unread("the records cannot be read; see the gateway's log")
        self.prepare()
        assert self._reading is not None
        try:
            self._past = await asyncio.wait_for(asyncio.shield(self._reading), _PATIENCE)
        except TimeoutError:
            raise _unread("the records of this month are still being read") from None
        except PastError as error:
            self._reading, self._failed_at = None, time.monotonic()
            raise _unread("the records cannot be read; see the gateway's log") from error


def _unread(why: str) -> Refusal:
    return Refusal("budget_unread", f"what is left of the budget is not known: {why}", 5)
