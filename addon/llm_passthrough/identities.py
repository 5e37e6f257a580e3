"""The clients of a configuration: whose token is whose and what each may do, checked at start."""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from llm_passthrough.clients import Clients, Identity
from llm_passthrough.config import ClientEntry, Log
from llm_passthrough.config.words import moment
from llm_passthrough.errors import Findings
from llm_passthrough.policy import Client, Limits, fits
from llm_passthrough.settings import SettingError, readable_by_others, secret
from llm_passthrough.wire import digest

_HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")
# Nobody guesses one of 22 characters of base64: 128 bits (RFC 4086 8.2.2).
_SHORTEST = 16
_MONTH_DAYS = 31


@dataclass(frozen=True, slots=True)
class Known:
    """What a client's rules may name: prefixes of routes, providers, keys."""

    routes: Collection[str]
    providers: Collection[str]
    keys: Collection[str]


class Identities:
    """Makes the Clients; `secrets` are the tokens that stand in the configuration unhashed."""

    def __init__(self, env: Mapping[str, str], findings: Findings) -> None:
        self._env = env
        self._findings = findings
        self.secrets: list[SecretStr] = []

    def of(self, entries: Iterable[ClientEntry], known: Known, log: Log) -> Clients:
        """Who may call; each name and each token stands for one client."""
        table: dict[bytes, Identity] = {}
        names: set[str] = set()
        for number, entry in enumerate(entries):
            place = f"clients[{number}]"
            if entry.name in names:
                self._findings.fault(f"{place}.name", "taken by another client; choose another")
            names.add(entry.name)
            self._check_names(place, entry, known)
            client = self._client(place, entry, log)
            for index, token in enumerate(entry.tokens):
                where = f"{place}.tokens[{index}]"
                found = self._digest(where, token.value)
                if found is None:
                    continue
                expires = math.inf if token.expires is None else moment(token.expires)
                one = table.setdefault(found, Identity(client, found, expires))
                if one.client is not client:
                    self._findings.fault(where, "is another client's too; make a new one")
        return Clients(table)

    def _client(self, place: str, entry: ClientEntry, log: Log) -> Client:
        budget = entry.budget
        limits = Limits(
            entry.requests_per_minute,
            entry.tokens_per_minute,
            budget.daily,
            budget.monthly,
            budget.unpriced,
        )
        if limits.metered and "none" in (log.capture, entry.capture):
            self._findings.fault(
                place,
                "a budget and tokens_per_minute need to know what calls use; "
                "set capture (log.capture, or the client's) to usage or full",
            )
        kept = log.keep_days
        if limits.monthly is not None and kept is not None and kept < _MONTH_DAYS:
            self._findings.warn(
                f"{place}.budget.monthly",
                f"records are kept for {kept:g} days; after a start no more of the month is known",
            )
        return Client(
            name=entry.name,
            enabled=entry.enabled,
            routes=tuple(route.removeprefix("host:") for route in entry.routes),
            providers=entry.providers,
            models=entry.models,
            blacklisted=entry.blacklisted_models,
            keys=entry.keys,
            limits=limits,
            capture=entry.capture,
        )

    def _check_names(self, place: str, entry: ClientEntry, known: Known) -> None:
        """A rule that names nothing would be one that nobody meant."""
        prefixes = tuple(route for route in entry.routes if route.startswith("/"))
        for option, patterns, names in (
            ("routes", prefixes, known.routes),
            ("providers", entry.providers, known.providers),
            ("keys", entry.keys, known.keys),
        ):
            for pattern in patterns:
                if pattern != "*" and not any(fits(name, (pattern,)) for name in names):
                    listed = ", ".join(sorted(names)) or "none"
                    self._findings.fault(
                        f"{place}.{option}", f"one of them names nothing; there are: {listed}"
                    )

    def _digest(self, place: str, reference: str) -> bytes | None:
        if match := _HASHED.fullmatch(reference):
            return bytes.fromhex(match[1])
        if reference.startswith("sha256:"):
            self._findings.fault(place, "is no SHA-256; write sha256: and 64 hex digits")
            return None
        try:
            token = secret(reference, self._env)
        except SettingError as error:
            self._findings.fault(place, str(error))
            return None
        if len(token) < _SHORTEST:
            self._findings.fault(place, f"must have {_SHORTEST} characters or more; make a new one")
            return None
        if path := readable_by_others(reference):
            self._findings.warn(place, f"other users can read {path}; chmod 600 it")
        self.secrets.append(token)
        return digest(token)
