"""Streams put together: events of an answer folded into the answer that a plain call had given.

Chat Completions https://platform.openai.com/docs/api-reference/chat-streaming,
Responses https://platform.openai.com/docs/api-reference/responses-streaming,
Messages https://docs.anthropic.com/en/docs/build-with-claude/streaming,
Gemini https://ai.google.dev/api/generate-content. For display: what does not fit is passed over.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic_core import from_json

from llm_passthrough.conversation.values import Json, as_dict

_BREAK = re.compile(r"\r\n|\r|\n")
_SSE_START = re.compile(r"\s*(data|event|id|retry)?:")
# Fields of a delta that are whole each time; all other texts are pieces.
_WHOLE = frozenset({"id", "type", "role", "index", "name", "finish_reason", "format"})
_DEEPEST = 20


def events(text: str) -> list[Json] | None:
    """The JSON objects of a stream (server-sent events, a JSON array, JSON lines), else None.

    An event that was cut off is left out: without its fields it could mean another.
    """
    start = text.lstrip()
    if _SSE_START.match(text):
        found = [_object(data) for data in _data(text)]
    elif start.startswith("["):
        values = loads(start)
        found = [value for value in values if isinstance(value, dict)] if values else []
    else:
        first, *others = _BREAK.split(start.rstrip())
        found = [_object(line) for line in (first, *others)] if others and _object(first) else []
    return [event for event in found if event] or None


def loads(text: str) -> Any:
    """JSON, also where its end is missing; None when it is none."""
    try:
        return from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return None


def assembled(stream: list[Json]) -> Json | None:
    """The answer that the events make; None when they are of no format that is known here."""
    for event in stream:
        for knows, fold in _FOLDS:
            if knows(event):
                return fold(stream)
    errors = _errors(stream)
    return {"error": errors[0]} if errors else None


def _data(text: str) -> Iterator[str]:
    """The data of each server-sent event (WHATWG HTML 9.2.6), the last also without its end."""
    data: list[str] = []
    for line in (*_BREAK.split(text.removeprefix("\ufeff")), ""):
        if not line and data:
            yield "\n".join(data)
            data = []
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))


def _object(text: str) -> Json | None:
    try:
        value = from_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _chat(stream: list[Json]) -> Json:
    choices: dict[str, Json] = {}
    for event in stream:
        for choice in _objects(event.get("choices")):
            into = choices.setdefault(str(choice.get("index", 0)), {"message": {}})
            _merge(into["message"], as_dict(choice.get("delta") or choice.get("message")))
            if isinstance(choice.get("text"), str):
                into["text"] = into.get("text", "") + choice["text"]
            into["finish_reason"] = choice.get("finish_reason") or into.get("finish_reason")
    return _with_errors({"choices": list(choices.values())}, stream)


def _merge(into: Json, delta: Json, depth: int = 0) -> None:
    """Add the pieces of a delta to what is there, as OpenAI's SDK does."""
    for name, value in delta.items():
        old = into.get(name)
        if isinstance(value, list):
            into[name] = old if isinstance(old, list) else [old] if old else []
            _merge_list(into[name], value, depth)
        elif isinstance(old, list) and isinstance(value, str):
            _merge_list(old, [value], depth)
        elif isinstance(old, dict) and isinstance(value, dict) and depth < _DEEPEST:
            _merge(old, value, depth + 1)
        elif isinstance(old, str) and isinstance(value, str) and name not in _WHOLE:
            into[name] = old + value
        elif value is not None and value != "":
            into[name] = value


def _merge_list(into: list[Any], pieces: list[Any], depth: int) -> None:
    for piece in pieces:
        if isinstance(piece, str) and into and isinstance(into[-1], str):
            into[-1] += piece
            continue
        match = next((old for old in _objects(into) if _continues(old, piece)), None)
        if match is not None and depth < _DEEPEST:
            _merge(match, piece, depth + 1)
        else:
            into.append(piece)


def _continues(old: Json, piece: Any) -> bool:
    """Whether a piece belongs to an entry: its index, unless it has another id."""
    if not isinstance(piece, dict) or "index" not in piece or piece["index"] != old.get("index"):
        return False
    return not (piece.get("id") and old.get("id") and piece["id"] != old["id"])


# The events of Responses that carry pieces: what stands in the name, where it goes.
_PIECES = {
    "response.output_text.delta": ("content", "output_text"),
    "response.refusal.delta": ("content", "refusal"),
    "response.reasoning_text.delta": ("content", "reasoning_text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_text"),
    "response.function_call_arguments.delta": ("arguments", ""),
    "response.mcp_call_arguments.delta": ("arguments", ""),
    "response.custom_tool_call_input.delta": ("input", ""),
    "response.code_interpreter_call_code.delta": ("code", ""),
}


