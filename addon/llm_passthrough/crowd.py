"""The crowd: how many requests are open at once, in all and of each client.

One that is too many is refused before anything of its body is read, and gives its place back with
its record. So a client who floods is held up by his own limit, and takes nobody else's place.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from llm_passthrough.config import Limits
from llm_passthrough.errors import Refusal
from llm_passthrough.exchange import Exchange

_AGAIN = 1
"""Seconds after which a place may be free: a call takes about as long."""


class Crowd:
    """Counts the open requests, of all workers; `limits` are those that hold now."""

    def __init__(self, limits: Callable[[], Limits]) -> None:
        self._limits = limits
        self._of: Counter[str] = Counter()
        self._all = 0
        self._elsewhere: Counter[str] = Counter()
        self._all_elsewhere = 0

    def enter(self, exchange: Exchange) -> None:
        """A request is admitted. Raises Refusal (busy, client_busy) where there is no place."""
        limits, name = self._limits(), exchange.identity.client.name
        if exchange.place is not None:
            return
        if self._all + self._all_elsewhere >= limits.requests:
            text = f"{limits.requests} requests are open already; see limits.requests"
            raise Refusal("busy", text, _AGAIN)
        if self._of[name] + self._elsewhere[name] >= limits.requests_per_client:
            text = f"{name} has {limits.requests_per_client} requests open already; see "
            raise Refusal("client_busy", text + "limits.requests_per_client", _AGAIN)
        exchange.place = name
        self._all += 1
        self._of[name] += 1

    def leave(self, exchange: Exchange) -> None:
        """A request is over; one that was refused a place has none to give back."""
        name, exchange.place = exchange.place, None
        if name is None:
            return
        self._all -= 1
        self._of[name] -= 1
        if not self._of[name]:
            del self._of[name]

    def told(self) -> dict[str, int]:
        """How many are open here, of each client that has any."""
        return dict(self._of)

    def hear(self, others: Iterable[Mapping[str, int]]) -> None:
        """From now on those that are open in other workers count too."""
        self._elsewhere = Counter()
        for other in others:
            self._elsewhere.update(other)
        self._all_elsewhere = self._elsewhere.total()

    def __len__(self) -> int:
        return self._all
