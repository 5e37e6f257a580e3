"""Streams put together: events of an answer folded into the answer that a plain call had given.

The formats of OpenAI, Anthropic and Gemini; `others` has those of everybody else.

Chat Completions https://platform.openai.com/docs/api-reference/chat-streaming,
Responses https://platform.openai.com/docs/api-reference/responses-streaming,
Messages https://docs.anthropic.com/en/docs/build-with-claude/streaming,
Gemini https://ai.google.dev/api/generate-content. For display: what does not fit is passed over.
"""

from collections.abc import Callable
from typing import Any

from llm_passthrough.conversation.merging import merge, objects
from llm_passthrough.conversation.others import FOLDS, Fold
from llm_passthrough.conversation.values import Json, as_dict


def assembled(stream: list[Json]) -> Json | None:
    """The answer that the events make; None when they are of no format that is known here."""
    for event in stream:
        for knows, fold in _FOLDS:
            if knows(event):
                return _with_errors(fold(stream), stream)
    errors = _errors(stream)
    return {"error": errors[0]} if errors else None


def _chat(stream: list[Json]) -> Json:
    choices: dict[str, Json] = {}
    for event in stream:
        for choice in objects(event.get("choices")):
            into = choices.setdefault(str(choice.get("index", 0)), {"message": {}})
            merge(into["message"], as_dict(choice.get("delta") or choice.get("message")))
            if isinstance(choice.get("text"), str):
                into["text"] = into.get("text", "") + choice["text"]
            into["finish_reason"] = choice.get("finish_reason") or into.get("finish_reason")
    return {"choices": list(choices.values())}


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
    return answer | {"output": output}


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
    return answer | {"content": list(blocks.values())}


def _gemini(stream: list[Json]) -> Json:
    answer: Json = {}
    candidates: dict[str, Json] = {}
    for event in stream:
        answer = answer | {name: value for name, value in event.items() if name != "candidates"}
        for candidate in objects(event.get("candidates")):
            into = candidates.setdefault(str(candidate.get("index", 0)), {"parts": []})
            content = as_dict(candidate.get("content"))
            into["role"] = content.get("role") or into.get("role")
            for part in objects(content.get("parts")):
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
    pieces = objects(piece.get("partialArgs"))
    if not pieces:
        return
    args = call["args"] = dict(as_dict(call.get("args")))
    for one in pieces:
        place = str(one.get("jsonPath", "$"))
        value = next((one[name] for name in one if name.endswith("Value")), None)
        old = args.get(place)
        args[place] = old + value if isinstance(old, str) and isinstance(value, str) else value


_FOLDS: tuple[tuple[Callable[[Json], Any], Fold], ...] = (
    (lambda event: "choices" in event, _chat),
    (lambda event: str(event.get("type")).startswith("response."), _responses),
    (lambda event: event.get("type") in ("message_start", "content_block_start"), _messages),
    (lambda event: "candidates" in event or "promptFeedback" in event, _gemini),
    *FOLDS,
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
