"""mitmproxy's messages without the looks that cost more than they tell."""

from collections.abc import Iterable
from typing import Any

from mitmproxy import http

_headers = http.Headers.__init__


def install() -> None:
    """Put these in the place of mitmproxy's."""
    # It checks the types of what mitmproxy itself has just parsed.
    http.MessageData.__post_init__ = _unchecked  # type: ignore[method-assign]
    http.Headers.__init__ = _made  # type: ignore[method-assign]
    http.Headers.get_all = _all  # type: ignore[method-assign]
    http.Headers.get = _get  # type: ignore[assignment, method-assign]
    http.Headers.__contains__ = _has  # type: ignore[assignment, method-assign]


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
