"""Streams of other formats, put together: Bedrock, Cohere, Ollama, Interactions, single texts.

Converse https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html,
Cohere https://docs.cohere.com/docs/streaming, Ollama https://docs.ollama.com/api/streaming,
Interactions https://ai.google.dev/api/interactions-api.
"""

from collections.abc import Callable
from typing import Any

from llm_passthrough.conversation.merging import merge
from llm_passthrough.conversation.values import Json, as_dict

_CONVERSE = frozenset({"messageStart", "contentBlockStart", "contentBlockDelta"})
_COHERE = (
    "message-start", "content-start", "content-delta", "tool-plan-delta", "tool-call-start",
    "tool-call-delta",
)  # fmt: skip
_TEXTS = ("generation", "outputText", "completion")


def _converse(stream: list[Json]) -> Json:
    blocks: dict[str, Json] = {}
    for event in stream:
        for name, inner in (("contentBlockStart", "start"), ("contentBlockDelta", "delta")):
            told = as_dict(event.get(name))
            if told:
                block = blocks.setdefault(str(told.get("contentBlockIndex", 0)), {})
                merge(block, as_dict(told.get(inner)))
    return {"output": {"message": {"role": "assistant", "content": list(blocks.values())}}}


def _cohere(stream: list[Json]) -> Json:
    """The second version: each delta is a piece of a message, content and calls by index."""
    message: Json = {"role": "assistant"}
    content: dict[str, Json] = {}
    calls: dict[str, Json] = {}
    for event in stream:
        piece = dict(as_dict(as_dict(event.get("delta")).get("message")))
        place = str(event.get("index", 0))
        for name, rows in (("content", content), ("tool_calls", calls)):
            told = piece.pop(name, None)
            if isinstance(told, dict):
                merge(rows.setdefault(place, {}), told)
        merge(message, {name: value for name, value in piece.items() if name == "tool_plan"})
    return {"message": message | {"content": [*content.values()], "tool_calls": [*calls.values()]}}


def _cohere_before(stream: list[Json]) -> Json:
    """The first version."""
    text = "".join(
        event["text"]
        for event in stream
        if event.get("event_type") == "text-generation" and isinstance(event.get("text"), str)
    )
    ended = next((as_dict(event["response"]) for event in stream if event.get("response")), {})
    return ended | ({"text": text} if text else {})


def _ollama(stream: list[Json]) -> Json:
    answer: Json = {}
    for event in stream:
        told = {name: event[name] for name in ("message", "response") if event.get(name)}
        merge(answer, told)
    return answer


def _interactions(stream: list[Json]) -> Json:
    steps: dict[str, Json] = {}
    answer: Json = {}
    for event in stream:
        answer = as_dict(event.get("interaction")) or answer
        place = str(event.get("index", 0))
        begun = as_dict(event.get("step") or event.get("content"))
        if str(event.get("event_type")).endswith(".start"):
            steps[place] = dict(begun)
        delta = as_dict(event.get("delta"))
        if delta:
            _add_delta(steps.setdefault(place, {"type": "model_output"}), delta)
    return answer | {"steps": list(steps.values())}


def _add_delta(step: Json, delta: Json) -> None:
    kind = delta.get("type")
    if kind in ("thought_signature", "thought_summary"):
        _add_text(step, "summary", as_dict(delta.get("content")))
    elif kind == "arguments_delta":
        old = step.get("arguments")
        piece = delta.get("arguments")
        step["arguments"] = (old if isinstance(old, str) else "") + str(piece or "")
    elif kind == "text":
        _add_text(step, "content", delta)
    else:
        step.setdefault("content", [])
        if isinstance(step["content"], list):
            step["content"].append(delta)


def _add_text(step: Json, field: str, piece: Json) -> None:
    text, old = piece.get("text"), step.get(field)
    if not isinstance(text, str):
        return
    if not isinstance(old, list):
        old = step[field] = []
    if old and isinstance(old[-1], dict) and isinstance(old[-1].get("text"), str):
        old[-1]["text"] += text
    else:
        old.append({"type": "text", "text": text})


def _texts(stream: list[Json]) -> Json:
    answer: Json = {}
    for event in stream:
        for name in _TEXTS:
            if isinstance(event.get(name), str):
                answer.setdefault(name, "")
                merge(answer, {name: event[name]})
    return answer


def _generations(stream: list[Json]) -> Json:
    """Cohere on Bedrock: several texts at once."""
    found: dict[str, Json] = {}
    for event in stream:
        if isinstance(event.get("text"), str):
            merge(found.setdefault(str(event.get("index", 0)), {}), {"text": event["text"]})
    return {"generations": list(found.values())}


def _transcript(stream: list[Json]) -> Json:
    return {"text": "".join(str(event.get("delta") or "") for event in stream if _heard(event))}


def _heard(event: Json) -> bool:
    return event.get("type") == "transcript.text.delta"


def _kind(event: Json) -> str:
    return str(event.get("event_type"))


type Fold = Callable[[list[Json]], Json]

FOLDS: tuple[tuple[Callable[[Json], Any], Fold], ...] = (
    (lambda event: _CONVERSE & event.keys(), _converse),
    (lambda event: event.get("type") in _COHERE, _cohere),
    (lambda event: _kind(event) in ("stream-start", "text-generation"), _cohere_before),
    (lambda event: _kind(event).startswith(("interaction.", "step.", "content.")), _interactions),
    (lambda event: "done" in event and ("message" in event or "response" in event), _ollama),
    (_heard, _transcript),
    (lambda event: "is_finished" in event, _generations),
    (lambda event: any(isinstance(event.get(name), str) for name in _TEXTS), _texts),
)
