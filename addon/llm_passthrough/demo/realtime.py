"""The WebSocket APIs: OpenAI Realtime, Responses over WebSocket, Google Live.

A talk is a pure conversation: ``greet`` gives the first messages, ``hear`` those that answer one
message of the client. The socket itself is ``websocket.py``'s.

Shapes: https://platform.openai.com/docs/api-reference/realtime-server-events and
https://ai.google.dev/api/live
"""

import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from . import faults, gemini, openai_responses, say
from .answers import Json, mint, mint_hex


class Talk(Protocol):
    """One conversation. ``binary``: JSON goes in binary frames, as Google sends it."""

    binary: bool

    def greet(self) -> Iterable[Json]: ...

    def asked(self, message: Json) -> str:
        """The user text that this message wants an answer to; empty when it wants none."""

    def hear(self, message: Json) -> Iterable[Json]: ...


def _openai_error(status: int) -> Json:
    error = {"type": "server_error" if status >= 500 else "invalid_request_error"}
    error |= {"code": "rate_limit_exceeded" if status == 429 else f"demo_{status}"}
    return {
        "type": "error",
        "status": status,
        "error": error | {"message": f"Demo error {status}."},
    }


class Realtime:
    """OpenAI Realtime: text in, text out; the conversation is its last user item."""

    binary = False

    def __init__(self, model: str) -> None:
        self._session: Json = {
            "type": "realtime",
            "object": "realtime.session",
            "id": mint("sess_", 21),
            "model": model,
            "output_modalities": ["text"],
            "instructions": "",
            "expires_at": int(time.time()) + 1800,
        }
        self._item: Json = {}

    def greet(self) -> Iterable[Json]:
        """session.created."""
        return [self._event("session.created", session=self._session)]

    def asked(self, message: Json) -> str:
        """The last user item, once a response to it is due."""
        due = message.get("type") == "response.create"
        return say.last_user_text(self._body(message.get("response") or {})) if due else ""

    def _body(self, wishes: Json) -> Json:
        instructions = wishes.get("instructions") or self._session.get("instructions")
        given = wishes.get("input") or ([self._item] if self._item else [])
        return {"input": given, "instructions": instructions}

    def hear(self, message: Json) -> Iterable[Json]:
        """Answer one client event."""
        kind = message.get("type")
        if kind == "session.update":
            self._session |= message.get("session") or {}
            return [self._event("session.updated", session=self._session)]
        if kind == "conversation.item.create":
            return self._add(message["item"])
        if kind == "response.create":
            return self._respond(message.get("response") or {})
        return []

    def _event(self, kind: str, **fields: object) -> Json:
        return {"type": kind, "event_id": mint("event_", 21), **fields}

    def _add(self, item: Json) -> Iterator[Json]:
        self._item = {
            "id": mint("item_", 21),
            "object": "realtime.item",
            "status": "completed",
        } | item
        for kind in ("conversation.item.added", "conversation.item.done"):
            yield self._event(kind, previous_item_id=None, item=self._item)

    def _respond(self, wishes: Json) -> Iterator[Json]:
        body = self._body(wishes)
        fault = faults.in_text(say.last_user_text(body))
        if fault and fault.isdigit():
            yield self._event("error") | _openai_error(int(fault))
            return
        said = say.reply_to(say.last_user_text(body))
        response: Json = {"object": "realtime.response", "id": mint("resp_", 21)}
        response |= {"status": "in_progress", "status_details": None, "output": [], "usage": None}
        yield self._event("response.created", response=response)
        item: Json = {"id": mint("item_", 21), "object": "realtime.item", "type": "message"}
        item |= {"role": "assistant", "status": "in_progress", "content": []}
        at = {"response_id": response["id"], "output_index": 0}
        yield self._event("response.output_item.added", **at, item=item)
        yield from self._say(said, at | {"item_id": item["id"], "content_index": 0})
        content = [{"type": "output_text", "text": said}]
        item = item | {"status": "completed", "content": content}
        yield self._event("response.output_item.done", **at, item=item)
        finished = {"status": "completed", "output": [item], "usage": _realtime_usage(body, said)}
        yield self._event("response.done", response=response | finished)

    def _say(self, said: str, at: Json) -> Iterator[Json]:
        empty = {"type": "text", "text": ""}
        yield self._event("response.content_part.added", **at, part=empty)
        for word in say.words(said):
            yield self._event("response.output_text.delta", **at, delta=word)
        yield self._event("response.output_text.done", **at, text=said)
        yield self._event("response.content_part.done", **at, part=empty | {"text": said})


