"""Anthropic's Messages API, plain and streamed; Vertex and Azure Foundry speak it as well.

Shapes: https://docs.anthropic.com/en/api/messages and .../messages-streaming
"""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any

from . import say
from .answers import Answer, Call, Json, RefusedError, encode, mint, plain

_THOUGHT = "The user wants to see a thought. This is one, and no model had it."
_SIGNATURE = base64.b64encode(b"demo signature, nothing was signed" * 4).decode()
_DELTAS = {"text": "text_delta", "thinking": "thinking_delta", "tool_use": "input_json_delta"}
_FIELDS = {"text": "text", "thinking": "thinking", "tool_use": "partial_json"}


def require_version(call: Call) -> None:
    """The header that every call to the API needs."""
    if not call.request.header("anthropic-version"):
        raise RefusedError(400, "anthropic-version: header is required")


def messages(call: Call) -> Answer:
    """POST /v1/messages."""
    require_version(call)
    return _answer(call, call.json, "model", "max_tokens", "messages")


def raw_predict(call: Call) -> Answer:
    """POST .../models/{m}:rawPredict on Vertex: model in the path, version in the body."""
    return _vertex(call, {"stream": False})


def stream_raw_predict(call: Call) -> Answer:
    """POST .../models/{m}:streamRawPredict on Vertex: streams when the body says so too."""
    return _vertex(call, {})


def _vertex(call: Call, forced: Json) -> Answer:
    body = {"model": call.names["model"].replace("@", "-")} | call.json | forced
    return _answer(call, body, "anthropic_version", "max_tokens", "messages")


def _answer(call: Call, body: Json, *required: str) -> Answer:
    for name in required:
        if body.get(name) is None:
            raise RefusedError(400, f"{name}: Field required")
    if body.get("stream"):
        headers = [("Cache-Control", "no-cache")]
        return Answer(
            _lines(events(body)), type="text/event-stream; charset=utf-8", headers=headers
        )
    return plain(_message(body))


def count_tokens(call: Call) -> Answer:
    """POST /v1/messages/count_tokens."""
    require_version(call)
    return plain({"input_tokens": say.count_prompt(call.json)})


def count_tokens_vertex(call: Call) -> Answer:
    """POST .../models/count-tokens:rawPredict on Vertex: no version header there."""
    return plain({"input_tokens": say.count_prompt(call.json)})


def _blocks(body: Json) -> list[Json]:
    blocks: list[Json] = []
    if (body.get("thinking") or {}).get("type") in ("enabled", "adaptive"):
        blocks.append({"type": "thinking", "thinking": _THOUGHT, "signature": _SIGNATURE})
    if say.wants_tool(body):
        tool = body["tools"][0]
        used = {"type": "tool_use", "id": mint("toolu_01", 22), "name": tool["name"]}
        blocks.append(used | {"input": say.sample(tool.get("input_schema"))})
    else:
        blocks.append({"type": "text", "text": say.reply_to(say.last_user_text(body))})
    return blocks


def _said(block: Json) -> str:
    if block["type"] == "tool_use":
        return json.dumps(block["input"])
    return str(block[block["type"]])


def _usage(body: Json, blocks: list[Json]) -> Json:
    """The three kinds of input tokens add up to the prompt; none is part of another."""
    prompt = say.count_prompt(body)
    caches = '"cache_control"' in json.dumps(body)
    made, read = (prompt // 4, prompt // 2) if caches else (0, 0)
    thought = sum(say.count_text(_said(b)) for b in blocks if b["type"] == "thinking")
    return {
        "input_tokens": prompt - made - read,
        "cache_creation_input_tokens": made,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": made, "ephemeral_1h_input_tokens": 0},
        "output_tokens": sum(say.count_text(_said(block)) for block in blocks),
        "output_tokens_details": {"thinking_tokens": thought},
        "service_tier": "standard",
    }


def _message(body: Json) -> Json:
    blocks = _blocks(body)
    used_tool = blocks[-1]["type"] == "tool_use"
    return {
        "id": mint("msg_01", 22),
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": blocks,
        "stop_reason": "tool_use" if used_tool else "end_turn",
        "stop_sequence": None,
        "usage": _usage(body, blocks),
    }


def events(body: Json) -> Iterator[Json]:
    """The events of one streamed message, in order."""
    message = _message(body)
    blocks, usage = message["content"], message["usage"]
    unsaid = {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    unsaid["usage"] = {k: v for k, v in unsaid["usage"].items() if k != "output_tokens_details"}
    yield {"type": "message_start", "message": message | unsaid}
    for index, block in enumerate(blocks):
        yield from _block_events(index, block)
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    kinds = ("cache_creation", "service_tier")  # message_delta leaves these out
    total = {key: value for key, value in usage.items() if key not in kinds}
    yield {"type": "message_delta", "delta": stop, "usage": total}
    yield {"type": "message_stop"}


def _block_events(index: int, block: Json) -> Iterator[Json]:
    kind = block["type"]
    empty: Json = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}.get(
        kind
    ) or {"input": {}}
    yield {"type": "content_block_start", "index": index, "content_block": block | empty}
    if index == 0:
        yield {"type": "ping"}
    deltas: list[Any] = [{"type": _DELTAS[kind], _FIELDS[kind]: w} for w in say.words(_said(block))]
    if kind == "thinking":
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _lines(stream: Iterable[Json]) -> Iterator[bytes]:
    """Named events; the API pads their JSON with blanks before the last brace, so we do too."""
    for event in stream:
        data = encode(event)
        padded = data[:-1] + b" " * (len(data) % 12) + b"}"
        yield b"event: " + event["type"].encode() + b"\ndata: " + padded + b"\n\n"
