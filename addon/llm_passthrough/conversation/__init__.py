"""A record's bodies as a conversation: turns with texts, thinking, tool calls and results.

Bodies are read by their shape, for display only: OpenAI Chat Completions, Completions and
Responses, Anthropic Messages, Gemini generateContent and Interactions, Amazon Bedrock, Cohere,
Ollama, and who speaks like them; WebSockets of Realtime, Responses and Live. Nothing here raises:
what has no known shape becomes one raw turn.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from llm_passthrough.conversation.answering import answer
from llm_passthrough.conversation.asking import parameters, request
from llm_passthrough.conversation.assembly import assembled
from llm_passthrough.conversation.events import events, frames, loads
from llm_passthrough.conversation.parts import Part, Turn
from llm_passthrough.conversation.sockets import talk
from llm_passthrough.conversation.tools import Tool, tools
from llm_passthrough.conversation.values import Json, as_dict, size, whole

__all__ = ["Part", "Tool", "Turn", "answered", "asked", "loads", "parameters", "tools", "turns"]


def turns(record: Mapping[str, Any]) -> list[Turn]:
    """The conversation of a record: what was sent, then what was answered."""
    sent, got = as_dict(record.get("request")), as_dict(record.get("response"))
    if got.get("status") == 101 and (said := _clean(talk(_text(sent), _text(got)))):
        return [*said, *_cut("request", sent), *_cut("answer", got)]
    return [
        *(asked(loads(_text(sent))) or _raw("request", sent, answer=False)),
        *_cut("request", sent),
        *(answered(_bytes(got)) or _raw("answer", got, answer=True)),
        *_cut("answer", got),
    ]


def asked(value: Any, most: int | None = None) -> list[Turn]:
    """What a request says, given its JSON; nothing where it is of no known shape.

    Where `most` is given, the turns after that many parts are left out.
    """
    return _clean(_first(request(as_dict(value)), most))


def _first(found: Iterable[Turn], most: int | None) -> Iterator[Turn]:
    count = 0
    for turn in found:
        yield turn
        count += 1 + len(turn.parts)
        if most is not None and count >= most:
            return


def answered(content: bytes) -> list[Turn]:
    """What an answer says, whole or as far as it went: JSON, a stream of events of any kind.

    `content` is without its content coding. Nothing where it is of no known shape.
    """
    stream = frames(content)
    if stream is None:
        text = content.decode("utf-8", "replace")
        stream = events(text)
        value = assembled(stream) if stream else loads(text)
    else:
        value = assembled(stream)
    found = list(answer(as_dict(value)))
    said = [replace(turn, answer=turn.role != "user") for turn in found if turn.parts]
    if found and not said:
        said = [Turn(found[0].role, (Part("note", "said nothing"),), answer=True)]
    elif not found and as_dict(value).get("output") == []:
        said = [Turn("assistant", (Part("note", "said nothing yet"),), answer=True)]
    return _clean(said)


def _text(side: Json) -> str:
    body = side.get("body")
    return body if isinstance(body, str) and side.get("encoding") != "base64" else ""


def _bytes(side: Json) -> bytes:
    body = side.get("body")
    if not isinstance(body, str):
        return b""
    if side.get("encoding") != "base64":
        return body.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(body)
    except binascii.Error:
        return b""


def _raw(role: str, side: Json, answer: bool) -> Iterator[Turn]:
    if not side or not side.get("bytes"):
        return
    if text := _text(side):
        part = Part("raw", text)
    elif side.get("body"):
        part = Part("note", f"no text: {size(side['bytes'])}")
    else:
        part = Part("note", f"not recorded: {size(side['bytes'])}")
    yield Turn(role, (part,), answer)


def _cut(role: str, side: Json) -> Iterator[Turn]:
    if side.get("truncated") and side.get("body"):
        told = size(side.get("bytes"))
        yield Turn(role, (Part("note", f"the recording is cut off here; {told} went by"),))


def _clean(found: Iterable[Turn]) -> list[Turn]:
    """The turns with every character whole: a provider may cut one in two between events."""
    return [replace(turn, parts=tuple(map(_whole, turn.parts))) for turn in found]


def _whole(part: Part) -> Part:
    if part.text.isascii() and part.name.isascii():
        return part
    return replace(part, text=whole(part.text), name=whole(part.name))
