"""Records made as the gateway makes them: from facts, through the recorder, into a line."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llm_passthrough.record import Body, Cost, Facts, Record, Usage, line
from llm_passthrough.recorder import _rfc3339, build
from llm_passthrough.redact import Redactor

START = 1_790_000_000.0  # 2026-09-21T14:13:20Z
_REDACTOR = Redactor([])


def record(
    id: str = "",
    started: float = START,
    *,
    asked: object = None,
    answered: object = None,
    usage: Usage | None = None,
    cost: Cost | None = None,
    model: str | None = None,
    first_token: float | None = None,
    session: dict[str, str] | None = None,
    **facts: Any,
) -> Record:
    """A record; bodies may be given as bytes, text, or what becomes JSON."""
    given = {
        "method": "POST",
        "client_path": b"/openai_passthrough/v1/chat/completions",
        "path": b"/v1/chat/completions",
        "route": "/openai_passthrough",
        "provider": "openai",
        "key": "team",
        "url": "https://api.openai.com/v1/chat/completions",
        "request_headers": (
            (b"Content-Type", b"application/json"),
            (b"Authorization", b"Bearer [openai/team]"),
        ),
        "status": 200,
        "response_headers": ((b"Content-Type", b"application/json"),),
        "total": 1.0,
        "first_byte": 0.5,
    } | facts
    sent = {"model": "gpt-4o", "messages": []} if asked is None else asked
    made = build(
        Facts(
            id=id or id_at(started),
            started=started,
            request=_body(sent),
            response=_body(answered),
            **given,
        ),
        _REDACTOR,
    )
    return replace(
        made,
        usage=usage or made.usage,
        cost=cost or made.cost,
        model=replace(made.model, response=model) if model else made.model,
        timing_ms=replace(made.timing_ms, first_token=first_token),
        session=session or made.session,
    )


def series(moments: Sequence[tuple[str, float]], **facts: Any) -> list[Record]:
    """The same call again and again, each with its id and its start: one is made, as that takes
    longest, and the last shows that the others are what they would be."""
    one = record("one", **facts)
    made = [replace(one, id=id, time=_rfc3339(started)) for id, started in moments]
    assert not moments or made[-1] == record(*moments[-1], **facts)
    return made


def id_at(started: float, tail: str = "0123456789abcdef") -> str:
    """An id as the gateway gives one to a request that begins at that moment."""
    return f"{round(started * 1000):012x}{tail}"


def lines(records: Iterable[Record]) -> bytes:
    """Records as a JSONL file has them."""
    return b"".join(line(one) for one in records)


def log(path: Path, records: Iterable[Record]) -> Path:
    """A JSONL file with these records."""
    path.write_bytes(lines(records))
    return path


def told(one: Record) -> dict[str, Any]:
    """A record as a reader of the log gets it."""
    value: dict[str, Any] = json.loads(line(one))
    return value


def usage(**counts: int) -> Usage:
    """Token counts; what is not named is unknown, whatever kinds there are."""
    return Usage(**counts)


def _body(content: object) -> Body:
    if content is None:
        return Body()
    if isinstance(content, str):
        content = content.encode()
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Body(raw, len(raw))
