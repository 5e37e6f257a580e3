"""The pieces of a turn: content parts and items of every format, by their type.

Chat Completions, Responses and Messages name the `type` of a part, Gemini's parts have one field
that says it. Pictures, sound and files are told by their kind and size, never shown.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from llm_passthrough.conversation import media
from llm_passthrough.conversation.values import Json, as_dict, as_list, compact, size

type Kind = Literal[
    "text", "thinking", "tool_call", "tool_result", "media", "refusal", "error", "note", "raw"
]
# Nothing real is nested like that; what is becomes JSON text.
_DEEPEST = 8
_LONG_FIELD = 2000
_MOST = 10_000  # nobody reads more parts of one turn
# Fields of an item that say nothing about what was called.
_BOOKKEEPING = frozenset({"id", "type", "status", "call_id", "name", "cache_control", "namespace"})


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a turn; `name` is that of a tool, or the id of its call.

    `call` is the id that a call and its result share; `image` is a small picture as a data: URL.
    """

    kind: Kind
    text: str
    name: str = ""
    call: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said: `role` is the format's own word; `answer` marks what the model said."""

    role: str
    parts: tuple[Part, ...]
    answer: bool = False


type Reader = Callable[[Json, int], Iterator[Part]]


def parts(content: Any, depth: int = 0) -> list[Part]:
    """The parts of a content: a text, a part, or a list of them."""
    if isinstance(content, str):
        return [Part("text", content)] if content else []
    if isinstance(content, list) and depth < _DEEPEST:
        found = [part for one in content[:_MOST] for part in parts(one, depth + 1)]
        more = len(content) - _MOST
        return found if more <= 0 else [*found, Part("note", f"{more} more parts")]
    if isinstance(content, dict):
        return list(_part(content, depth))
    return [] if content is None else [Part("raw", compact(content))]


def flat(content: Any, depth: int = 0) -> str:
    """The same as one text, for what a tool gave back."""
    if isinstance(content, list | str) or (isinstance(content, dict) and "type" in content):
        return "\n".join(_line(part) for part in parts(content, depth))
    return "" if content is None else compact(content)


def _part(part: Json, depth: int) -> Iterator[Part]:
    kind = part.get("type")
    read = _BY_TYPE.get(kind) if isinstance(kind, str) else None
    if read is None and kind is None:
        read = next((read for name, read in _BY_FIELD.items() if name in part), None)
    if read is not None:
        yield from read(part, depth)
    elif isinstance(kind, str) and kind.endswith(("_result", "_output", "_response")):
        yield from _tool_result(part, depth)
    elif isinstance(kind, str) and kind.endswith(("_call", "_request")):
        yield from _call_of_its_own(part, depth)
    else:
        yield Part("raw", compact(part))


def _line(part: Part) -> str:
    return f"[{part.text}]" if part.kind in ("media", "note") else part.text


def _text(part: Json, depth: int) -> Iterator[Part]:
    text = part.get("text")
    if isinstance(text, str) and text:
        yield Part("thinking" if part.get("thought") is True else "text", text)


def _thinking(part: Json, depth: int) -> Iterator[Part]:
    """Anthropic's text, Mistral's list of parts, a part of a summary."""
    content = part.get("thinking", part.get("text"))
    text = flat(content, depth + 1)
    if text:
        yield Part("thinking", text)


def _hidden(part: Json, depth: int) -> Iterator[Part]:
    yield Part("thinking", f"[hidden, {size(len(compact(part.get('data'))))}]")


def _reasoning(part: Json, depth: int) -> Iterator[Part]:
    """An item of Responses: its own texts, else their summary, else only that there was one."""
    text = flat(part.get("content") or part.get("summary") or "", depth + 1)
    if not text and isinstance(part.get("encrypted_content"), str):
        text = f"[hidden, {size(len(part['encrypted_content']))}]"
    if text:
        yield Part("thinking", text)


def _refusal(part: Json, depth: int) -> Iterator[Part]:
    yield Part("refusal", compact(part.get("refusal", part.get("text"))))


def _message(part: Json, depth: int) -> Iterator[Part]:
    yield from parts(part.get("content"), depth + 1)


def _tool_call(part: Json, depth: int) -> Iterator[Part]:
    given = next((part[name] for name in ("arguments", "input", "args") if name in part), "")
    yield Part("tool_call", compact(given), _name(part), _id(part, "call_id", "id"))


def _call_of_its_own(part: Json, depth: int) -> Iterator[Part]:
    """A tool that runs at the provider's: what is said of it, without what is long."""
    said = {
        name: value if len(compact(value)) <= _LONG_FIELD else size(len(compact(value)))
        for name, value in part.items()
        if name not in _BOOKKEEPING and value is not None
    }
    name = str(part.get("name") or part.get("type"))
    text = compact(said) if said else ""
    yield Part("tool_call", text, name, _id(part, "call_id", "id"))


_RESULTS = ("output", "content", "result", "tools", "approve")


def _tool_result(part: Json, depth: int) -> Iterator[Part]:
    content = next((part[name] for name in _RESULTS if name in part), None)
    called = next((part[name] for name in ("name", "tool_use_id", "call_id") if part.get(name)), "")
    shared = _id(part, "tool_use_id", "call_id")
    yield Part("tool_result", flat(content, depth + 1), compact(called), shared)


