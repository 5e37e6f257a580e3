"""The clients of a configuration: whose token is whose, checked at start."""

import re
from collections.abc import Iterable, Mapping

from pydantic import SecretStr

from llm_passthrough.clients import Clients
from llm_passthrough.config import ClientEntry
from llm_passthrough.errors import Findings
from llm_passthrough.settings import SettingError, readable_by_others, secret
from llm_passthrough.wire import digest

_HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")
# Nobody guesses one of 22 characters of base64: 128 bits (RFC 4086 8.2.2).
_SHORTEST = 16


class Identities:
    """Makes the Clients; `secrets` are the tokens that stand in the configuration unhashed."""

    def __init__(self, env: Mapping[str, str], findings: Findings) -> None:
        self._env = env
        self._findings = findings
        self.secrets: list[SecretStr] = []

    def of(self, entries: Iterable[ClientEntry]) -> Clients:
        """Who may call; each name and each token stands for one client."""
        table: dict[bytes, str] = {}
        names: set[str] = set()
        for number, entry in enumerate(entries):
            place = f"clients[{number}]"
            if entry.name in names:
                self._findings.fault(f"{place}.name", "taken by another client; choose another")
            names.add(entry.name)
            for index, reference in enumerate(entry.tokens):
                where = f"{place}.tokens[{index}]"
                found = self._digest(where, reference)
                if found is not None and table.setdefault(found, entry.name) != entry.name:
                    self._findings.fault(where, "is another client's too; make a new one")
        return Clients(table)

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
