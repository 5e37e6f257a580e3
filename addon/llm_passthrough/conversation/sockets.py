"""A WebSocket's messages as a conversation: Realtime, Responses over a WebSocket, Gemini Live.

A record holds what either side said, one message behind the other; which answer belongs to which
question is told by their number.
"""

import json
from collections.abc import Iterator
from itertools import zip_longest

from llm_passthrough.conversation.answering import answer, joined
from llm_passthrough.conversation.asking import items, request
from llm_passthrough.conversation.parts import Part, Turn, parts
from llm_passthrough.conversation.values import Json, as_dict, as_list

type Group = list[Turn]

_DECODER = json.JSONDecoder()
_HEARD = "conversation.item.input_audio_transcription.completed"
# A tuple: what is looked up in it may be anything, and need not have a hash.
_ENDS = tuple(
    f"response.{end}" for end in ("done", "completed", "incomplete", "failed", "cancelled")
)


def talk(sent: str, got: str) -> list[Turn]:
    """The turns of both sides; nothing where they are of no known shape."""
    pairs = zip_longest(_asked(messages(sent)), _answered(messages(got)), fillvalue=())
    return [turn for asked, said in pairs for turn in (*asked, *said)]


def messages(text: str) -> Iterator[Json]:
    """The JSON objects that stand one behind the other, up to what cannot be read."""
    at = 0
    while (at := text.find("{", at)) >= 0:
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        yield as_dict(value)


def _asked(said: Iterator[Json]) -> Iterator[Group]:
    """What the client said, up to each time that it asks for an answer."""
    group: Group = []
    sounds = 0
    for message in said:
        kind = message.get("type")
        sounds += kind == "input_audio_buffer.append" or _is_sound(message)
        group += _turns_of(message)
        content = as_dict(message.get("clientContent") or message.get("client_content"))
        asks = content.get("turnComplete", content.get("turn_complete")) is True
        if kind == "response.create" or asks:
            yield group + _sound(sounds)
            group, sounds = [], 0
    yield group + _sound(sounds)


def _turns_of(message: Json) -> Group:
    if message.get("type") == "conversation.item.create":
        return list(items([message.get("item")]))
    if message.get("type") == "session.update":
        return list(request(as_dict(message.get("session"))))
    if message.get("type") == "response.create":
        return list(request(as_dict(message.get("response")) or message))
    if "setup" in message:
        return list(request(as_dict(message["setup"])))
    content = as_dict(message.get("clientContent") or message.get("client_content"))
    live = as_dict(message.get("realtimeInput") or message.get("realtime_input"))
    texts = [{"role": "user", "parts": [live]}] if isinstance(live.get("text"), str) else []
    return list(request({"contents": [*as_list(content.get("turns")), *texts]}))


def _is_sound(message: Json) -> bool:
    live = as_dict(message.get("realtimeInput") or message.get("realtime_input"))
    return any(name in live for name in ("audio", "mediaChunks", "media_chunks", "video"))


def _sound(count: int) -> Group:
    return [Turn("user", (Part("note", f"sound in {count} messages"),))] if count else []


def _answered(said: Iterator[Json]) -> Iterator[Group]:
    """What the provider said, up to the end of each of its answers."""
    group: Group = []
    spoken: list[Part] = []
    for message in said:
        kind = message.get("type")
        if kind == _HEARD and isinstance(message.get("transcript"), str):
            group.append(Turn("user", (Part("text", message["transcript"]),), answer=True))
        elif kind == "error":
            group += _mine(answer(message))
        elif kind in _ENDS:
            yield group + _mine(answer(as_dict(message.get("response"))))
            group = []
        content = as_dict(message.get("serverContent"))
        spoken += parts(as_dict(content.get("modelTurn")).get("parts"))
        spoken += parts(as_dict(content.get("outputTranscription")).get("text"))
        calls = as_list(as_dict(message.get("toolCall")).get("functionCalls"))
        spoken += parts([{"functionCall": call} for call in calls])
        if spoken and (content.get("turnComplete") is True or calls):
            yield [*group, Turn("model", joined(spoken), answer=True)]
            group, spoken = [], []
    if spoken:
        group.append(Turn("model", joined(spoken), answer=True))
    yield group


def _mine(turns: Iterator[Turn]) -> Group:
    return [Turn(turn.role, turn.parts, answer=True) for turn in turns if turn.parts]
