"""A request as a provider's prompt cache sees it: tools, system, messages, and what stands beside.

Two requests share a cached prefix when these are the same from the start. Marks for the cache
(`cache_control`) move from call to call and change nothing of that: they are left out here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_passthrough.conversation import loads
from llm_passthrough.conversation.values import Json, as_dict, as_list
from llm_passthrough.ledger.lines import epoch
from llm_passthrough.lineage import Message, blocks, canonical, split

_SYSTEM = ("instructions", "system", "systemInstruction", "system_instruction")
_DECLARED = ("functionDeclarations", "function_declarations")
# What changes how a prompt is built, or whether its cache is found (the providers' pages on it).
_SETTINGS = (
    "tool_choice",
    "parallel_tool_calls",
    "thinking",
    "reasoning",
    "reasoning_effort",
    "response_format",
    "output_config",
    "output_format",
    "text",
    "prompt_cache_key",
    "prompt_cache_retention",
    "cachedContent",
    "toolConfig",
)
_CACHE_HEADERS = ("anthropic-beta", "anthropic-version", "openai-beta")
_DEEPEST = 50


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that is offered, and its whole declaration as text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request in the parts that a cache compares; times are seconds since the epoch.

    `marks` counts the places that the client marked for the cache, `ttl` is the longest time in
    seconds that it asked for. `read` is false where there was no body to read.
    """

    id: str = ""
    provider: str | None = None
    model: str | None = None
    key: str | None = None
    tools: tuple[Tool, ...] = ()
    system: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    marks: int = 0
    ttl: float | None = None
    session: Mapping[str, str] = field(default_factory=dict)
    response_id: str | None = None
    previous_id: str | None = None
    began: float | None = None
    ended: float | None = None
    input_tokens: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    ok: bool = True
    read: bool = True


def prompt(record: Mapping[str, Any]) -> Prompt:
    """The prompt of a record; nothing here raises, whatever the body is."""
    request, usage = as_dict(record.get("request")), as_dict(record.get("usage"))
    body = request.get("body")
    text = body if isinstance(body, str) and request.get("encoding") != "base64" else None
    asked = as_dict(loads(text)) if text else {}
    began = epoch(record.get("time"))
    total = as_dict(record.get("timing_ms")).get("total")
    seconds = total / 1000 if isinstance(total, int | float) else 0.0
    system = [canonical(part) for name in _SYSTEM for part in _system(asked.get(name))]
    first, messages = split(asked)
    marks = list(_marks(asked))
    return Prompt(
        id=str(record.get("id") or ""),
        provider=_text(record.get("provider")),
        model=_text(as_dict(record.get("model")).get("requested")),
        key=_text(record.get("key")),
        tools=tuple(_tools(asked.get("tools"))),
        system=(*system, *first),
        messages=tuple(messages),
        settings={name: canonical(asked[name]) for name in _SETTINGS if name in asked},
        headers=_headers(request.get("headers")),
        marks=len(marks),
        ttl=max((3600.0 if mark.get("ttl") == "1h" else 300.0 for mark in marks), default=None),
        session={k: v for k, v in as_dict(record.get("session")).items() if isinstance(v, str)},
        response_id=_text(record.get("response_id")),
        previous_id=_text(asked.get("previous_response_id")),
        began=began,
        ended=None if began is None else began + seconds,
        input_tokens=_count(usage.get("input_tokens")),
        cache_read=_count(usage.get("cache_read_tokens")),
        cache_write=_count(usage.get("cache_write_tokens")),
        ok=record.get("outcome") == "ok",
        read=bool(asked),
    )


def _system(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = value.get("parts", value)
    yield from blocks(value)


def _tools(value: Any) -> Iterator[Tool]:
    for tool in as_list(value):
        declared = [as_dict(tool).get(name) for name in _DECLARED]
        for one in next((as_list(some) for some in declared if some), [tool]):
            inner = as_dict(one)
            name = as_dict(inner.get("function")).get("name") or inner.get("name")
            yield Tool(str(name or inner.get("type") or "?"), canonical(one))


def _marks(value: Any, depth: int = 0) -> Iterator[Json]:
    """Every `cache_control` of a request."""
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "cache_control" and isinstance(inner, dict):
                yield inner
            elif isinstance(inner, dict | list):
                yield from _marks(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _marks(inner, depth + 1)


def _headers(pairs: Any) -> dict[str, str]:
    found = {}
    for pair in as_list(pairs):
        match pair:
            case [str(name), str(value)] if name.lower() in _CACHE_HEADERS:
                found[name.lower()] = value
    return found


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
