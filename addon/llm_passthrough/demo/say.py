"""What the demo says and how it counts: the last user text, the echo, the tokens, the tool call.

One reader for every wire format: the formats differ in where texts lie, and these few keys cover
all of them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

ECHO = 200  # characters of the user's text that come back
_PROMPT_KEYS = (
    "messages", "contents", "input", "prompt", "instances", "requests", "content",
    "systemInstruction", "system_instruction", "system", "instructions", "turns", "item", "text",
)  # fmt: skip
_TURN_KEYS = (
    "messages", "contents", "input", "prompt", "instances", "requests", "content", "turns", "item",
)  # fmt: skip
_TOOL_RESULT = (
    "'role': 'tool'", "function_call_output", "tool_result", "functionResponse",
    "function_response",
)  # fmt: skip
_NO_TEXT = frozenset({"data", "role", "type", "url", "image_url", "id", "mimeType", "mime_type"})


@dataclass(frozen=True)
class Count:
    """Token counts of one answer, before a wire format names them."""

    prompt: int
    cached: int
    reasoning: int
    text: int

    @property
    def output(self) -> int:
        """Reasoning and text together."""
        return self.reasoning + self.text


def last_user_text(body: dict[str, Any]) -> str:
    """The text of the last turn that a user wrote; empty when there is none."""
    for key in _TURN_KEYS:
        if body.get(key):
            text = _turn_text(body[key])
            if text:
                return text
    return ""


def _turn_text(value: Any) -> str:
    if isinstance(value, list):
        turns = [turn for turn in value if _is_user(turn)]
        if turns and all(isinstance(turn, dict) and _is_text_part(turn) for turn in turns):
            return " ".join(filter(None, map(_turn_text, turns)))
        return next(filter(None, map(_turn_text, reversed(turns))), "")
    if isinstance(value, dict):
        keys = ("text", "content", "parts", "prompt", "input")
        return next(filter(None, (_turn_text(value.get(key)) for key in keys)), "")
    return value if isinstance(value, str) else ""


def _is_text_part(turn: dict[str, Any]) -> bool:
    return "role" not in turn and "parts" not in turn and "content" not in turn


def _is_user(turn: Any) -> bool:
    return not isinstance(turn, dict) or turn.get("role", "user") == "user"


def reply_to(text: str) -> str:
    """The paragraph that the demo answers with."""
    echo = text if len(text) <= ECHO else text[: ECHO - 1] + "…"
    return (
        "Hello from the demo provider! No model ran and nothing was charged: this text only shows "
        f"that your request went all the way through. You said: {echo or '(nothing)'}"
    )


def words(text: str) -> list[str]:
    """The pieces of a streamed text; joined they are the text."""
    return re.findall(r"\s*\S+(?:\s+$)?", text) or [text]


def count_text(text: str) -> int:
    """Four characters a token, the usual rule of thumb."""
    return (len(text) + 3) // 4


def count_prompt(body: dict[str, Any]) -> int:
    """Tokens of everything that the request says, plus a few for its frame."""
    return 4 + sum(count_text(t) for key in _PROMPT_KEYS for t in _strings(body.get(key)))


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in _NO_TEXT:
                yield from _strings(item)


def count(body: dict[str, Any], text: str, *, reasons: bool) -> Count:
    """Counts of an answer: a quarter of the prompt counts as cached, so that the field is seen."""
    prompt = count_prompt(body)
    return Count(prompt, prompt // 4, 16 if reasons else 0, count_text(text))


def wants_tool(body: dict[str, Any]) -> bool:
    """Whether the request offers tools, its last user text asks for one, and none has answered."""
    asks = bool(body.get("tools")) and "tool" in last_user_text(body).lower()
    return asks and not _tool_answered(body)


def _tool_answered(body: dict[str, Any]) -> bool:
    turns = next((body[key] for key in _TURN_KEYS if body.get(key)), None)
    last = repr(turns[-1]) if isinstance(turns, list) else ""
    return any(mark in last for mark in _TOOL_RESULT)


def sample(schema: dict[str, Any] | None) -> Any:
    """A value that fits a JSON schema well enough for a demo."""
    schema = schema or {"type": "object"}
    if schema.get("enum"):
        return schema["enum"][0]
    kind = str(schema.get("type", "string")).lower()
    if kind == "object":
        return {key: sample(value) for key, value in schema.get("properties", {}).items()}
    simple: dict[str, Any] = {"integer": 1, "number": 1.5, "boolean": True, "array": []}
    return simple.get(kind, "demo")
