"""A record's bodies as a conversation: turns with texts, thinking, tool calls and results.

Bodies are read by their shape, for display only: OpenAI Chat Completions, Completions and
Responses, Anthropic Messages, Gemini generateContent, and who speaks like them. Nothing here
raises: what has no known shape becomes one raw turn.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llm_passthrough.conversation.assembly import assembled, events, loads
from llm_passthrough.conversation.parts import Part, flat, parts
from llm_passthrough.conversation.values import Json, as_dict, as_list, compact, size

__all__ = ["Part", "Turn", "turns"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said: `role` is the format's own word; `answer` marks what the model said."""

    role: str
    parts: tuple[Part, ...]
    answer: bool = False


def turns(record: Mapping[str, Any]) -> list[Turn]:
    """The conversation of a record: what was sent, then what was answered."""
    return [*_asked(as_dict(record.get("request"))), *_answered(as_dict(record.get("response")))]


def _asked(request: Json) -> Iterator[Turn]:
    text = _body(request)
    value = loads(text) if isinstance(text, str) else None
    found = [turn for name, read in _REQUEST for turn in read(as_dict(value).get(name))]
    yield from found or _raw("request", request, answer=False)
    yield from _cut("request", request)


def _answered(response: Json) -> Iterator[Turn]:
    text = _body(response)
    stream = events(text) if isinstance(text, str) else None
    value = assembled(stream) if stream else loads(text) if isinstance(text, str) else None
    found = [turn for name, read in _ANSWER for turn in read(as_dict(value).get(name))]
    if found:
        said = [Turn(turn.role, turn.parts, answer=True) for turn in found if turn.parts]
        yield from said or [Turn(found[0].role, (Part("note", "said nothing"),), answer=True)]
    elif as_dict(value).get("output") == []:
        yield Turn("assistant", (Part("note", "said nothing yet"),), answer=True)
    else:
        yield from _raw("answer", response, answer=True)
    yield from _cut("answer", response)


def _body(side: Json) -> str | None:
    body = side.get("body")
    return body if isinstance(body, str) and side.get("encoding") != "base64" else None


def _raw(role: str, side: Json, answer: bool) -> Iterator[Turn]:
    if not side or not side.get("bytes"):
        return
    text = _body(side)
    if text is not None:
        part = Part("raw", text)
    elif side.get("body"):
        part = Part("note", f"no text: {size(side['bytes'])}")
    else:
        part = Part("note", f"not recorded: {size(side['bytes'])}")
    yield Turn(role, (part,), answer)


def _cut(role: str, side: Json) -> Iterator[Turn]:
    if side.get("truncated") and side.get("body"):
        whole = size(side.get("bytes"))
        yield Turn(role, (Part("note", f"the recording is cut off here; {whole} went by"),))


def _system(value: Any) -> Iterator[Turn]:
    said = parts(value.get("parts") if isinstance(value, dict) else value)
    if said:
        yield Turn("system", tuple(said))


_DECLARED = ("functionDeclarations", "function_declarations")


def _tools(value: Any) -> Iterator[Turn]:
    names: list[str] = []
    for tool in as_list(value):
        declared = [as_dict(tool).get(name) for name in _DECLARED]
        inner = next((as_list(value) for value in declared if value), [tool])
        names += [_name_of_tool(one) for one in inner]
    if names:
        yield Turn("tools", (Part("note", ", ".join(names)),))


def _name_of_tool(tool: Any) -> str:
    tool = as_dict(tool)
    named = as_dict(tool.get("function")).get("name") or tool.get("name") or tool.get("type")
    return str(named or next(iter(tool), "?"))


def _messages(value: Any) -> Iterator[Turn]:
    """Messages of Chat Completions and of Anthropic; `input` of Responses is read by _items."""
    for message in as_list(value):
        if isinstance(message, dict):
            yield Turn(_role(message, "user"), tuple(_message(message)))
        else:
            yield Turn("user", tuple(parts(message)))


