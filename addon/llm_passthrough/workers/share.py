"""What workers tell each other, a few times a second: what is new since the last time.

Keys that rest, by their names and those of their providers; what clients have used; how many
records, connections and open requests there are; and at once who may go on with which upload, by
SHA-256 alone. No credential is ever told. Times are monotonic seconds: one machine has one such
clock. Other machines are told of keys and clients only; see `machines`.
"""

import asyncio
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from llm_passthrough.build import Parts, log_path
from llm_passthrough.bus import Bus
from llm_passthrough.clients import Identity
from llm_passthrough.gateway import Gateway
from llm_passthrough.keyring import KeyRing, KeyState
from llm_passthrough.sinks.writer import Tally
from llm_passthrough.workers.machines import Machines, Rest, identity
from llm_passthrough.workers.pool import Pool
from llm_passthrough.workers.seat import Seat

_LOG = logging.getLogger(__name__)
EVERY = 0.2
"""Seconds between two looks at what is new."""

type _Rest = tuple[float, float, str, int]
"""The fields of a KeyState."""


def life_of(seat: Seat | None) -> str:
    """A name for a worker that the one who takes its place does not have."""
    return f"{1 if seat is None else seat.number}.{os.getpid()}"


class Share:
    """One worker's part in it; without a `seat`, that of the only one. `pool` is the gateway's
    allowance, `machines` the way to those on other machines."""

    def __init__(self, seat: Seat | None, gateway: Gateway, pool: Pool) -> None:
        self._seat = seat
        self._gateway = gateway
        self._pool = pool
        self._rests: dict[tuple[str, str], _Rest] = {}
        self._health: dict[str, Any] = {}
        self._others: dict[int, dict[str, Any]] = {}
        self._heard: set[str] = set()
        self.machines: Machines | None = None
        if seat is None:
            return
        gateway.writer.tally.others = self._tallies
        gateway.connections.more = self._traffic
        gateway.tickets.tell = self._ticket

    def connect(self, parts: Parts, number: int) -> Bus | None:
        """The line to other machines, where there is one. Raises ConfigError."""
        if parts.share is None:
            return None
        machine = identity(log_path(parts.config))
        self.machines = machines = Machines(machine, self._pool, self, first=number == 1)
        machines.bus = bus = Bus(parts.share, machines)
        self._gateway.shared = lambda: bus.state
        return bus

    async def follow(self) -> None:
        """Tell what is new, until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            self.look()

    def look(self) -> None:
        """Tell what is new, if anything is."""
        keys, used = self._new_rests(), self._pool.news()
        if self.machines is not None:
            names = self._heard.union(self._pool.learn(), *used.values())
            self._heard.clear()
            self.machines.tell(keys, names)
        if self._seat is None:
            return
        news = {"keys": keys, "used": used, "health": self._new_health()}
        if any(news.values()):
            self._send({name: value for name, value in news.items() if value})

    def again(self) -> None:
        """Tell everything again: somebody is new."""
        self._rests, self._health = {}, {}
        self._pool.again()

    def hear(self, line: bytes) -> None:
        """Take what another worker tells."""
        try:
            told = json.loads(line)
            for rest in told.get("keys", ()):
                self.hear_rest(*rest)
            self._pool.hear(told.get("used", {}))
            self._heard.update(*told.get("used", {}).values())
            if health := told.get("health"):
                self._others[told["from"]] = health
                self._hear_crowds()
            if ticket := told.get("ticket"):
                self._hear_ticket(*ticket)
        except (ValueError, TypeError, KeyError) as error:
            _LOG.error("what another worker told cannot be read: %s", type(error).__name__)

    def forget(self, number: int) -> None:
        """A worker is no more: nothing of it is open."""
        self._others.pop(number, None)
        self._hear_crowds()

    def _hear_crowds(self) -> None:
        self._gateway.crowd.hear(health["open"] for health in self._others.values())

    def _send(self, news: dict[str, Any]) -> None:
        assert self._seat is not None
        self._seat.line.send(json.dumps({"from": self._seat.number} | news).encode())

    # -- keys -----------------------------------------------------------------------------------

    def rings(self) -> Iterator[KeyRing]:
        """The key rings of all routes, each once."""
        routes = self._gateway.parts.routes.table
        rings = {id(up.ring): up.ring for route in routes for up in route.upstreams}
        yield from rings.values()

    def _new_rests(self) -> list[Rest]:
        """Keys that were laid to rest, or that answer well again, since the last time."""
        told: list[Rest] = []
        present: dict[tuple[str, str], _Rest] = {}
        for ring in self.rings():
            for name, state in list(ring.states.items()):
                key, rest = (ring.provider, name), _rest(state)
                before = self._rests.get(key)
                if rest == before:
                    pass
                elif rest[1]:
                    told.append((*key, *rest))
                elif before is not None and before[1]:
                    told.append((*key, before[0], 0.0, "", 0))
                present[key] = rest
        self._rests = present
        return told

    def hear_rest(
        self, provider: str, name: str, since: float, until: float, why: str, strikes: int
    ) -> None:
        """Another worker's rest holds here where it is the longer one; a good answer there ends the
        rest that it was an answer after, and no later one."""
        ring = next((ring for ring in self.rings() if ring.provider == provider), None)
        if ring is None or name not in {key.name for key in ring.keys}:
            return
        state = ring.states.setdefault(name, KeyState())
        if not until:
            if state.since <= since:
                state.clear()
        elif until >= state.until:
            state.since, state.until, state.why = since, until, why
            state.strikes = max(strikes, state.strikes)
        else:
            return
        self._rests[provider, name] = _rest(state)

    # -- uploads --------------------------------------------------------------------------------

    def _ticket(self, digest: bytes, path: bytes, identity: Identity) -> None:
        """At once: its holder may be here before the next look."""
        if identity.digest:
            ticket = digest.hex(), path.decode("latin-1"), identity.digest.hex()
            self._send({"ticket": ticket})

    def _hear_ticket(self, digest: str, path: str, holder: str) -> None:
        identity = self._gateway.parts.clients.by_digest.get(bytes.fromhex(holder))
        if identity is not None:
            ticket = bytes.fromhex(digest), path.encode("latin-1")
            self._gateway.tickets.learn(*ticket, identity)

    # -- health ---------------------------------------------------------------------------------

    def _new_health(self) -> dict[str, Any] | None:
        tally, connections = self._gateway.writer.tally, self._gateway.connections
        health: dict[str, Any] = {
            "log": [tally.written, tally.dropped, tally.failed, tally.withheld, tally.fault],
            "connections": len(connections),
            "unrecorded": dict(connections.refused),
            "open": self._gateway.crowd.told(),
        }
        if health == self._health:
            return None
        self._health = health
        return health

    def _tallies(self) -> list[Tally]:
        return [Tally(*health["log"]) for health in self._others.values()]

    def _traffic(self) -> dict[str, object]:
        """Of all workers; of the others as they told it last."""
        assert self._seat is not None
        connections, others = self._gateway.connections, self._others.values()
        refused = sum((Counter(health["unrecorded"]) for health in others), connections.refused)
        return {
            "connections": len(connections) + sum(health["connections"] for health in others),
            "unrecorded": dict(refused),
            "worker": self._seat.number,
            "workers": self._seat.of,
        }


def _rest(state: KeyState) -> _Rest:
    return state.since, state.until, state.why, state.strikes
