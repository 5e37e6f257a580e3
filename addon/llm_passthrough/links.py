"""URLs in an answer's headers that would lead the client past us, mapped back to its route."""

import re

from llm_passthrough.providers import Origin

_AUTHORITY = re.compile(rb"[^/?#]*")


def own_base(tls: bool, host: str, prefix: str) -> bytes:
    """How the client addresses a route: scheme, the Host that it used, and the prefix."""
    scheme = "https" if tls else "http"
    return f"{scheme}://{host or 'localhost'}{prefix}".encode("latin-1")


def mapped(name: bytes, url: bytes, origin: Origin, base_path: bytes, own: bytes) -> bytes | None:
    """The URL as one of ours, or None where the header must not reach the client.

    `origin` and `base_path` are where the request was sent, `own` is the client's own_base. A
    Location to another host stays as it is (the client decides whether to follow it); an upload
    URL to another host would take the client's bytes past the gateway.
    """
    path = _path_at(url, origin)
    if path is not None and path.startswith(base_path):
        rest = path[len(base_path) :]
        if rest[:1] in (b"", b"/", b"?", b"#"):
            return own + rest
    if name != b"location":
        return None
    # A path that the route does not reach is meant for the provider's host, not for ours.
    return url if path is None or not _is_path(url) else str(origin).encode() + path


def _path_at(url: bytes, origin: Origin) -> bytes | None:
    """What follows the origin in a URL (RFC 3986 4.2), or None where it names another one."""
    if _is_path(url):
        return url
    scheme, mark, rest = url.partition(b"//")
    authority = _AUTHORITY.match(rest)
    assert authority is not None
    own = origin.authority.lower()
    with_port = own if own.endswith(b":%d" % origin.port) else own + b":%d" % origin.port
    named = authority[0].lower() in (own, with_port)
    schemes = (b"", origin.scheme.encode() + b":")
    return rest[authority.end() :] if mark and named and scheme.lower() in schemes else None


def _is_path(url: bytes) -> bool:
    return url.startswith(b"/") and not url.startswith(b"//")
