"""Hosts that we stand for: which route a client means that knows us as its proxy only.

Such a client names the provider's own host; the provider, its keys and all else are those of the
prefixes. A host is served on its own port alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from llm_passthrough.clients import is_local
from llm_passthrough.errors import Refusal
from llm_passthrough.providers import PROVIDERS, Base, Origin
from llm_passthrough.routes import Route, Upstream


@dataclass(frozen=True, slots=True)
class Hosts:
    """The routes behind each origin, with the path below which they lie, the longest first.

    `regional` are upstreams with hosts beyond counting, such as one for each region. `local` are
    the routes on this machine: nobody needs a proxy to reach them, but calls may be repeated.
    """

    table: Mapping[Origin, tuple[tuple[bytes, Route], ...]]
    regional: tuple[Upstream, ...] = ()
    local: Mapping[Origin, tuple[Route, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, routes: Iterable[Route]) -> "Hosts":
        """The hosts of these routes."""
        upstreams = {id(up): up for route in routes for up in route.upstreams}.values()
        table: dict[Origin, list[tuple[bytes, Route]]] = {}
        for upstream in upstreams:
            for origin, path, narrowed in _places(upstream):
                table.setdefault(origin, []).append((path, _route(origin.host, narrowed)))
        ordered = {
            origin: tuple(sorted(found, key=lambda place: -len(place[0])))
            for origin, found in table.items()
            if not is_local(origin.host)
        }
        local = {
            origin: tuple(route for _, route in found)
            for origin, found in table.items()
            if is_local(origin.host)
        }
        return cls(ordered, tuple(up for up in upstreams if up.provider.has_host), local)

    def route(self, origin: Origin, path: bytes = b"") -> Route | None:
        """The route that stands for an origin, or None where it is nobody's that we know."""
        found = self.table.get(origin)
        if found is not None:
            return next((route for base, route in found if _below(base, path)), found[0][1])
        if origin.scheme == "https" and origin.port == 443:
            for upstream in self.regional:
                if upstream.provider.has_host and upstream.provider.has_host(origin.host):
                    return _route(origin.host, upstream)
        return None

    def again(self, origin: Origin, path: bytes, provider: str | None) -> Route | None:
        """The route for a call that is repeated as it was sent: its provider's, if that is there.

        The call may come from a file: who wrote that chooses among the routes of the origin.
        """
        found = [route for _, route in self.table.get(origin, ())]
        found += self.local.get(origin, ())
        named = (route for route in found if route.upstreams[0].provider.name == provider)
        return next(named, None) or self.route(origin, path) or (found[0] if found else None)

    def check_port(self, host: str) -> None:
        """Refuse a host that we stand for, on a port on which we do not: Refusal."""
        known = any(origin.host == host for origin in self.table)
        if known or self.route(Origin("https", host, 443)) is not None:
            raise Refusal("forward_blocked", f"{host} is a provider's; only its own port is served")

    @property
    def names(self) -> str:
        """The hosts by name, for messages."""
        return ", ".join(sorted({origin.host for origin in self.table}))


def _route(host: str, upstream: Upstream) -> Route:
    return Route(f"host:{host}", (upstream,), rule="host")


def _places(upstream: Upstream) -> Iterator[tuple[Origin, bytes, Upstream]]:
    """Each origin of an upstream, the path below which its API lies there, and the upstream as
    it is used from there."""
    bases = [base for base in (upstream.base, *upstream.endpoints.values()) if base is not None]
    for origin in dict.fromkeys(base.origin for base in bases):
        path = min((base.path for base in bases if base.origin == origin), key=len)
        yield origin, path, _at(upstream, origin)
    own = PROVIDERS.get(upstream.provider.name)
    if own is not None and own.base_url is not None:
        usual = Base.parse(own.base_url).origin
        if all(base.origin != usual for base in bases):
            yield usual, b"", upstream  # it is somewhere else; clients do not know that


def _at(upstream: Upstream, origin: Origin) -> Upstream:
    """The upstream with those keys alone that are used at this origin; a client's path is whole."""
    bare, base = Base(origin), upstream.base
    if not upstream.endpoints:
        return replace(upstream, base=bare)
    ring = upstream.ring
    endpoints = {
        name: bare for name, endpoint in upstream.endpoints.items() if endpoint.origin == origin
    }
    rest = base is not None and base.origin == origin
    keys = tuple(
        key
        for key in ring.keys
        if key.name in endpoints or (rest and key.name not in upstream.endpoints)
    )
    return replace(
        upstream,
        ring=replace(ring, keys=keys),  # its states are shared: a key rests everywhere
        base=bare if rest else None,
        endpoints=endpoints,
    )


def _below(base: bytes, path: bytes) -> bool:
    return path.startswith(base) and path[len(base) :][:1] in (b"", b"/", b"?")
