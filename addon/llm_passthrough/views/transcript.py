"""A request, an answer or an event as nested values in the order in which a person reads them."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from llm_passthrough.asked import read_request
from llm_passthrough.conversation import Part, Tool, Turn, answered, asked, loads, parameters, tools
from llm_passthrough.conversation.values import compact, size
from llm_passthrough.dialects import reader
from llm_passthrough.usage import Reading

type Json = dict[str, Any]

_MOST_PARTS = 10_000
_LONGEST_TEXT = 200_000
_LONGEST_FIELD = 4000
_LONGEST_LIST = 50
_DEEPEST = 8
_LONGEST_ROLE = 40
_LONGEST_TOOL = 300
_USUAL = ("input", "output")
_BROKEN = "the stream ended before its last event"
# Bytes as text (RFC 4648): nobody reads them.
_BASE64 = re.compile(r"(?:data:[\w./+-]*;base64,)?[A-Za-z0-9+/_=-]{128,}")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its content without its coding, and what its head says.

    `whole` is false where not all of it is here, so that it says nothing of how it ended.
    """

    content: bytes
    status: int = 200
    kind: str = ""
    headers: Iterable[tuple[str, str]] = ()
    whole: bool = True


def request(content: bytes, path: str) -> Json | None:
    """What is asked: model, parameters, tools, conversation; None where it is no JSON object."""
    value = loads(content)
    if not isinstance(value, dict):
        return None
    found = [turn for turn in asked(value, _MOST_PARTS) if turn.role != "tools"]
    offered = tools(value)
    if not found and not offered:
        return brief(value)  # type: ignore[no-any-return]  # an object stays one
    others = {name: brief(one) for name, one in parameters(value).items() if name != "model"}
    shown: Json = {
        "model": value.get("model") or read_request(path.encode(), "google", b"").model,
        "parameters": others,
        "tools": [_tool(tool) for tool in offered],
        "conversation": [_turn(turn) for turn in found],
    }
    if sum(1 + len(turn.parts) for turn in found) >= _MOST_PARTS:
        shown["conversation"].append({"note": "there may be more turns than are shown here"})
    return {name: one for name, one in shown.items() if one}


def answer(given: Answer, path: str) -> Json | None:
    """What is answered, put together from a stream if it is one: who, why it ended, at what cost
    in tokens, and the conversation. None where it is of no known shape."""
    found = answered(given.content)
    heard = _heard(given, path)
    if not found:
        value = loads(given.content)
        return brief(value) if isinstance(value, dict) else None
    shown: Json = {
        "model": heard.model,
        "id": heard.response_id,
        "finish": ", ".join(heard.finish_reasons),
        "usage": _usage(heard),
        "service_tier": heard.service_tier,
        "note": _BROKEN if given.whole and heard.complete is False else None,
        "answer": [_turn(turn) for turn in found],
    }
    return {name: one for name, one in shown.items() if one}


def event(content: bytes) -> Json | None:
    """A message of a WebSocket; None where it is no JSON object."""
    value = loads(content)
    return brief(value) if isinstance(value, dict) else None


def brief(value: Any, depth: int = 0) -> Any:
    """The same with what is long told instead of shown: base64, long lists, deep objects."""
    if isinstance(value, str):
        if _BASE64.fullmatch(value):
            return f"[base64, {size(len(value.rpartition(',')[2].rstrip('=')) * 3 // 4)}]"
        return _cut(value, _LONGEST_FIELD)
    if isinstance(value, dict | list) and depth >= _DEEPEST:
        return _cut(compact(value), _LONGEST_FIELD)
    if isinstance(value, dict):
        return {str(name): brief(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list):
        shown = [brief(one, depth + 1) for one in value[:_LONGEST_LIST]]
        more = len(value) - len(shown)
        return [*shown, f"[{more} more]"] if more else shown
    return value


def _heard(given: Answer, path: str) -> Reading:
    found = reader(path.encode(), None, "openai", given.kind, given.status, given.headers)
    if found is None:
        return Reading()
    found.feed(given.content, 0.0)
    return found.end()


def _usage(heard: Reading) -> Json:
    counts = asdict(heard.usage) if heard.usage else {}
    told = {name.removesuffix("_tokens"): count for name, count in counts.items()}
    return {name: count for name, count in told.items() if count or (name in _USUAL and count == 0)}


def _tool(tool: Tool) -> str:
    told = f"{tool.name}({', '.join(tool.parameters)})"
    about = " ".join(tool.description.split())
    return _shortened(f"{told} - {about}" if about else told)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TOOL else f"{text[: _LONGEST_TOOL - 1]}…"


def _turn(turn: Turn) -> Json:
    """A text alone stands beside its role, all else in a list below."""
    said: Any = [_part(part) for part in turn.parts]
    if len(said) == 1 and "text" in said[0]:
        said = said[0]["text"]
    return {turn.role[:_LONGEST_ROLE]: said}


def _part(part: Part) -> Json:
    text = _cut(part.text, _LONGEST_TEXT)
    if part.kind == "tool_call":
        # Arguments are read as JSON, so that code and files in them keep their lines.
        value = loads(part.text) if part.text.startswith(("{", "[")) else None
        return {"tool_call": part.name, "arguments": text if value is None else _cut_all(value)}
    if part.kind == "tool_result":
        return {"tool_result": part.name, "output": text}
    if part.kind == "error" and part.name:
        return {"error": part.name, "message": text}
    return {part.kind: text}


def _cut_all(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return _cut(value, _LONGEST_TEXT)
    if isinstance(value, dict) and depth < _DEEPEST:
        return {str(name): _cut_all(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list) and depth < _DEEPEST:
        return [_cut_all(one, depth + 1) for one in value]
    return _cut(compact(value), _LONGEST_TEXT) if isinstance(value, dict | list) else value


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[:longest]}\n[{size(len(text.encode('utf-8', 'replace')))} in all]"