def _listed_tools(part: Json, depth: int) -> Iterator[Part]:
    names = [compact(as_dict(tool).get("name")) for tool in as_list(part.get("tools"))]
    yield Part("note", f"tools of {compact(part.get('server_label'))}: {', '.join(names)}")


def _summary(part: Json, depth: int) -> Iterator[Part]:
    yield Part("note", f"what went before, in short: {flat(part.get('content'), depth + 1)}")


def _nothing(part: Json, depth: int) -> Iterator[Part]:
    """A signature alone, which says nothing to a person."""
    yield from ()


def _function_call(part: Json, depth: int) -> Iterator[Part]:
    yield from _tool_call(as_dict(part.get("functionCall", part.get("function_call"))), depth)


def _function_response(part: Json, depth: int) -> Iterator[Part]:
    given = as_dict(part.get("functionResponse", part.get("function_response")))
    yield Part("tool_result", compact(given.get("response")), _name(given), _id(given, "id"))


def _code(part: Json, depth: int) -> Iterator[Part]:
    code = as_dict(part.get("executableCode", part.get("executable_code")))
    yield Part("tool_call", compact(code.get("code")), f"code {code.get('language', '')}".strip())


def _code_result(part: Json, depth: int) -> Iterator[Part]:
    result = as_dict(part.get("codeExecutionResult", part.get("code_execution_result")))
    yield Part("tool_result", compact(result.get("output", "")), str(result.get("outcome", "")))


def _tool_use(part: Json, depth: int) -> Iterator[Part]:
    given = as_dict(part.get("toolUse"))
    yield from _tool_call(given | {"id": given.get("toolUseId")}, depth)


def _tool_answer(part: Json, depth: int) -> Iterator[Part]:
    given = as_dict(part.get("toolResult"))
    shared = _id(given, "toolUseId")
    yield Part("tool_result", flat(given.get("content"), depth + 1), shared, shared)


def _reasoned(part: Json, depth: int) -> Iterator[Part]:
    """Converse, whole or put together from deltas."""
    given = as_dict(part.get("reasoningContent"))
    told = as_dict(given.get("reasoningText")) or given
    yield from _thinking(told, depth)


def _guarded(part: Json, depth: int) -> Iterator[Part]:
    yield from parts(as_dict(part.get("guardContent")).get("text"), depth + 1)


def _json(part: Json, depth: int) -> Iterator[Part]:
    yield Part("text", compact(part.get("json")))


def _name(part: Json) -> str:
    name = part.get("name") or part.get("type")
    return name if isinstance(name, str) else ""


def _id(part: Json, *names: str) -> str:
    """The id that a call and its result share."""
    return next((part[name] for name in names if isinstance(part.get(name), str)), "")


def _media(tell: Callable[[Json], str]) -> Reader:
    def read(part: Json, depth: int) -> Iterator[Part]:
        yield Part("media", tell(part), image=media.thumbnail(part))

    return read


_BY_TYPE: dict[str, Reader] = {
    "text": _text,
    "input_text": _text,
    "output_text": _text,
    "summary_text": _thinking,
    "reasoning_text": _thinking,
    "thinking": _thinking,
    "redacted_thinking": _hidden,
    "reasoning": _reasoning,
    "thought": _reasoning,
    "refusal": _refusal,
    "message": _message,
    "model_output": _message,
    "user_input": _message,
    "tool_use": _tool_call,
    "server_tool_use": _tool_call,
    "mcp_tool_use": _tool_call,
    "function_call": _tool_call,
    "custom_tool_call": _tool_call,
    "tool_result": _tool_result,
    "function_call_output": _tool_result,
    "custom_tool_call_output": _tool_result,
    "computer_call_output": _tool_result,
    "image": _media(media.image),
    "audio": _media(media.audio),
    "image_url": _media(media.image),
    "input_image": _media(media.image),
    "computer_screenshot": _media(media.image),
    "container_upload": _media(media.file),
    "compaction": _summary,
    "mcp_list_tools": _listed_tools,
    "program": _call_of_its_own,
    "input_audio": _media(media.audio),
    "file": _media(media.file),
    "input_file": _media(media.file),
    "file_url": _media(media.file),
    "document": _media(media.file),
    "video": _media(media.file),
}
# Gemini's and Converse's parts, and a message of Responses without a type.
_BY_FIELD: dict[str, Reader] = {
    "functionCall": _function_call,
    "function_call": _function_call,
    "functionResponse": _function_response,
    "function_response": _function_response,
    "inlineData": _media(media.inline),
    "inline_data": _media(media.inline),
    "fileData": _media(media.linked),
    "file_data": _media(media.linked),
    "executableCode": _code,
    "executable_code": _code,
    "codeExecutionResult": _code_result,
    "code_execution_result": _code_result,
    "toolUse": _tool_use,
    "toolResult": _tool_answer,
    "reasoningContent": _reasoned,
    "guardContent": _guarded,
    "image": _media(media.converse),
    "document": _media(media.converse),
    "video": _media(media.converse),
    "audio": _media(media.converse),
    "json": _json,
    "cachePoint": _nothing,
    "text": _text,
    "content": _message,
    "thoughtSignature": _nothing,
    "thought_signature": _nothing,
}
