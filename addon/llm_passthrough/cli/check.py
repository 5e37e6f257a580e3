"""`llm-passthrough check`: what the configuration amounts to, provider by provider."""

import asyncio
import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from llm_passthrough.build import Parts
from llm_passthrough.cli.parts import parts_of
from llm_passthrough.errors import Refusal
from llm_passthrough.keyring import Key
from llm_passthrough.providers import Ask
from llm_passthrough.routes import Upstream
from llm_passthrough.seal import opened, sign
from llm_passthrough.status import ready
from llm_passthrough.tokens import TokenError

_TIMEOUT = 10.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key along to another host."""

    def redirect_request(self, *_: object) -> None:
        """Nothing is followed; the redirect itself is the answer."""


# The gateway asks no proxy either.
_OPENER = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))

File = Annotated[Path | None, typer.Argument(help="The configuration file (YAML).")]
Online = Annotated[bool, typer.Option("--online", help="Ask each provider for its models.")]


def check(file: File = None, online: Online = False) -> None:
    """Print each route's providers and keys: ready, or what is missing."""
    parts = parts_of(file)
    table = Table(box=None, header_style="bold")
    for column in ("route", "provider", "key", "models", "endpoint", "state"):
        table.add_column(column, overflow="fold")
    failed = False
    for cells in rows(parts, online):
        failed |= cells[-1].startswith("failed")
        table.add_row(*cells)
    Console(highlight=False, soft_wrap=False).print(table)
    if failed:
        raise typer.Exit(1)


def rows(parts: Parts, online: bool) -> list[tuple[str, ...]]:
    """One row a key: route, provider, key, models, endpoint, state."""
    out: list[tuple[str, ...]] = []
    for route in sorted(parts.routes.table, key=lambda route: route.prefix):
        for upstream in route.upstreams:
            name = upstream.provider.name
            if not upstream.ring.keys:
                out.append(
                    (route.prefix, name, "-", "-", _endpoint(upstream, None), ready(upstream))
                )
            for key in upstream.ring.keys:
                told = _online(upstream, key) if online else _ready(upstream, key)
                endpoint = _endpoint(upstream, key)
                out.append((route.prefix, name, key.name, _models(key), endpoint, told))
    return out


def _models(key: Key) -> str:
    without = "".join(f", not {name}" for name in key.blacklisted)
    return ", ".join(key.models) + without


def _endpoint(upstream: Upstream, key: Key | None) -> str:
    try:
        base = upstream.base_for(key)
    except Refusal:
        return "-"
    return str(base.origin) + base.path.decode()


def _ready(upstream: Upstream, key: Key) -> str:
    try:
        upstream.base_for(key)
    except Refusal as refusal:
        return f"not ready: {refusal.message}"
    return "ready"


def _online(upstream: Upstream, key: Key) -> str:
    """The answer of the provider's list of models, in words."""
    began = time.monotonic()
    try:
        status = _ask(upstream, key)
    except Refusal as refusal:
        return f"not ready: {refusal.message}"
    except TokenError as error:
        return f"failed: no token: {error}"
    except (OSError, http.client.HTTPException) as error:
        return f"failed: {getattr(error, 'reason', None) or type(error).__name__}"
    took = f"{(time.monotonic() - began) * 1000:.0f} ms"
    return f"ready ({took})" if status < 300 else f"failed: the provider answered {status}"


def _ask(upstream: Upstream, key: Key) -> int:
    path, _, query = upstream.provider.probe.partition(b"?")
    ask = Ask("GET", path, query or None)
    target = upstream.provider.locate(ask, key, upstream.base_for(key))
    secret = asyncio.run(key.token.get()) if key.token is not None else key.secret
    credential = upstream.provider.sign(ask, key)
    sealed = sign((), target.origin, credential, secret, "", upstream.extra_headers)
    url = str(target.origin) + target.path.decode("latin-1")
    request = urllib.request.Request(url, headers=opened(sealed))  # noqa: S310 - it is http(s)
    try:
        with _OPENER.open(request, timeout=_TIMEOUT) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