def _realtime_usage(body: Json, said: str) -> Json:
    count = say.count(body, said, reasons=False)
    inputs = {"text_tokens": count.prompt, "audio_tokens": 0, "image_tokens": 0}
    inputs |= {"cached_tokens": count.cached}
    return {
        "total_tokens": count.prompt + count.text,
        "input_tokens": count.prompt,
        "output_tokens": count.text,
        "input_token_details": inputs,
        "output_token_details": {"text_tokens": count.text, "audio_tokens": 0},
    }


class Responses:
    """The Responses API over WebSocket: each response.create is answered by response.* events."""

    binary = False

    def greet(self) -> Iterable[Json]:
        """Nothing: the client speaks first."""
        return []

    def asked(self, message: Json) -> str:
        """The last user text of the request."""
        return say.last_user_text(self._body(message))

    def _body(self, message: Json) -> Json:
        # Early clients put the request below "response", later ones beside "type".
        return message.get("response") or {k: v for k, v in message.items() if k != "type"}

    def hear(self, message: Json) -> Iterable[Json]:
        """Answer one client event; anything but response.create is an error event."""
        if message.get("type") != "response.create":
            return [_openai_error(400)]
        body = self._body(message)
        fault = faults.in_text(say.last_user_text(body))
        if fault and fault.isdigit():
            return [_openai_error(int(fault))]
        return openai_responses.events(body)


class Live:
    """Google Live: setup, then turns; JSON both camelCase and snake_case comes in."""

    binary = True

    def __init__(self) -> None:
        self._heard: Json = {"contents": []}

    def greet(self) -> Iterable[Json]:
        """Nothing: the client sends the setup first."""
        return []

    def asked(self, message: Json) -> str:
        """The text of this turn."""
        return say.last_user_text({"turns": self._turns(message)})

    def _turns(self, message: Json) -> list[Json]:
        realtime = message.get("realtimeInput") or message.get("realtime_input") or {}
        if realtime.get("text"):
            return [{"role": "user", "parts": [{"text": realtime["text"]}]}]
        content = message.get("clientContent") or message.get("client_content") or {}
        return content.get("turns") or []

    def hear(self, message: Json) -> Iterable[Json]:
        """Answer one client message; a turn that is not complete waits for more."""
        if "setup" in message:
            return [{"setupComplete": {"sessionId": mint_hex()}}]
        content = message.get("clientContent") or message.get("client_content")
        turns = self._turns(message)
        self._heard["contents"] += turns
        if content is not None:
            complete = content.get("turnComplete", content.get("turn_complete", False))
        else:
            complete = bool(turns)
        return self._turn() if complete else []

    def _turn(self) -> Iterator[Json]:
        text = say.last_user_text(self._heard)
        fault = faults.in_text(text)
        if fault and fault.isdigit():
            raise faults.HangupError(1011 if int(fault) >= 500 else 1008, f"Demo error {fault}.")
        said = say.reply_to(text)
        for word in say.words(said):
            yield {"serverContent": {"modelTurn": {"parts": [{"text": word}], "role": "model"}}}
        yield {"serverContent": {"generationComplete": True}}
        usage = gemini.usage(self._heard, said, text_field="responseTokenCount")
        yield {"serverContent": {"turnComplete": True}, "usageMetadata": usage}
