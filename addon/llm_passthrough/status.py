"""What the gateway says about itself: `/`, `/health`, and each bare prefix. No secrets."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llm_passthrough import __version__
from llm_passthrough.routes import Routes, Upstream
from llm_passthrough.sinks.writer import Tally
from llm_passthrough.tickets import Tickets

type Page = tuple[int, dict[str, object] | None]


@dataclass(frozen=True, slots=True)
class State:
    """What changes: the tally of records, and now: monotonic seconds for keys that rest, `wall`
    (since the epoch) for what expires.

    `local`: somebody on this machine asks; keys and `clients` (what each of them used) are nobody
    else's business. `draining`: the gateway ends, and takes no more requests.
    `tickets` are those of uploads that were begun. `traffic` tells what is open, and what was
    refused before there was a record of it. `shared`: whether other machines hear of us, `ok` or
    `away`; None where nothing is shared.
    """

    tally: Tally
    now: float
    local: bool = True
    wall: float = 0.0
    clients: Callable[[], object] | None = None
    draining: bool = False
    tickets: Tickets | None = None
    traffic: Callable[[], object] | None = None
    shared: Callable[[], str] | None = None


def page(routes: Routes, method: str, target: bytes, state: State) -> Page | None:
    """Status and JSON of a page of ours, or None where a request asks for none."""
    if method not in ("GET", "HEAD"):
        return None
    path, _, query = target.partition(b"?")
    if path == b"/":
        listed = {route.prefix: {"providers": _states(route.upstreams)} for route in routes.table}
        return 200, {"name": "llm-passthrough", "version": __version__, "routes": listed}
    if path == b"/health":
        return _health(routes, state, query.split(b"=")[0] if state.local else b"")
    text = path.decode("latin-1").removesuffix("/")
    route = next((route for route in routes.table if route.prefix == text), None)
    if route is None:
        return None
    return 200, {"route": route.prefix, "providers": _states(route.upstreams)}


def _health(routes: Routes, state: State, more: bytes) -> Page:
    """503 while records cannot be written, and at the end.

    Providers without a key do not make us unhealthy.
    """
    upstreams = [upstream for route in routes.table for upstream in route.upstreams]
    states, tally = _states(upstreams), state.tally.whole()
    log = {"state": tally.fault or "ok", "written": tally.written}
    log |= {"dropped": tally.dropped, "failed": tally.failed, "withheld": tally.withheld}
    log |= {name: state() for name, state in tally.beside.items()}
    ready = "ready" if "ready" in states.values() else "no provider is ready"
    failing = "draining" if state.draining else "failing" if tally.fault else None
    value: dict[str, object] = {"status": failing or ready}
    value |= {"providers": states, "log": log}
    if state.shared is not None:
        value["share"] = state.shared()
    if state.local and state.traffic is not None:
        value["traffic"] = state.traffic()
    if more == b"clients" and state.clients is not None:
        value["clients"] = state.clients()
    if more == b"keys":
        value["keys"] = {up.provider.name: _keys(up, state.now) for up in upstreams}
    return 503 if failing else 200, value


def _states(upstreams: Iterable[Upstream]) -> dict[str, str]:
    return {upstream.provider.name: ready(upstream) for upstream in upstreams}


def _keys(upstream: Upstream, now: float) -> dict[str, str]:
    """The keys of a provider by name, each `ready` or why and how long it rests."""
    ring = upstream.ring
    return {key.name: ring.describe(key, now) for key in ring.keys}


def ready(upstream: Upstream) -> str:
    """`ready`, or what is missing."""
    return "ready" if upstream.missing is None else f"not ready: {upstream.missing}"
