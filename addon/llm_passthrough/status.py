"""What the gateway says about itself: `/`, `/health`, and each bare prefix. No secrets."""

from llm_passthrough import __version__
from llm_passthrough.routes import Route, Routes, Upstream
from llm_passthrough.sinks.writer import Tally

type Page = tuple[int, dict[str, object]]


def page(routes: Routes, path: bytes, tally: Tally | None) -> Page | None:
    """Status and JSON of a page of ours, or None where `path` (without its query) is none."""
    if path == b"/":
        listed = {route.prefix: route_state(route) for route in routes.table}
        return 200, {"name": "llm-passthrough", "version": __version__, "routes": listed}
    if path == b"/health":
        return health(routes, tally)
    text = path.decode("latin-1").removesuffix("/")
    route = next((route for route in routes.table if route.prefix == text), None)
    return None if route is None else (200, {"route": route.prefix} | route_state(route))


def health(routes: Routes, tally: Tally | None) -> Page:
    """503 while records cannot be written; providers without a key do not make us unhealthy."""
    states = {up.provider.name: state(up) for route in routes.table for up in route.upstreams}
    ready = any(value == "ready" for value in states.values())
    fault = tally.fault if tally else None
    log: dict[str, object] = {"state": "ok" if fault is None else fault}
    if tally:
        log |= {"written": tally.written, "dropped": tally.dropped, "failed": tally.failed}
    kind = "failing" if fault else "ready" if ready else "no provider is ready"
    return 503 if fault else 200, {"status": kind, "providers": states, "log": log}


def route_state(route: Route) -> dict[str, object]:
    """Each provider behind a route: `ready`, or what is missing."""
    return {"providers": {up.provider.name: state(up) for up in route.upstreams}}


def state(upstream: Upstream) -> str:
    """`ready`, or what is missing."""
    return "ready" if upstream.missing is None else f"not ready: {upstream.missing}"
