"""What gateways on several machines tell each other through Redis: rests of keys, sums of clients.

Clocks of machines differ: a rest is told by the seconds that it lasted and that are left of it.
A machine tells the sums of all that it served, its log included, under a name that lies beside its
log: such a sum only grows, so that the greater one of two is right, also after a start.

What is heard may be anybody's: what is not as it should be is ignored as a whole, and nothing
makes a sum smaller or ends with a credential. Names alone are told.
"""

import json
import logging
import math
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from llm_passthrough.bus import LONGEST, Bus, News
from llm_passthrough.errors import ConfigError
from llm_passthrough.keyring import KeyRing
from llm_passthrough.workers.pool import Pool, Sums, Told, is_present, sums_of

_LOG = logging.getLogger(__name__)
_SLACK = 1.0
"""Seconds by which two tell the same moment differently, for the time that a message takes."""
_LONGEST_REST = 86_400.0
_MOST = 20_000
"""Sums that are remembered: clients times machines."""
_MACHINE = re.compile(r"[0-9a-f]{16}")
_WHY = re.compile(r"[ -~]{0,200}")

type Rest = tuple[str, str, float, float, str, int]
"""The names of a provider and a key, and the fields of a KeyState."""


class Keys(Protocol):
    """Who knows the rests of keys."""

    def rings(self) -> Iterable[KeyRing]:
        """The key rings, each once."""

    def hear_rest(self, *rest: Any) -> None:
        """Somebody else laid a key to rest, or ends its rest: the fields of a Rest."""


class Machines:
    """The part of one process in it; `first`: it tells the sums, for all workers here."""

    def __init__(
        self,
        machine: str,
        pool: Pool,
        keys: Keys,
        *,
        first: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bus: Bus | None = None
        self._machine, self._pool, self._keys = machine, pool, keys
        self._first, self._clock = first, clock
        self._me = secrets.token_hex(8)
        self._kept: Told = {}
        pool.machine = machine

    # -- telling --------------------------------------------------------------------------------

    def tell(self, rests: Iterable[Rest], names: Iterable[str]) -> None:
        """What is new here: rests, and who used something."""
        sums = {name: self._pool.total(name) for name in names} if self._first else {}
        rests = list(rests)
        if self.bus is not None and (sums or rests):
            self.bus.tell(self._news(rests, {self._machine: sums} if sums else {}))

    def names(self) -> list[str]:
        """See Side."""
        return [f"{ring.provider}:{key.name}" for ring in self._keys.rings() for key in ring.keys]

    def everything(self) -> News:
        """See Side."""
        rests = [
            (ring.provider, name, state.since, state.until, state.why, state.strikes)
            for ring in self._keys.rings()
            for name, state in ring.states.items()
            if state.until > self._clock()
        ]
        known = self._pool.machines() if self._first else {}
        fresh = {
            machine: {
                name: s for name, s in some.items() if self._kept.get(machine, {}).get(name) != s
            }
            for machine, some in known.items()
        }
        return self._news(rests, {machine: some for machine, some in fresh.items() if some})

    def _news(self, rests: Iterable[Rest], told: Told) -> News:
        now = self._clock()
        keys, kept = [], {}
        for provider, name, since, until, why, strikes in rests:
            left = max(0.0, until - now)
            rest = [max(0.0, now - since), left, why, strikes]
            keys.append([provider, name, *rest])
            kept[f"{provider}:{name}"] = json.dumps(rest), int(left * 1000)
        message = json.dumps({"from": self._me, "keys": keys, "used": told}).encode()
        sums = {
            f"{machine}/{name}": json.dumps(value)
            for machine, some in told.items()
            for name, value in some.items()
        }
        return News(message, sums, kept)

    # -- hearing --------------------------------------------------------------------------------

    def hear(self, message: bytes) -> None:
        """See Side."""
        try:
            if len(message) > LONGEST:
                raise ValueError("it is too long")
            told = json.loads(message)
            if told["from"] == self._me:
                return
            rests = [(*_names(rest), *_rest(rest[2:])) for rest in told["keys"]]
            sums = [
                (_machine(machine), _name(name), self._sums(value))
                for machine, some in told["used"].items()
                for name, value in some.items()
            ]
        except _WRONG as error:
            _ignored(error)
            return
        for rest in rests:
            self._hear_rest(*rest)
        for each in sums:
            self._hear_sums(*each)

    def restore(
        self, sums: Mapping[bytes, bytes], rests: Mapping[str, tuple[bytes, int]]
    ) -> list[bytes]:
        """See Side."""
        self._kept, over = {}, []
        for field, value in sums.items():
            try:
                machine, _, name = field[:LONGEST].decode().partition("/")
                known = self._sums(json.loads(value[:LONGEST]))
                self._kept.setdefault(_machine(machine), {})[_name(name)] = known
            except _WRONG as error:
                _ignored(error)
                continue
            if is_present(known, self._pool.now()):
                self._hear_sums(machine, name, known)
            else:
                over.append(field)
        for place, (value, left) in rests.items():
            try:
                ago, first, why, strikes = _rest(json.loads(value[:LONGEST]))
            except _WRONG as error:
                _ignored(error)
                continue
            passed = max(0.0, first - left / 1000)
            provider, _, name = place.partition(":")
            self._hear_rest(provider, name, ago + passed, left / 1000, why, strikes)
        return over

    def _hear_rest(
        self, provider: str, name: str, ago: float, left: float, why: str, strikes: int
    ) -> None:
        """A rest that is known already, but for the time that the message took, changes nothing;
        else two would tell each other the same for ever."""
        ring = next((ring for ring in self._keys.rings() if ring.provider == provider), None)
        state = None if ring is None else ring.states.get(name)
        now = self._clock()
        until = state.until if state is not None else 0.0
        if left and left + now > max(until, now) + (_SLACK if until > now else 0.0):
            self._keys.hear_rest(provider, name, now - ago, now + left, why, strikes)
        elif not left and until:
            self._keys.hear_rest(provider, name, now - ago + _SLACK, 0.0, "", 0)

    def _hear_sums(self, machine: str, name: str, sums: Sums) -> None:
        known = self._pool.elsewhere
        if sum(map(len, known.values())) < _MOST or name in known.get(machine, {}):
            self._pool.hear_machine(machine, name, sums)

    def _sums(self, told: Any) -> Sums:
        return sums_of(told, self._pool.now())


_WRONG = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)


