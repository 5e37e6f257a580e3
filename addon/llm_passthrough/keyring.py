"""Keys and the choice among them: by model, weight and session, never one that rests."""

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from llm_passthrough import rest
from llm_passthrough.errors import Refusal
from llm_passthrough.policy import Named, allows
from llm_passthrough.rest import Rest
from llm_passthrough.tokens import TokenSource


@dataclass(frozen=True, slots=True)
class Key:
    """One configured credential of one provider: a secret, or a source of short-lived tokens.

    `secret` is opened by `wire` alone.
    """

    name: str
    provider: str
    secret: SecretStr | None
    weight: float = 1.0
    models: tuple[str, ...] = ("*",)
    blacklisted: tuple[str, ...] = ()
    bearer: bool = False
    api_version: str | None = None
    project: str | None = None
    region: str | None = None
    account_headers: tuple[tuple[bytes, bytes], ...] = ()
    token: TokenSource | None = None

    @property
    def for_all_models(self) -> bool:
        """Whether this key may serve every model, so that none has to be known."""
        return self.models == ("*",) and not self.blacklisted

    def allows(self, wanted: Named) -> bool:
        """Whether this key may serve all models that are wanted, known or not; a request that
        names none may use any key."""
        return self.for_all_models or (
            wanted.unknown is None
            and all(allows(model, self.models, self.blacklisted) for model in wanted.names)
        )


@dataclass(slots=True)
class KeyState:
    """What was heard of a key: since and until when it rests, why, and how often in a row.

    Times are monotonic seconds.
    """

    since: float = 0.0
    until: float = 0.0
    why: str = ""
    strikes: int = 0

    def clear(self) -> None:
        """Nothing bad is known any more. The state itself stays: two rings may share it."""
        self.since, self.until, self.why, self.strikes = 0.0, 0.0, "", 0


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of one provider. `mend` says what would give it one; `states` is what changes."""

    provider: str
    keys: tuple[Key, ...]
    mend: str
    states: dict[str, KeyState] = field(default_factory=dict)

    @property
    def asks_model(self) -> bool:
        """Whether the choice depends on the model, so that the body has to be read for it."""
        return any(not key.for_all_models for key in self.keys)

    def pick(
        self,
        wanted: Named,
        pinned: str | None,
        chance: random.Random,
        now: float = 0.0,
        session: str | None = None,
        preferred: str = "",
    ) -> Key:
        """A key that allows the models that are `wanted` and does not rest; `pinned` names one.
        Raises Refusal (no_key).

        `preferred` names one that is taken, resting or not, where it is there and may be used.

        The calls of one `session` stay on one key as long as it is ready, so that the provider's
        prompt cache is of use. When all keys rest, the one that is ready first is tried: the
        provider's own answer tells the client more than a refusal of ours.
        """
        if not self.keys:
            raise Refusal("no_key", f"no key for {self.provider}: {self.mend}")
        fit = [key for key in self.keys if pinned in (None, key.name) and key.allows(wanted)]
        if not fit:
            raise Refusal("no_key", self._why_none(pinned, wanted.unknown))
        ready = [key for key in fit if key.name == preferred]
        ready = ready or [key for key in fit if not self.rests(key, now)]
        if not ready:
            return min(fit, key=lambda key: self.states[key.name].until)
        if len(ready) == 1:
            return ready[0]
        if session is not None:
            return max(ready, key=lambda key: _score(session, key))
        weights = [key.weight for key in ready]
        return chance.choices(ready, weights if any(weights) else None)[0]

    def rests(self, key: Key, now: float) -> bool:
        """Whether a key rests at `now`."""
        state = self.states.get(key.name)
        return state is not None and now < state.until

    def another(self, key: Key, wanted: Named, now: float) -> bool:
        """Whether another key than this one is ready for these models."""
        return any(
            other is not key and other.allows(wanted) and not self.rests(other, now)
            for other in self.keys
        )

    def share(self, other: "KeyRing", key: Key) -> None:
        """What is heard of a key is heard for this ring and the other one, from now on too."""
        self.states[key.name] = other.states.setdefault(key.name, KeyState())

    def good(self, key: Key, began: float) -> None:
        """Take note of a good answer to a request that began then (monotonic): it ends all rest.

        An answer to one that was on its way when the key was laid to rest says nothing.
        """
        state = self.states.get(key.name)
        if state is not None and began >= state.since:
            state.clear()

    def heard(
        self,
        key: Key,
        status: int,
        headers: Mapping[str, str],
        now: float,
        wall: float,
        hint: str | None = None,
    ) -> bool:
        """Take note of a bad answer; whether the key rests for it.

        `headers` have lower-case names, `now` is monotonic, `wall` is since the epoch.
        """
        pause = rest.after(status, headers, self._strikes(key, now), wall, hint)
        if pause is None:
            return False
        self._lay(key, pause, now)
        return True

    def extend(self, key: Key, until: float) -> None:
        """Let a key that rests do so until then (monotonic seconds) at least."""
        state = self.states.get(key.name)
        if state is not None and state.strikes:
            state.until = max(state.until, until)

    def failed(self, key: Key, now: float) -> None:
        """Take note that a key's upstream gave no answer."""
        self._lay(key, rest.unreachable(self._strikes(key, now)), now)

    def tokenless(self, key: Key, now: float) -> None:
        """Take note that no token could be had for a key."""
        self._lay(key, rest.without_token(self._strikes(key, now)), now)

    def describe(self, key: Key, now: float) -> str:
        """`ready`, or why and for how long a key rests."""
        state = self.states.get(key.name)
        if state is None or now >= state.until:
            return "ready"
        return f"rests {math.ceil(state.until - now)} s: {state.why}"

    def _strikes(self, key: Key, now: float) -> int:
        """How often in a row the key was laid to rest before; the answers that come while it
        rests are of one burst and count once."""
        state = self.states.get(key.name)
        return state.strikes - self.rests(key, now) if state else 0

    def _lay(self, key: Key, pause: Rest, now: float) -> None:
        state = self.states.setdefault(key.name, KeyState(now))
        if now >= state.until:
            state.since = now
            state.strikes += 1
        if now + pause.seconds >= state.until:
            state.until, state.why = now + pause.seconds, pause.why

    def _why_none(self, pinned: str | None, unknown: str | None) -> str:
        names = ", ".join(key.name for key in self.keys)
        if pinned is not None and pinned not in {key.name for key in self.keys}:
            return f"{self.provider} has no key of the name in x-passthrough-key; keys: {names}"
        if unknown:
            return (
                f"{self.provider} has no key for all models, one without `models`, "
                f"and this request's model is not known: {unknown}"
            )
        return f"no key of {self.provider} allows this model; see `models` of its keys ({names})"


def _score(session: str, key: Key) -> float:
    """Weighted rendezvous hashing: each session prefers the keys in its own fixed order."""
    digest = hashlib.blake2b(f"{session}\0{key.name}".encode(), digest_size=8).digest()
    share = ((int.from_bytes(digest) >> 11) + 1) / (2**53 + 1)  # never 0, never 1
    return key.weight / -math.log(share)
