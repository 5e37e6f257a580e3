"""Keys and the choice among them: weighted by chance, limited by model."""

import random
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pydantic import SecretStr

from llm_passthrough.errors import Refusal


@dataclass(frozen=True, slots=True)
class Key:
    """One configured credential of one provider. `secret` is opened by `wire` alone."""

    name: str
    provider: str
    secret: SecretStr
    weight: float = 1.0
    models: tuple[str, ...] = ("*",)
    blacklisted: tuple[str, ...] = ()
    bearer: bool = False
    api_version: str | None = None
    project: str | None = None
    region: str | None = None
    account_headers: tuple[tuple[bytes, bytes], ...] = ()

    def allows(self, model: str | None) -> bool:
        """Whether this key may serve `model`; a request without a model may use any key.

        Some providers read names in any case, and `models/NAME` as NAME: what is forbidden is
        forbidden in these spellings too.
        """
        if model is None:
            return True
        name = model.rpartition("/")[2]
        if _fits(model, self.blacklisted) or _fits(name, self.blacklisted):
            return False
        return _fits(model, self.models)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of one provider. `mend` says what would give it one."""

    provider: str
    keys: tuple[Key, ...]
    mend: str

    @property
    def asks_model(self) -> bool:
        """Whether the choice depends on the model, so that the body has to be read for it."""
        return any(key.models != ("*",) or key.blacklisted for key in self.keys)

    def pick(self, model: str | None, pinned: str | None, chance: random.Random) -> Key:
        """A key that allows `model`; `pinned` names one. Raises Refusal (no_key)."""
        if not self.keys:
            raise Refusal("no_key", f"no key for {self.provider}: {self.mend}")
        fit = [key for key in self.keys if key.allows(model) and pinned in (None, key.name)]
        if not fit:
            raise Refusal("no_key", self._why_none(model, pinned))
        if len(fit) == 1:
            return fit[0]
        weights = [key.weight for key in fit]
        return chance.choices(fit, weights if any(weights) else None)[0]

    def _why_none(self, model: str | None, pinned: str | None) -> str:
        names = ", ".join(key.name for key in self.keys)
        if pinned is not None and pinned not in {key.name for key in self.keys}:
            return f"{self.provider} has no key of the name in x-passthrough-key; keys: {names}"
        return f"no key of {self.provider} allows this model; see `models` of its keys ({names})"


def _fits(model: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(model.lower(), pattern.lower()) for pattern in patterns)
