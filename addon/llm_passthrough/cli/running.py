"""Asks a gateway that may be running: whether it is one, its prefixes, what it has recorded."""

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from llm_passthrough.cli.variables import PREFIXES

_PATIENCE = 5.0
_LOOK = 0.05
_LOOKS = 20
# Which provider tells a family of routes.
_PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "azure": "azure", "genai": "gemini"}


class NoGatewayError(Exception):
    """Something else listens there: one line with the mend."""


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that answers: its prefix for each family, and how many records it has written."""

    prefixes: Mapping[str, str]
    written: int


def running(host: str, port: int) -> Running | None:
    """The gateway at an address, or None where nobody listens. Raises NoGatewayError."""
    try:
        health, listed = _json(host, port, "/health"), _json(host, port, "/")
        prefixes = {family: _prefix(listed["routes"], family) for family in PREFIXES}
        return Running(MappingProxyType(prefixes), int(health["log"]["written"]))
    except ConnectionRefusedError:
        return None
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        raise NoGatewayError(
            f"what listens on {host}:{port} is no llm-passthrough gateway, or does not answer; "
            "give another --port"
        ) from None


def written(host: str, port: int) -> int | None:
    """How many records a gateway has written; None when it cannot be asked."""
    try:
        gateway = running(host, port)
    except NoGatewayError:
        return None
    return gateway.written if gateway else None


def settled(host: str, port: int) -> int | None:
    """The same, once it does not grow: a record is written a moment after its exchange."""
    before = written(host, port)
    for _ in range(_LOOKS):
        time.sleep(_LOOK)
        now = written(host, port)
        if now == before:
            break
        before = now
    return before


def _json(host: str, port: int, path: str) -> Any:
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def _prefix(routes: Mapping[str, Mapping[str, Any]], family: str) -> str:
    """Ours where it is served, else the first that leads to the family's provider."""
    provider = _PROVIDERS[family]
    found = [prefix for prefix, route in routes.items() if provider in route["providers"]]
    return PREFIXES[family] if PREFIXES[family] in found else found[0]
