"""Which conversation a request belongs to: its messages as texts that compare, and their hashes.

The turn before a request is the call whose messages are the beginning of its own, or the one whose
answer it names. So a record is found by the hash of all its messages, however many others lie
between: the requests after it know that hash, as the hash of their own first messages.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from llm_passthrough.conversation import loads
from llm_passthrough.conversation.values import as_dict
from llm_passthrough.record import Record

_MESSAGES = ("messages", "input", "contents")
_FIRST_ROLES = frozenset({"system", "developer"})
_DEEPEST = 50
_LONGEST = 8 << 20
_MARK = "cache_control"


class Message(NamedTuple):
    """A message as text that compares."""

    role: str
    text: str


class Lineage(NamedTuple):
    """What a record can be found by; null where it has none. Hashes are whole numbers, 64 bits.

    `opening_hash` is of the first message, `messages_hash` of all; instructions (system,
    developer) do not count, and neither do marks for a cache.
    """

    response_id: str | None = None
    previous_response_id: str | None = None
    opening_hash: int | None = None
    messages_hash: int | None = None


SQL_TYPES: Mapping[str, str] = {
    name: "INTEGER" if name.endswith("_hash") else "TEXT" for name in Lineage._fields
}


def of_record(record: Record) -> Lineage:
    """The lineage of a record that is about to be written."""
    request = record.request
    body = request.body if request.encoding == "utf-8" else None
    return _lineage(body, record.response_id)


def of_json(value: Mapping[str, Any]) -> Lineage:
    """The lineage of a record as JSON."""
    request = as_dict(value.get("request"))
    body = request.get("body") if request.get("encoding") != "base64" else None
    return _lineage(body, value.get("response_id"))


def _lineage(body: object, response_id: object) -> Lineage:
    answer = _text(response_id)
    if not isinstance(body, str) or len(body) > _LONGEST or not body.lstrip().startswith("{"):
        return Lineage(answer)
    asked = as_dict(loads(body))
    found = hashes(message.text for message in split(asked)[1]) if _talks(asked) else []
    ends = (found[0], found[-1]) if found else (None, None)
    return Lineage(answer, _text(asked.get("previous_response_id")), *ends)


def _talks(asked: Mapping[str, Any]) -> bool:
    """Whether there are messages; what is to be embedded may be thousands of texts or numbers."""
    found = (asked.get(name) for name in _MESSAGES)
    return not any(isinstance(v, list) and v and not isinstance(v[0], dict) for v in found)


def hashes(texts: Iterable[str]) -> list[int]:
    """The hash of the first text, of the first two, and so on to all."""
    found, digest = [], b""
    for text in texts:
        digest = blake2b(digest + text.encode("utf-8", "replace"), digest_size=8).digest()
        found.append(int.from_bytes(digest, signed=True))
    return found


def split(asked: Mapping[str, Any]) -> tuple[list[str], list[Message]]:
    """The instructions that stand before the first message, and the messages."""
    messages = [message for name in _MESSAGES for message in _messages(asked.get(name))]
    count = next(
        (n for n, message in enumerate(messages) if message.role not in _FIRST_ROLES),
        len(messages),
    )
    return [message.text for message in messages[:count]], messages[count:]


def blocks(value: Any) -> list[Any]:
    """A content as its blocks: a text and one block of text are the same to a provider."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}] if value else []
    return value if isinstance(value, list) else [] if value is None else [value]


def canonical(value: Any) -> str:
    """JSON in the order that it came in, without the marks for the cache."""
    try:
        return json.dumps(_unmarked(value), ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        return "?"


def _messages(value: Any) -> Iterator[Message]:
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    for one in value if isinstance(value, list) else [value] if value else []:
        message = as_dict(one)
        role = message.get("role", message.get("type", "user"))
        if "content" in message:
            message = message | {"content": blocks(message["content"])}
        yield Message(str(role), canonical(message or one))


def _unmarked(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        return value
    if isinstance(value, dict):
        return {name: _unmarked(inner, depth + 1) for name, inner in value.items() if name != _MARK}
    if isinstance(value, list):
        return [_unmarked(inner, depth + 1) for inner in value]
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value and value.isascii() else None