def _responses(stream: list[Json]) -> Json:
    answer: Json = {}
    items: dict[str, Json] = {}
    for event in stream:
        place = str(event.get("output_index", 0))
        kind = str(event.get("type"))
        answer = as_dict(event.get("response")) or answer
        if kind in ("response.output_item.added", "response.output_item.done"):
            items[place] = as_dict(event.get("item"))
        elif kind in _PIECES and isinstance(event.get("delta"), str):
            _add_piece(items.setdefault(place, {}), event["delta"], *_PIECES[kind])
    # Some servers leave the output of the last event empty.
    output = answer.get("output") or list(items.values())
    return _with_errors(answer | {"output": output}, stream)


def _add_piece(item: Json, piece: str, field: str, part: str) -> None:
    old = item.get(field)
    if not part:
        item[field] = (old if isinstance(old, str) else "") + piece
        return
    if not isinstance(old, list):
        old = item[field] = []
    if old and isinstance(old[-1], dict) and old[-1].get("type") == part:
        old[-1]["text"] = str(old[-1].get("text", "")) + piece
    else:
        old.append({"type": part, "text": piece})


# The deltas of Messages: which field of a delta is added to which field of the block.
_DELTAS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("partial_json", "input"),
    "compaction_delta": ("content", "content"),
}


def _messages(stream: list[Json]) -> Json:
    answer: Json = {}
    blocks: dict[tuple[int, str], Json] = {}
    message = 0  # tools that run at the provider's can make several messages of one stream
    for event in stream:
        kind, place = event.get("type"), (message, str(event.get("index", 0)))
        delta = as_dict(event.get("delta"))
        if kind == "message_start":
            message += 1
            answer = as_dict(event.get("message"))
        elif kind == "content_block_start":
            blocks[place] = dict(as_dict(event.get("content_block")))
        elif kind == "content_block_delta":
            source, target = _DELTAS.get(str(delta.get("type")), ("", ""))
            piece, block = delta.get(source), blocks.setdefault(place, {"type": "text"})
            if isinstance(piece, str):
                old = block.get(target)
                block[target] = (old if isinstance(old, str) else "") + piece
        elif kind == "message_delta":
            answer = answer | delta
    answer = {"type": "message", "role": "assistant"} | answer
    return _with_errors(answer | {"content": list(blocks.values())}, stream)


def _gemini(stream: list[Json]) -> Json:
    answer: Json = {}
    candidates: dict[str, Json] = {}
    for event in stream:
        answer = answer | {name: value for name, value in event.items() if name != "candidates"}
        for candidate in _objects(event.get("candidates")):
            into = candidates.setdefault(str(candidate.get("index", 0)), {"parts": []})
            content = as_dict(candidate.get("content"))
            into["role"] = content.get("role") or into.get("role")
            for part in _objects(content.get("parts")):
                _add_part(into["parts"], part)
    answer["candidates"] = [{"content": content} for content in candidates.values()]
    return answer


def _add_part(parts: list[Json], part: Json) -> None:
    last = parts[-1] if parts else {}
    text, call = part.get("text"), as_dict(part.get("functionCall"))
    under_way = as_dict(last.get("functionCall"))
    same = bool(last.get("thought")) == bool(part.get("thought"))
    if isinstance(text, str) and isinstance(last.get("text"), str) and same:
        last["text"] += text
    elif "functionCall" in part and under_way.get("willContinue"):
        _add_arguments(under_way, call)  # the last piece is an empty call
    elif call:
        begun = dict(call)
        _add_arguments(begun, call)
        parts.append(part | {"functionCall": begun})
    else:
        parts.append(dict(part))


def _add_arguments(call: Json, piece: Json) -> None:
    """Streamed arguments of a function call: each names its place by a JSON path."""
    call["willContinue"] = piece.get("willContinue")
    pieces = _objects(piece.get("partialArgs"))
    if not pieces:
        return
    args = call["args"] = dict(as_dict(call.get("args")))
    for one in pieces:
        place = str(one.get("jsonPath", "$"))
        value = next((one[name] for name in one if name.endswith("Value")), None)
        old = args.get(place)
        args[place] = old + value if isinstance(old, str) and isinstance(value, str) else value


_FOLDS: tuple[tuple[Callable[[Json], bool], Callable[[list[Json]], Json]], ...] = (
    (lambda event: "choices" in event, _chat),
    (lambda event: str(event.get("type")).startswith("response."), _responses),
    (lambda event: event.get("type") in ("message_start", "content_block_start"), _messages),
    (lambda event: "candidates" in event or "promptFeedback" in event, _gemini),
)


def _with_errors(answer: Json, stream: list[Json]) -> Json:
    errors = [] if answer.get("error") else _errors(stream)
    return answer | {"error": errors[0]} if errors else answer


def _errors(stream: list[Json]) -> list[Any]:
    """Errors inside of a stream; Responses has its fields at the top level."""
    return [
        event.get("error") or event
        for event in stream
        if event.get("error") or event.get("type") == "error"
    ]


def _objects(value: Any) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