def _message(message: Json) -> Iterator[Part]:
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str) and message[name]:
            yield Part("thinking", message[name])
            break
    content = message.get("content")
    if message.get("role") in ("tool", "function"):
        called = message.get("name") or message.get("tool_call_id") or ""
        yield Part("tool_result", flat(content), str(called))
    else:
        yield from parts(content)
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        yield Part("refusal", message["refusal"])
    audio = as_dict(message.get("audio"))
    if audio.get("data"):
        yield from parts({"type": "input_audio", "input_audio": audio})
    yield from parts(audio.get("transcript"))
    calls = [*as_list(message.get("tool_calls")), message.get("function_call")]
    for call in calls:
        call = as_dict(call)
        inner = as_dict(call.get("function") or call.get("custom") or call)
        if inner.get("name") or inner.get("arguments"):
            given = inner.get("arguments", inner.get("input"))
            yield Part("tool_call", compact(given), str(inner.get("name") or ""))


def _items(value: Any) -> Iterator[Turn]:
    """`input` and `output` of Responses: what follows one another in one role is one turn."""
    role, said = "", list[Part]()
    for item in [value] if isinstance(value, str) else as_list(value):
        by = _item_role(item)
        if by != role and said:
            yield Turn(role, tuple(said))
            said = []
        role = by
        said += parts(item)
    if said:
        yield Turn(role, tuple(said))


def _item_role(item: Any) -> str:
    if not isinstance(item, dict) or "type" not in item:
        return _role(as_dict(item), "user")
    kind = str(item["type"])
    usual = "tool" if kind.endswith("_output") else _ITEM_ROLES.get(kind, "assistant")
    return _role(item, usual)


_ITEM_ROLES = {
    "message": "user",
    "mcp_approval_response": "user",
    "input_text": "user",
    "input_image": "user",
    "input_file": "user",
}


def _contents(value: Any) -> Iterator[Turn]:
    for content in value if isinstance(value, list) else [value] if value else []:
        if isinstance(content, dict) and "parts" in content:
            yield Turn(_role(content, "user"), tuple(parts(content["parts"])))
        else:
            yield Turn("user", tuple(parts(content)))


def _prompt(value: Any) -> Iterator[Turn]:
    if isinstance(value, str | list) and value:
        yield Turn("user", tuple(parts(value)))


def _choices(value: Any) -> Iterator[Turn]:
    for choice in as_list(value):
        choice = as_dict(choice)
        message = as_dict(choice.get("message") or choice.get("delta"))
        said = [*_message(message), *parts(choice.get("text"))]
        yield Turn(_role(message, "assistant"), tuple(said))


def _said(value: Any) -> Iterator[Turn]:
    """`content` of an Anthropic answer; a text with citations comes in blocks, and is one text."""
    said: list[Part] = []
    for part in parts(as_list(value)):
        if part.kind == "text" and said and said[-1].kind == "text":
            said[-1] = Part("text", said[-1].text + part.text)
        else:
            said.append(part)
    if isinstance(value, list):
        yield Turn("assistant", tuple(said))


def _candidates(value: Any) -> Iterator[Turn]:
    for candidate in as_list(value):
        content = as_dict(as_dict(candidate).get("content"))
        yield Turn(_role(content, "model"), tuple(parts(content.get("parts"))))


def _error(value: Any) -> Iterator[Turn]:
    if value:
        message = as_dict(value).get("message")
        text = message if isinstance(message, str) and message else compact(value)
        name = as_dict(value).get("type") or as_dict(value).get("status") or ""
        yield Turn("error", (Part("error", text, str(name)),))


def _feedback(value: Any) -> Iterator[Turn]:
    reason = as_dict(value).get("blockReason")
    if reason:
        yield Turn("model", (Part("refusal", f"the prompt was blocked: {reason}"),))


_REQUEST: tuple[tuple[str, Callable[[Any], Iterator[Turn]]], ...] = (
    ("system", _system),
    ("instructions", _system),
    ("systemInstruction", _system),
    ("system_instruction", _system),
    ("tools", _tools),
    ("messages", _messages),
    ("input", _items),
    ("contents", _contents),
    ("prompt", _prompt),
)
_ANSWER: tuple[tuple[str, Callable[[Any], Iterator[Turn]]], ...] = (
    ("choices", _choices),
    ("output", _items),
    ("content", _said),
    ("candidates", _candidates),
    ("promptFeedback", _feedback),
    ("error", _error),
)


def _role(said: Json, usual: str) -> str:
    role = said.get("role")
    return role if isinstance(role, str) and role else usual