def _ignored(error: Exception) -> None:
    _LOG.warning("share.redis: what was told there is not ours: %s", type(error).__name__)


def _machine(told: Any) -> str:
    if not isinstance(told, str) or not _MACHINE.fullmatch(told):
        raise ValueError("no machine")
    return told


def _name(told: Any) -> str:
    if not isinstance(told, str) or not 0 < len(told) <= 64:
        raise ValueError("no name")
    return told


def _names(told: Any) -> tuple[str, str]:
    return _name(told[0]), _name(told[1])


def _rest(told: Any) -> tuple[float, float, str, int]:
    ago, left, why, strikes = told
    if not isinstance(why, str) or not _WHY.fullmatch(why):
        raise ValueError("no reason")
    if type(strikes) is not int or not 0 <= strikes <= 1_000_000:
        raise ValueError("no number of strikes")
    return _seconds(ago), _seconds(left), why, strikes


def _seconds(told: Any) -> float:
    if type(told) not in (int, float) or not math.isfinite(told) or told < 0:
        raise ValueError("no seconds")
    return min(float(told), _LONGEST_REST)


def identity(log: Path) -> str:
    """The name of this machine in Redis: it lies beside the log, whose sums are told under it.

    Raises ConfigError.
    """
    path = log.with_suffix(".machine")
    try:
        if not os.path.lexists(path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(path, flags, 0o600), "w") as file:
                file.write(secrets.token_hex(8))
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))) as file:
            return _machine(file.read(64).strip())
    except OSError as error:
        raise ConfigError(f"share.redis: {path}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"share.redis: {path} holds no name; remove it") from None
