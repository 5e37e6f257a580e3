"""What a client may do: which routes, providers, models and keys, and how much of them.

Rules alone, as the configuration has them; how much of a limit is used is known to allowance.py.
A pattern is a glob (`gpt-4o*`); names of models are compared in any case.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from llm_passthrough.errors import Refusal

_CAPTURES = ("none", "usage", "full")
ALL = ("*",)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a client may use; None is no limit. Money is in US dollars.

    `unpriced` is what a call counts in the budget whose price is not known.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    daily: float | None = None
    monthly: float | None = None
    unpriced: float = 0.0

    @property
    def budgeted(self) -> bool:
        """Whether there is a budget, so that what was spent before this start counts too."""
        return self.daily is not None or self.monthly is not None

    @property
    def metered(self) -> bool:
        """Whether the usage of each call has to be known."""
        return self.budgeted or self.tokens_per_minute is not None


@dataclass(frozen=True, slots=True)
class Named:
    """The models that a request names. `unknown` says why there may be others, or that there is
    none where there should be."""

    names: tuple[str, ...]
    unknown: str | None = None


NAMELESS = Named(())


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody who may call, and the rules for it. What is denied wins over what is allowed."""

    name: str
    enabled: bool = True
    routes: tuple[str, ...] = ALL
    providers: tuple[str, ...] = ALL
    models: tuple[str, ...] = ALL
    blacklisted: tuple[str, ...] = ()
    keys: tuple[str, ...] = ALL
    limits: Limits = Limits()
    capture: str | None = None

    @property
    def asks_model(self) -> bool:
        """Whether a request's model has to be known."""
        return self.models != ALL or bool(self.blacklisted)

    def check_enabled(self) -> None:
        """Refuse a client that is switched off: Refusal (client_disabled)."""
        if not self.enabled:
            raise Refusal("client_disabled", f"client {self.name} is not enabled")

    def check_route(self, prefix: str) -> None:
        """Refuse a route, given by its prefix or as `host:NAME`: Refusal (route_denied)."""
        self._check("route_denied", "route", prefix.removeprefix("host:"), self.routes)

    def check_provider(self, name: str) -> None:
        """Refuse a provider: Refusal (provider_denied)."""
        self._check("provider_denied", "provider", name, self.providers)

    def check_key(self, name: str) -> None:
        """Refuse a key that is asked for by name: Refusal (key_denied)."""
        self._check("key_denied", "key", name, self.keys)

    def may_use_key(self, name: str) -> bool:
        """Whether a key is one of this client's."""
        return fits(name, self.keys)

    def check_models(self, names: Iterable[str]) -> None:
        """Refuse a request that names these models: Refusal (model_denied)."""
        if all(allows(name, self.models, self.blacklisted) for name in names):
            return
        without = f", but not {', '.join(self.blacklisted)}" if self.blacklisted else ""
        listed = ", ".join(self.models) or "none"
        raise Refusal(
            "model_denied",
            f"client {self.name} may not use this model; its models: {listed}{without}",
        )

    def captured(self, capture: str) -> str:
        """How much is recorded of a call of which `capture` would be: less, or as much.

        The usage of who has a budget is always recorded; else it could be evaded.
        """
        least = min(capture, self.capture or capture, key=_CAPTURES.index)
        return "usage" if least == "none" and self.limits.metered else least

    def _check(self, code: str, kind: str, name: str, patterns: tuple[str, ...]) -> None:
        if not fits(name, patterns):
            listed = ", ".join(patterns) or "none"
            raise Refusal(
                code, f"client {self.name} may not use this {kind}; its {kind}s: {listed}"
            )


EVERYBODY = Client("default")


def lower(configured: str, asked: bytes | None) -> str:
    """The capture for a request: what it asks for, where that is less than the configuration's."""
    wanted = asked.decode("latin-1").strip().lower() if asked else configured
    if wanted not in _CAPTURES:
        return configured
    return min(configured, wanted, key=_CAPTURES.index)


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns fits a name as it is spelt."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def allows(model: str, models: Iterable[str], blacklisted: Iterable[str]) -> bool:
    """Whether a model is one of `models`, and none of those that are denied.

    Providers read names in any case, and `models/NAME` as NAME: what is denied is denied in these
    spellings too, and what is allowed is allowed as a resource name.
    """
    model = model.lower()
    bare = model.rpartition("/")[2]
    if _fits(model, blacklisted) or _fits(bare, blacklisted):
        return False
    is_resource = f"/{model}".endswith(f"/models/{bare}")
    return _fits(model, models) or (is_resource and _fits(bare, models))


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern.lower()) for pattern in patterns)
