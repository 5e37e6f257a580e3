"""What a call asked for and what its answer said: token counts as tables, a reading, an asking.

Counts are inclusive: input holds cached tokens, output holds reasoning tokens. Unknown is None.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints
from urllib.parse import unquote

from llm_passthrough.thin import parsed, thinned

type Object = Mapping[str, Any]
type _Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. Input includes cached tokens, output includes reasoning tokens."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    input_audio_tokens: int | None = None
    output_audio_tokens: int | None = None
    cache_read_audio_tokens: int | None = None
    input_image_tokens: int | None = None
    output_image_tokens: int | None = None
    tool_use_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None
    total_tokens: int | None = None
    web_searches: int | None = None
    search_units: int | None = None
    audio_seconds: float | None = None

    def __add__(self, other: "Usage") -> "Usage":
        """The sum of two answers; a count that one of them does not say is the other's."""
        return Usage(**{name: _sum(getattr(self, name), getattr(other, name)) for name in NAMES})


NAMES = tuple(get_type_hints(Usage))


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer said. `first_token_at` is on the clock of whoever fed the reader.

    `complete` is judged by the protocol alone: None where it does not say. `unread` says what
    could not be read, and why.
    """

    model: str | None = None
    response_id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    usage: Usage | None = None
    tool_calls: tuple[str, ...] = ()
    first_token_at: float | None = None
    complete: bool | None = None
    error_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    service_tier: str | None = None
    unread: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asked for. `tools` is how many it offers; `session` names the client's ids."""

    model: str | None = None
    stream: bool | None = None
    tools: int | None = None
    session: Mapping[str, str] = field(default_factory=dict)


class Counts:
    """How the counts of one dialect are found in its usage object.

    Each row names a field of Usage and where it may stand: the first place that holds a number
    counts; `a.b` is a key in a key; in a list of `{modality, count}` the key is the modality;
    `a+b` is the sum of those that are there, `a+b|c` takes c for b where b is missing. `mend`
    makes counts inclusive where only the numbers together tell that they are not.
    """

    def __init__(self, mend: Callable[[Usage], Usage] | None = None, /, **rows: str) -> None:
        self._mend = mend
        self._rows = {
            name: tuple(_place(place) for place in row.split()) for name, row in rows.items()
        }

    def read(self, raw: Object, notes: list[str]) -> Usage | None:
        """The counts in `raw`, or None where there are none; oddities are added to `notes`."""
        found = {name: self._find(name, raw, notes) for name in self._rows}
        if all(value is None for value in found.values()):
            return None
        usage = Usage(**found)  # type: ignore[arg-type]  # audio_seconds alone is a float
        return self._mend(usage) if self._mend else usage

    def _find(self, name: str, raw: Object, notes: list[str]) -> int | float | None:
        read = _number if name == "audio_seconds" else _count
        for place in self._rows[name]:
            total: int | float | None = None
            for term in place:
                for path in term:
                    found = _at(raw, path)
                    value = None if found is None else read(found, path, notes)
                    if value is not None:
                        total = value if total is None else total + value
                        break
            if total is not None:
                return total
        return None


def _place(text: str) -> tuple[tuple[_Path, ...], ...]:
    return tuple(
        tuple(tuple(path.split(".")) for path in term.split("|")) for term in text.split("+")
    )


_MODALITIES = {1: "TEXT", 2: "IMAGE", 3: "VIDEO", 4: "AUDIO", 5: "DOCUMENT"}
_MOST = 1 << 53  # beyond this JSON numbers are not exact, and no count is


def _at(raw: Any, path: _Path) -> Any:
    for key in path:
        if isinstance(raw, dict):
            raw = raw.get(key)
            if raw is None:
                return None
        elif isinstance(raw, list):
            raw = _of_modality(raw, key)
        else:
            return None
    return raw


def _of_modality(rows: list[Any], key: str) -> int | None:
    total = None
    for row in rows:
        if isinstance(row, dict):
            name = row.get("modality")
            name = _MODALITIES.get(name) if isinstance(name, int) else name
            if isinstance(name, str) and name.upper() == key:
                total = _sum(total, _count(row.get("tokenCount", row.get("tokens")), (key,), []))
    return total if total is None else int(total)


def _count(value: Any, path: _Path, notes: list[str]) -> int | None:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST:
        return value
    notes.append(f"usage: {'.'.join(path)} is not a count")
    return None


def _number(value: Any, path: _Path, notes: list[str]) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST:
        return float(value)
    notes.append(f"usage: {'.'.join(path)} is not a number")
    return None


def _sum(one: float | None, other: float | None) -> Any:
    return other if one is None else one if other is None else one + other


_MODEL = re.compile(rb"/(?:models|tunedModels|deployments|model|engines)/([^/?]+)")
_METHOD = re.compile(r":[A-Za-z]+\Z")
_MODEL_PART = re.compile(
    rb'content-disposition:[^\r\n]*;\s*name="model"[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,256})\r\n--',
    re.I,
)
_STREAMS = re.compile(
    rb":streamGenerateContent|:streamRawPredict|/(converse|invoke-with-response)-stream\Z"
)
_PARTS = 64 << 10  # how much of a multipart body is looked at
_LONGEST = 256

# Ids by which clients tie calls together, and where they stand in the body.
_SESSION: Mapping[str, _Path] = {
    "user_id": ("metadata", "user_id"),
    "session_id": ("session_id",),
    "metadata_session_id": ("metadata", "session_id"),
    "conversation_id": ("conversation", "id"),
    "conversation": ("conversation",),
    "previous_response_id": ("previous_response_id",),
    "previous_interaction_id": ("previous_interaction_id",),
    "prompt_cache_key": ("prompt_cache_key",),
    "safety_identifier": ("safety_identifier",),
    "user": ("user",),
}
# Claude Code puts its session into metadata.user_id: `user_.._account_.._session_UUID`, or JSON.
_CLAUDE_SESSION = re.compile(
    r'_session_([0-9a-fA-F-]{8,64})\Z|"session_id"\s*:\s*"([^"\\]{1,128})"'
)


def read_request(path: bytes, shape: str, body: bytes) -> Asked:
    """What a request asks for, by its path (raw, after the prefix) and its body.

    `shape` is the dialect of the route: openai, anthropic or google. Costs time in proportion to
    the body, memory of about twice what `thin` keeps; never raises.
    """
    path, _, query = path.partition(b"?")
    if body.startswith(b"--"):
        part = _MODEL_PART.search(body, 0, _PARTS)
        return Asked(model=part[1].decode("utf-8", "replace") if part else None)
    ask = _object(body)
    return Asked(
        model=_model(path, query, shape, ask),
        stream=_streams(path, ask) if ask or body else None,
        tools=_tools(ask),
        session=_session(ask),
    )


def _object(body: bytes) -> Object:
    try:
        value = parsed(thinned(body), partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


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
    if match := re.search(rb"(?:^|&)model=([^&]{1,256})", query):
        return unquote(match[1].decode("latin-1"))
    return None


def _streams(path: bytes, ask: Object) -> bool | None:
    if _STREAMS.search(path):
        return True
    return ask.get("stream") is True


def _tools(ask: Object) -> int | None:
    tools = ask.get("tools") or ask.get("functions") or _at(ask, ("toolConfig", "tools"))
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
    found = {}
    for name, path in _SESSION.items():
        value = _at(ask, path)
        if isinstance(value, str) and 0 < len(value) <= 512:
            found[name] = value
    if (user := found.get("user_id")) and (match := _CLAUDE_SESSION.search(user)):
        found["session_id"] = match[1] or match[2]
    return found
