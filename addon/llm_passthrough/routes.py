"""Routes: which provider a path is for. A prefix matches at a segment boundary only."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from llm_passthrough.errors import ErrorShape, Refusal
from llm_passthrough.keyring import Key, KeyRing
from llm_passthrough.providers import Base, Provider
from llm_passthrough.providers.google import by_path, is_google_token

# RFC 3986 allows none of these raw in a path or a query; what is let through could end a line,
# begin a fragment, or mean a slash to somebody further on.
_FORBIDDEN = frozenset(range(0x21)) | frozenset(range(0x7F, 0x100)) | frozenset(b"\\#")
_SLASHES = re.compile(rb"[/\\]")


@dataclass(frozen=True, slots=True)
class Upstream:
    """A provider as it is configured: its keys, where it is, how long to wait for it.

    Times are in seconds; `token` is that for a key's token. `endpoints` holds the base URL of each
    key that has its own. `forward`: the client's own credential is passed on; `keyless`: there is
    none at all.
    """

    provider: Provider
    ring: KeyRing
    base: Base | None
    first_byte: float
    idle: float
    forward: bool = False
    extra_headers: tuple[tuple[bytes, bytes], ...] = ()
    endpoints: Mapping[str, Base] = field(default_factory=dict)
    keyless: bool = False
    token: float = 30.0

    def base_for(self, key: Key | None) -> Base:
        """The base URL that a key is used with. Raises Refusal (no_endpoint)."""
        base = self.endpoints.get(key.name, self.base) if key else self.base
        if base is None:
            raise Refusal("no_endpoint", f"{self.provider.name} has no endpoint: {self.ring.mend}")
        return base

    @property
    def missing(self) -> str | None:
        """What has to be configured before this provider can be used, or None if it is ready."""
        if self.forward or self.keyless:
            return None
        if not self.ring.keys:
            return self.ring.mend
        if self.base is None and len(self.endpoints) < len(self.ring.keys):
            return f"a key has no endpoint: {self.ring.mend}"
        return None


@dataclass(frozen=True, slots=True)
class Route:
    """A prefix and what stands behind it: one upstream, or Google's two.

    Where a client means it by a host (hosts.py), `prefix` is `host:NAME` and `rule` is `host`.
    A host that is nobody's that we know has no upstream.
    """

    prefix: str
    upstreams: tuple[Upstream, ...]
    rule: str = "prefix"

    @property
    def error_shape(self) -> ErrorShape:
        """The shape of refusals that this route's SDKs can read."""
        return self.upstreams[0].provider.error_shape if self.upstreams else "openai"

    @property
    def asks_body(self) -> bool:
        """Whether the body may have to be looked at to know the provider."""
        return len(self.upstreams) > 1

    def upstream(self, path: bytes, authorization: str, hint: str | None) -> tuple[Upstream, str]:
        """The upstream for a path after the prefix, and the rule that chose it.

        `hint` is the Vertex resource path that the body names as its model, or None.
        """
        if not self.asks_body:
            return self.upstreams[0], self.rule
        name, rule = by_path(path) or _by_rest(authorization, hint)
        return next(up for up in self.upstreams if up.provider.name == name), rule

    def decided_by_path(self, path: bytes) -> bool:
        """Whether `path` alone decides the upstream, so that no body has to be read for it."""
        return not self.asks_body or by_path(path) is not None


def _by_rest(authorization: str, hint: str | None) -> tuple[str, str]:
    if hint is not None:
        return "vertex", "body"
    if is_google_token(authorization):
        return "vertex", "token"
    return "gemini", "default"


@dataclass(frozen=True, slots=True)
class Routes:
    """All routes, longest prefix first."""

    table: tuple[Route, ...]

    @classmethod
    def of(cls, routes: tuple[Route, ...]) -> "Routes":
        """Routes in the order in which they are tried."""
        return cls(tuple(sorted(routes, key=lambda route: -len(route.prefix))))

    def choose(self, target: bytes) -> tuple[Route, bytes, bytes | None]:
        """The route of a request target, the raw path after its prefix, and the raw query.

        Raises Refusal: bad_target for what could mean something else to somebody, no_route.
        """
        check(target)
        path, mark, query = target.partition(b"?")
        for route in self.table:
            prefix = route.prefix.encode()
            if path.startswith(prefix) and path[len(prefix) :][:1] in (b"", b"/"):
                rest = path[len(prefix) :]
                return route, rest, query if mark else None
        raise Refusal("no_route", f"no route for this path; routes: {self.names}")

    def has(self, target: bytes) -> bool:
        """Whether a request target is below one of the prefixes."""
        path = target.partition(b"?")[0]
        return any(f"{path.decode('latin-1')}/".startswith(f"{r.prefix}/") for r in self.table)

    def shape(self, target: bytes) -> ErrorShape:
        """The shape of refusals for a request target that may be no good."""
        path = target.partition(b"?")[0] + b"/"
        found = (r.error_shape for r in self.table if path.startswith(f"{r.prefix}/".encode()))
        return next(found, "openai")

    @property
    def rings(self) -> list[KeyRing]:
        """All key rings."""
        return [upstream.ring for route in self.table for upstream in route.upstreams]

    @property
    def names(self) -> str:
        """The prefixes, for messages."""
        return ", ".join(sorted(route.prefix for route in self.table))


def need_path(route: Route, rest: bytes) -> None:
    """Refuse a request that names a route and nothing behind it: Refusal (no_route)."""
    if rest not in (b"", b"/"):
        return
    hint = f"the path is empty; put the API's path behind {route.prefix}"
    if route.asks_body:
        hint += (
            " (google-genai drops the path when Vertex's project and location come from the "
            "environment only: pass project= and location=, or any api_key=)"
        )
    raise Refusal("no_route", hint)


def check(target: bytes) -> None:
    """Refuse a request target that is not plain: Refusal (bad_target) says what is wrong."""
    if not _FORBIDDEN.isdisjoint(target):
        raise Refusal(
            "bad_target",
            "the request target has a control character, a raw 8-bit byte, '#' or '\\'; "
            "percent-encode it",
        )
    path = target.partition(b"?")[0]
    if b"." in path or b"%" in path:
        _check_dots(path)


def _check_dots(path: bytes) -> None:
    # As it is, and decoded up to three times: each hop further on may decode once more. What
    # follows a ';' in a segment is a parameter to some servers (RFC 3986 3.3).
    for _ in range(4):
        if any(part.partition(b";")[0] == b".." for part in _SLASHES.split(path)):
            raise Refusal("bad_target", "the path has a '..' segment; send it resolved")
        if b"%" not in path:
            return
        path = unquote_to_bytes(path)
