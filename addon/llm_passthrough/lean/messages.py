"""mitmproxy's messages without the looks that cost more than they tell."""

import random
from collections.abc import Iterable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from mitmproxy import connection, flow, http
from mitmproxy.net.http import url

_headers = http.Headers.__init__
_authority = url.parse_authority
_known_authority = lru_cache(maxsize=64)(url.parse_authority)
_SHORT = 256


def install() -> None:
    """Put these in the place of mitmproxy's."""
    # It checks the types of what mitmproxy itself has just parsed.
    http.MessageData.__post_init__ = _unchecked  # type: ignore[method-assign]
    http.Headers.__init__ = _made  # type: ignore[method-assign]
    http.Headers.get_all = _all  # type: ignore[method-assign]
    http.Headers.get = _get  # type: ignore[assignment, method-assign]
    http.Headers.__contains__ = _has  # type: ignore[assignment, method-assign]
    url.parse_authority = _parsed_authority
    # Flows and connections are told apart by their ids; none of those is a secret.
    flow.uuid = connection.uuid = SimpleNamespace(uuid4=_new_id)  # type: ignore[attr-defined, assignment]


def _new_id() -> str:
    return f"{random.getrandbits(128):032x}"


def _parsed_authority(authority: str | bytes, check: bool) -> tuple[str, int | None]:
    """Most clients name one host alone."""
    known: Any = _known_authority if len(authority) < _SHORT else _authority
    found: tuple[str, int | None] = known(authority, check)
    return found


def _unchecked(self: http.MessageData) -> None:
    pass


def _made(self: http.Headers, fields: Iterable[tuple[bytes, bytes]] = (), **headers: Any) -> None:
    if headers:
        _headers(self, fields, **headers)
    else:
        self.fields = tuple(map(tuple, fields))  # type: ignore[arg-type]


def _values(headers: http.Headers, name: str | bytes) -> list[bytes]:
    """The values of all fields of that name; most names differ in their length already."""
    if isinstance(name, str):
        name = name.encode("utf-8", "surrogateescape")
    name, length = name.lower(), len(name)
    return [value for key, value in headers.fields if len(key) == length and key.lower() == name]


def _all(self: http.Headers, name: str | bytes) -> list[str]:
    return [value.decode("utf-8", "surrogateescape") for value in _values(self, name)]


def _get(self: http.Headers, name: str | bytes, default: Any = None) -> Any:
    found = _values(self, name)
    if not found:
        return default
    return ", ".join(value.decode("utf-8", "surrogateescape") for value in found)


def _has(self: http.Headers, name: str | bytes) -> bool:
    return bool(_values(self, name))
