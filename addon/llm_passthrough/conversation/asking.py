"""What a request says: its system prompt, its messages, and the names of its tools as turns."""

from collections.abc import Callable, Iterator
from typing import Any

from llm_passthrough.conversation.parts import Part, Turn, flat, parts
from llm_passthrough.conversation.tools import tools
from llm_passthrough.conversation.values import Json, as_dict, as_list, compact


def request(asked: Json) -> Iterator[Turn]:
    """The turns of a request, given its JSON."""
    for name, read in _ROWS:
        if name in _OFFERS:
            yield from read({name: asked.get(name)})
        else:
            yield from read(asked.get(name))


def parameters(asked: Any) -> Json:
    """What else stands in a request beside its turns and its tools."""
    known = {name for name, _ in _ROWS}
    return {name: value for name, value in as_dict(asked).items() if name not in known}


def role_of(said: Json, usual: str) -> str:
    """The format's own word for who speaks."""
    role = said.get("role")
    return role if isinstance(role, str) and role else usual


def message(said: Json) -> Iterator[Part]:
    """A message of Chat Completions, of Anthropic and of who is like them."""
    for name in _THOUGHTS:
        if isinstance(said.get(name), str) and said[name]:
            yield Part("thinking", said[name])
            break
    content = said.get("content")
    if said.get("role") in ("tool", "function"):
        called = said.get("name") or said.get("tool_call_id") or said.get("tool_name") or ""
        shared = said.get("tool_call_id")
        yield Part("tool_result", flat(content), str(called), str(shared or ""))
    else:
        yield from parts(content)
    if isinstance(said.get("refusal"), str) and said["refusal"]:
        yield Part("refusal", said["refusal"])
    audio = as_dict(said.get("audio"))
    if audio.get("data"):
        yield from parts({"type": "input_audio", "input_audio": audio})
    yield from parts(audio.get("transcript"))
    for call in [*as_list(said.get("tool_calls")), said.get("function_call")]:
        call = as_dict(call)
        inner = as_dict(call.get("function") or call.get("custom") or call)
        if inner.get("name") or inner.get("arguments"):
            given = next((inner[name] for name in _GIVEN if name in inner), None)
            name, shared = inner.get("name") or "", call.get("id") or ""
            yield Part("tool_call", compact(given), str(name), str(shared))


_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "tool_plan")
_GIVEN = ("arguments", "input", "parameters")


def items(value: Any, usual: Callable[[str], str] | None = None) -> Iterator[Turn]:
    """`input` and `output` of Responses: what follows one another in one role is one turn.

    `usual` tells the role of an item of a type, where the item itself does not.
    """
    role, said = "", list[Part]()
    for item in [value] if isinstance(value, str) else as_list(value):
        by = _item_role(item, usual or _usual)
        if by != role and said:
            yield Turn(role, tuple(said))
            said = []
        role = by
        said += parts(item)
    if said:
        yield Turn(role, tuple(said))


def _item_role(item: Any, usual: Callable[[str], str]) -> str:
    if not isinstance(item, dict) or "type" not in item:
        return role_of(as_dict(item), "user")
    return role_of(item, usual(str(item["type"])))


def _usual(kind: str) -> str:
    known = _ITEM_ROLES.get(kind)
    return known or ("tool" if kind.endswith(("_output", "_result")) else "assistant")


_ITEM_ROLES = dict.fromkeys(
    "message mcp_approval_response input_text input_image input_file"
    # Interactions
    " user_input text image audio video document file".split(),
    "user",
)
_ITEM_ROLES["model_output"] = "model"


def messages(value: Any) -> Iterator[Turn]:
    """Messages of Chat Completions and of Anthropic; `input` of Responses is read by `items`."""
    for said in as_list(value):
        if isinstance(said, dict):
            yield Turn(role_of(said, "user"), tuple(message(said)))
        else:
            yield Turn("user", tuple(parts(said)))


def _history(value: Any) -> Iterator[Turn]:
    """Cohere's first version: a message is a text."""
    for said in map(as_dict, as_list(value)):
        yield Turn(role_of(said, "user").lower(), tuple(parts(said.get("message"))))


def _system(value: Any) -> Iterator[Turn]:
    said = parts(value.get("parts") if isinstance(value, dict) else value)
    if said:
        yield Turn("system", tuple(said))


def _tools(offers: Any) -> Iterator[Turn]:
    names = [tool.name for tool in tools(offers)]
    if names:
        yield Turn("tools", (Part("note", ", ".join(names)),))


def _contents(value: Any) -> Iterator[Turn]:
    for content in value if isinstance(value, list) else [value] if value else []:
        if isinstance(content, dict) and "parts" in content:
            yield Turn(role_of(content, "user"), tuple(parts(content["parts"])))
        else:
            yield Turn("user", tuple(parts(content)))


def _prompt(value: Any) -> Iterator[Turn]:
    if isinstance(value, str | list) and value:
        yield Turn("user", tuple(parts(value)))


_OFFERS = frozenset({"tools", "toolConfig", "functions"})
_ROWS: tuple[tuple[str, Callable[[Any], Iterator[Turn]]], ...] = (
    ("system", _system),
    ("instructions", _system),
    ("systemInstruction", _system),
    ("system_instruction", _system),
    ("preamble", _system),
    ("tools", _tools),
    ("toolConfig", _tools),
    ("functions", _tools),
    ("messages", messages),
    ("input", items),
    ("contents", _contents),
    ("prompt", _prompt),
    ("inputText", _prompt),
    ("chat_history", _history),
    ("message", _prompt),
)
