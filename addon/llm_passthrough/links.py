"""URLs in an answer's headers that would lead the client past us, mapped back to its route."""

from llm_passthrough.providers import Origin


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
    scheme, _, rest = url.partition(b"://")
    authority, slash, path = rest.partition(b"/")
    if not rest and url.startswith(b"/") and not url.startswith(b"//"):
        return own + url.removeprefix(base_path)
    if scheme == origin.scheme.encode() and authority == origin.authority:
        return own + (slash + path).removeprefix(base_path)
    return url if name == b"location" else None
