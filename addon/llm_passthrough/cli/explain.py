"""`llm-passthrough explain`: what would happen to a request, and why; nothing is sent."""

import json
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

from llm_passthrough.build import Parts
from llm_passthrough.cli.parts import ConfigFile, parts_of
from llm_passthrough.errors import Refusal
from llm_passthrough.routes import need_path
from llm_passthrough.sinks.writer import Tally
from llm_passthrough.status import State, page
from llm_passthrough.verdict import Question, decide
from llm_passthrough.wire import CREDENTIALS, DOOR_HEADERS, Fields, strip, with_length

Header = Annotated[
    list[str] | None, typer.Option("--header", "-H", help='A header, "Name: value".')
]
BodyFile = Annotated[Path | None, typer.Option("--body", help="A file; - for standard input.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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
) -> None:
    """Print what would happen to a request and why, without sending anything."""
    parts = parts_of(config)
    content = b"" if body is None else sys.stdin.buffer.read() if str(body) == "-" else _read(body)
    told = explanation(parts, method, url, tuple(map(_header, header or ())), content)
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


def explanation(parts: Parts, method: str, url: str, fields: Fields, body: bytes) -> Explanation:
    """The explanation of a request to a gateway with these parts."""
    split = urlsplit(url)
    target = (split.path or "/") + (f"?{split.query}" if "?" in url else "")
    host = split.hostname or "localhost"
    whole = fields
    if not any(name.lower() == b"host" for name, _ in fields):
        whole = ((b"Host", (split.netloc or "localhost").encode()), *fields)
    stripped = strip(whole, target.encode())
    removed = tuple(_texts(set(whole) - set(stripped.fields)))
    if stripped.target != target.encode():
        removed += ("the query's credential",)
    headers = stripped.texts(DOOR_HEADERS)
    try:
        parts.door.check(host, False, method, headers)
        own = page(parts.routes, method, stripped.target, State(Tally(), time.monotonic()))
        if own is not None:
            return Explanation(answered="by the gateway: its own page", status=own[0])
        route, path, query = parts.routes.choose(stripped.target)
        need_path(route, path)
        question = Question(route, path, query, method, stripped, body)
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
        added=tuple(_texts(set(sealed.fields) - set(kept))),
        body="resource names replaced" if rewritten else "as it is",
    )


def _texts(fields: set[tuple[bytes, bytes]]) -> list[str]:
    """Header lines in order; the value of what was a credential is not shown."""
    return sorted(f"{name.decode('latin-1')}: {_shown(name, value)}" for name, value in fields)


def _shown(name: bytes, value: bytes) -> str:
    hidden = name.lower() in CREDENTIALS and not value.strip().endswith(b"]")
    return "..." if hidden else value.decode("latin-1")


def _header(line: str) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(":")
    if not colon:
        raise typer.BadParameter('a header is "Name: value"')
    return name.strip().encode("latin-1"), value.strip().encode("latin-1")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None
