"""`llm-passthrough explain`: what would happen to a request, and why; nothing is sent."""

import json
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llm_passthrough import forward
from llm_passthrough.admit import by_host
from llm_passthrough.build import Parts
from llm_passthrough.cli.options import ConfigFile
from llm_passthrough.cli.parts import parts_of
from llm_passthrough.clients import check_fields
from llm_passthrough.errors import Refusal
from llm_passthrough.policy import EVERYBODY, Client
from llm_passthrough.providers import Origin
from llm_passthrough.routes import need_path
from llm_passthrough.sinks.writer import Tally
from llm_passthrough.status import State, page
from llm_passthrough.verdict import Question, decide
from llm_passthrough.wire import (
    CREDENTIALS,
    DOOR_HEADERS,
    Fields,
    spelt,
    strip,
    whole_path,
    with_length,
)

Header = Annotated[
    list[str] | None, typer.Option("--header", "-H", help='A header, "Name: value".')
]
BodyFile = Annotated[Path | None, typer.Option("--body", help="A file; - for standard input.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


# A WebSocket's subprotocols may be credentials too.
_HIDDEN = CREDENTIALS | {b"sec-websocket-protocol"}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a gateway would do with a request; secrets are placeholders."""

    answered: str | None = None
    status: int | None = None
    error: str | None = None
    route: str | None = None
    provider: str | None = None
    detected_by: str | None = None
    key: str | None = None
    method: str | None = None
    url: str | None = None
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    body: str = "as it is"


def explain(
    method: Annotated[str, typer.Argument(help="Such as POST.")],
    url: Annotated[str, typer.Argument(help="A path such as /openai_passthrough/v1/models.")],
    header: Header = None,
    body: BodyFile = None,
    config: ConfigFile = None,
    as_json: Json = False,
    client: Annotated[
        str | None, typer.Option("--client", help="By whose rules; default: by none.")
    ] = None,
) -> None:
    """Print what would happen to a request and why, without sending anything."""
    parts = parts_of(config)
    who = _client(parts, client)
    content = b"" if body is None else sys.stdin.buffer.read() if str(body) == "-" else _read(body)
    told = explanation(parts, method, url, tuple(map(_header, header or ())), content, who)
    if as_json:
        values = {name: getattr(told, name) for name in Explanation.__slots__}
        typer.echo(json.dumps(values, indent=2))
        return
    table = Table.grid(padding=(0, 2))
    for name in Explanation.__slots__:
        value = getattr(told, name)
        if value not in (None, ()):
            text = "\n".join(value) if isinstance(value, tuple) else str(value)
            table.add_row(Text(name, "bold"), Text(text))
    Console(highlight=False).print(table)


def _client(parts: Parts, name: str | None) -> Client:
    """The client of that name; without one, somebody who may do everything."""
    if name is None:
        return EVERYBODY
    for client in parts.clients.all:
        if client.name == name:
            return client
    names = ", ".join(client.name for client in parts.clients.all) or "none"
    raise typer.BadParameter(f"no client has this name; there are: {names}")


def explanation(
    parts: Parts,
    method: str,
    url: str,
    fields: Fields,
    body: bytes,
    client: Client = EVERYBODY,
) -> Explanation:
    """The explanation of a request to a gateway with these parts."""
    authority, target = _apart(url)
    named = next((value for name, value in fields if name.lower() == b"host"), None)
    origin = _origin(url)
    # The host of a URL counts, whatever the Host header says (RFC 9112 3.2.2).
    host = authority if named is None or origin is not None else named
    whole = fields if named is not None else ((b"Host", host), *fields)
    stripped = strip(whole, target)
    removed = tuple(_texts(set(whole) - set(stripped.fields), hide=True))
    if stripped.target != target:
        removed += ("the query's credential",)
    try:
        check_fields(stripped.fields)
        headers = stripped.texts(DOOR_HEADERS)
        # A request to another host can only have come here as a proxy's.
        if origin is not None and not parts.door.is_ours(origin.host):
            client.check_enabled()
            route = by_host(parts, origin, stripped.target, method, headers)
            client.check_route(route.prefix)
            if not route.upstreams:
                how = "sent on as it came, without a key"
                return Explanation(answered=how, route=route.prefix, method=method, url=url)
            path, query = whole_path(stripped.target)
        else:
            parts.door.check_host(_name(host))
            parts.door.check(method, headers)
            own = page(parts.routes, method, stripped.target, State(Tally(), time.monotonic()))
            if own is not None:
                return Explanation(answered="by the gateway: its own page", status=own[0])
            client.check_enabled()
            route, path, query = parts.routes.choose(stripped.target)
            need_path(route, path)
            client.check_route(route.prefix)
        buffered = None if len(body) > parts.config.limits.request_buffer else body
        question = Question(route, path, query, method, stripped, buffered, client)
        verdict = decide(question, random.SystemRandom(), time.monotonic())
    except Refusal as refusal:
        return Explanation(
            answered="by the gateway: refused",
            status=refusal.status,
            error=f"{refusal.code}: {refusal.message}",
            removed=removed,
        )
    kept = stripped.fields
    rewritten = verdict.body is not None and verdict.body != body
    if rewritten:
        kept = with_length(kept, len(verdict.body or b""))
    sealed = verdict.sealed(kept, verdict.secret or SecretStr("token"))
    return Explanation(
        route=route.prefix,
        provider=verdict.upstream.provider.name,
        detected_by=verdict.detected_by,
        key=verdict.key.name if verdict.key else None,
        method=method,
        url=str(verdict.target.origin) + verdict.target.path.decode("latin-1"),
        removed=removed,
        added=tuple(_texts(set(sealed.fields) - set(stripped.fields), hide=False)),
        body="as it is" if not rewritten else "resource names replaced",
    )


def _apart(url: str) -> tuple[bytes, bytes]:
    """Host and port of a URL, and its target byte for byte; a path alone is asked of us."""
    if not url.startswith(("http://", "https://")):
        return b"localhost", os.fsencode(url)
    authority, slash, path = url.partition("://")[2].partition("/")
    host, mark, query = authority.partition("?")
    return os.fsencode(host), os.fsencode(f"/{mark}{query}{path if slash else ''}")


def _origin(url: str) -> Origin | None:
    """The origin of a URL; None for a path alone, and for what has no host."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return None
    return Origin(parts.scheme, forward.named(parts.hostname or ""), port)


def _name(host: bytes) -> str:
    """The name in a Host header."""
    try:
        return urlsplit(f"//{host.decode('latin-1')}").hostname or ""
    except ValueError:
        return ""


def _texts(fields: set[tuple[bytes, bytes]], hide: bool) -> list[str]:
    """Header lines in order, without the values of the client's credentials where they `hide`."""
    return sorted(
        f"{name.decode('latin-1')}: "
        + ("..." if hide and spelt(name) in _HIDDEN else value.decode("latin-1"))
        for name, value in fields
    )


def _header(line: str) -> tuple[bytes, bytes]:
    name, colon, value = os.fsencode(line).partition(b":")
    if not colon:
        raise typer.BadParameter('a header is "Name: value"')
    return name.strip(), value.strip()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None
