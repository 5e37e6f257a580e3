"""What a request asked for, by its path and its body, and what of that body is odd.

Nothing here changes a request: a provider may read an odd body in another way than we do.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from pydantic_core import from_json

from llm_passthrough.bodies import model_part
from llm_passthrough.thin import parsed, thinned

type Object = Mapping[str, Any]


@dataclass(slots=True)
class Asked:
    """What a request asked for. `tools` is how many it offers; `session` names the client's ids.

    `unread` says what of the body others may read in another way, or could not be read.
    """

    model: str | None = None
    stream: bool | None = None
    tools: int | None = None
    session: Mapping[str, str] = field(default_factory=dict)
    unread: str | None = None


_MODEL = re.compile(rb"/(?:models|tunedModels|deployments|model|engines)/([^/?]+)")
_METHOD = re.compile(r":[A-Za-z]+\Z")
_STREAMS = re.compile(
    rb":streamGenerateContent|:streamRawPredict|/(converse|invoke-with-response)-stream\Z"
)
_LONGEST = 256
# Where a message of a websocket holds what a request holds at its top level.
_WRAPPED = ("setup", "session", "response")
# Realtime's `conversation` is no id: whether an answer belongs to it.
_HOWS = ("auto", "none")

# Ids by which clients tie calls together, and the keys at which they stand in the body.
_SESSION: Mapping[str, tuple[str, str | None]] = {
    "user_id": ("metadata", "user_id"),
    "session_id": ("session_id", None),
    "metadata_session_id": ("metadata", "session_id"),
    "conversation_id": ("conversation", "id"),
    "conversation": ("conversation", None),
    "previous_response_id": ("previous_response_id", None),
    "previous_interaction_id": ("previous_interaction_id", None),
    "prompt_cache_key": ("prompt_cache_key", None),
    "safety_identifier": ("safety_identifier", None),
    "user": ("user", None),
}
# Claude Code puts its session into metadata.user_id: `user_.._account_.._session_UUID`, or JSON.
_CLAUDE_SESSION = re.compile(
    r'_session_([0-9a-fA-F-]{8,64})\Z|"session_id"\s*:\s*"([^"\\]{1,128})"'
)


def read_request(path: bytes, shape: str, body: bytes, kind: str | None = None) -> Asked:
    """What a request asks for, by its path (raw, after the prefix) and its body.

    `shape` is the dialect of the route: openai, anthropic or google. `kind` is the content type,
    given where `body` is all of the body; without it nothing is said to be odd. Costs time in
    proportion to the body, memory of about twice what `thin` keeps; never raises.
    """
    path, _, query = path.partition(b"?")
    ask: Object = {}
    odd = None
    if body.startswith(b"--"):
        ask = {"model": model_part(body)}
    elif body:
        ask, odd = _object(body, kind)
    return Asked(
        model=_model(path, query, shape, ask),
        stream=_streams(path, ask) if body else None,
        tools=_tools(ask),
        session=_session(ask),
        unread=odd,
    )


def read_messages(path: bytes, shape: str, messages: Iterable[Object]) -> Asked:
    """What a client asks for on a websocket, by its path and the messages that it sent."""
    path, _, query = path.partition(b"?")
    ask: dict[str, Any] = {}
    for message in messages:
        for said in (message, *map(message.get, _WRAPPED)):
            if isinstance(said, dict):
                ask |= said
    if ask.get("conversation") in _HOWS:
        del ask["conversation"]
    return Asked(
        model=_model(path, query, shape, ask), stream=True, tools=_tools(ask), session=_session(ask)
    )


def _model(path: bytes, query: bytes, shape: str, ask: Object) -> str | None:
    if match := _MODEL.search(path):
        name = unquote(match[1].decode("latin-1"))
        if name not in ("chat", "embeddings", "images"):  # Azure: /models/chat/completions
            # Google puts the method behind the model; elsewhere a colon is part of the name.
            return _METHOD.sub("", name) if shape == "google" or b"/publishers/" in path else name
    for name in ("model", "modelId", "agent"):
        value = ask.get(name)
        if isinstance(value, str) and 0 < len(value) <= _LONGEST:
            return value
    if query and (match := re.search(rb"(?:^|&)(?:model|deployment)=([^&]{1,256})", query)):
        return unquote(match[1].decode("latin-1"))
    return None


def _streams(path: bytes, ask: Object) -> bool:
    return _STREAMS.search(path) is not None or ask.get("stream") is True


def _tools(ask: Object) -> int | None:
    tools = ask.get("tools") or ask.get("functions")
    if not tools and isinstance(config := ask.get("toolConfig"), dict):
        tools = config.get("tools")
    if not isinstance(tools, list):
        return 0 if ask else None
    return sum(_declared(tool) for tool in tools)


def _declared(tool: Any) -> int:
    """Gemini lists its functions inside one tool."""
    if isinstance(tool, dict):
        for key in ("functionDeclarations", "function_declarations"):
            if isinstance(tool.get(key), list):
                return len(tool[key])
    return 1


def _session(ask: Object) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, (key, below) in _SESSION.items():
        if key not in ask:
            continue
        value = ask[key]
        if below is not None:
            value = value.get(below) if isinstance(value, dict) else None
        if isinstance(value, str) and 0 < len(value) <= 512:
            found[name] = value
    if (user := found.get("user_id")) and (match := _CLAUDE_SESSION.search(user)):
        found["session_id"] = match[1] or match[2]
    return found


# -- what is odd ---------------------------------------------------------------------------------

_WHOLE = 512 << 10  # a longer body is thinned before it is read, which takes longer
_CHECKED = 64 << 10  # a body up to this length is read once more where a name may stand twice
_FEW = 64  # names that are counted one by one
_TOLD = 3
_PLAIN = ("text/", "application/x-www-form-urlencoded")  # what a client says that forgot the type


def _object(body: bytes, kind: str | None) -> tuple[Object, str | None]:
    """The top level of a JSON object, or of as much of it as is there, and what is odd of it."""
    if len(body) > _WHOLE:
        return _as_much_as_is_there(thinned(body)), None
    kind = kind and kind.partition(";")[0].strip().lower()
    json_is_due = kind is not None and kind.endswith(("/json", "+json"))
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        return _as_much_as_is_there(body), _why(body, str(error)) if json_is_due else None
    if not isinstance(value, dict):
        return {}, "the JSON is no object" if json_is_due else None
    odd = []
    if kind and kind.startswith(_PLAIN):
        odd.append(f"JSON under the content type {kind[:_LONGEST]}")
    if kind is not None and (names := _twice(body, value)):
        odd.append(f"named more than once: {', '.join(names)}")
    return value, "; ".join(odd) or None


def _as_much_as_is_there(body: bytes) -> Object:
    try:
        value = parsed(body, partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _why(body: bytes, error: str) -> str:
    """What is wrong with a JSON text; the reader's own words name a place and hold no value."""
    try:
        from_json(body)
    except ValueError:
        return f"cannot be read as JSON: {error}"
    return "NaN or Infinity, which JSON does not have"


def _twice(body: bytes, value: dict[str, Any]) -> list[str]:
    """The names that stand more than once at the top level; of a long body not all are found."""
    if len(value) <= _FEW and b"\\u00" not in body:
        for name in value:
            if body.count(('"' + name + '"').encode()) != 1 and not _is_key_once(body, name):
                break
        else:
            return []
    if len(body) > _CHECKED:
        return []
    try:
        pairs = json.loads(body, object_pairs_hook=tuple)
    except ValueError:  # a number of thousands of digits
        return []
    counted = Counter(name for name, _ in pairs)
    return [name[:_LONGEST] for name, count in counted.items() if count > 1][:_TOLD]


def _is_key_once(body: bytes, name: str) -> bool:
    """Whether a text that stands several times is a key in one place only, at any depth."""
    key = re.escape(f'"{name}"'.encode()) + rb"\s*+:"
    return len(re.findall(key, body)) == 1
