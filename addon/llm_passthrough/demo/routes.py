"""The table of what the demo provider speaks: method, path, handler, and the family around it.

Rows are tried in order. Three paths mean two things, ``/v1/models``, ``/v1/files`` and
``/v1/batches``; a row may therefore also ask for a header (``when``).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from . import (
    anthropic,
    anthropic_rest,
    gemini,
    gemini_rest,
    openai_chat,
    openai_responses,
    openai_rest,
    realtime,
)
from .answers import Handler
from .families import ANTHROPIC, AZURE, FOUNDRY, GEMINI, OPENAI, VERTEX, Family
from .http1 import Request

Opener = Callable[[Request], realtime.Talk]
When = Callable[[Request], bool]


@dataclass(frozen=True)
class Row:
    """One line of the table; ``handler`` for a request, ``talk`` for a WebSocket."""

    method: str
    path: re.Pattern[str]
    family: Family
    handler: Handler | None = None
    talk: Opener | None = None
    when: When | None = None


def _is_anthropic(request: Request) -> bool:
    return request.header("anthropic-version") is not None


def _is_google(request: Request) -> bool:
    named = request.header("x-goog-api-key") or request.header("x-goog-api-client")
    return named is not None or "key" in request.query


def _has_api_version(request: Request) -> bool:
    return bool(request.query.get("api-version"))


_OPENAI: list[tuple[str, str, Handler]] = [
    ("POST", "/chat/completions", openai_chat.chat),
    ("POST", "/completions", openai_chat.completions),
    ("POST", "/responses", openai_responses.create),
    ("POST", "/responses/input_tokens", openai_responses.input_tokens),
    ("GET", "/responses/{id}", openai_responses.get),
    ("DELETE", "/responses/{id}", openai_responses.delete),
    ("POST", "/embeddings", openai_rest.embeddings),
    ("GET", "/models", openai_rest.models),
    ("GET", "/models/(?P<id>[^/]+)", openai_rest.model),
    ("POST", "/files", openai_rest.upload),
    ("GET", "/files", openai_rest.files),
    ("GET", "/files/{id}", openai_rest.file),
    ("DELETE", "/files/{id}", openai_rest.delete_file),
    ("GET", "/files/{id}/content", openai_rest.file_content),
    ("POST", "/audio/speech", openai_rest.speech),
    ("POST", "/audio/transcriptions", openai_rest.transcriptions),
    ("POST", "/audio/translations", openai_rest.transcriptions),
    ("POST", "/images/generations", openai_rest.images),
    ("POST", "/images/edits", openai_rest.images),
    ("POST", "/moderations", openai_rest.moderations),
    ("POST", "/batches", openai_rest.create_batch),
    ("GET", "/batches", openai_rest.batches),
    ("GET", "/batches/{id}", openai_rest.batch),
    ("POST", "/batches/{id}/cancel", openai_rest.batch),
]
_MESSAGES: list[tuple[str, str, Handler]] = [
    ("POST", "/messages", anthropic.messages),
    ("POST", "/messages/count_tokens", anthropic.count_tokens),
    ("POST", "/messages/batches", anthropic_rest.create_batch),
    ("GET", "/messages/batches", anthropic_rest.batches),
    ("GET", "/messages/batches/{id}", anthropic_rest.batch),
    ("POST", "/messages/batches/{id}/cancel", anthropic_rest.batch),
    ("GET", "/messages/batches/{id}/results", anthropic_rest.batch_results),
]
_ANTHROPIC_SHARED: list[tuple[str, str, Handler]] = [
    ("GET", "/models", anthropic_rest.models),
    ("GET", "/models/{id}", anthropic_rest.model),
    ("POST", "/files", anthropic_rest.upload),
    ("GET", "/files", anthropic_rest.files),
    ("GET", "/files/{id}", anthropic_rest.file),
    ("DELETE", "/files/{id}", anthropic_rest.delete_file),
    ("GET", "/files/{id}/content", anthropic_rest.file_content),
]
_GENERATE: list[tuple[str, str, Handler]] = [
    ("POST", "/models/{model}:generateContent", gemini.generate),
    ("POST", "/models/{model}:streamGenerateContent", gemini.stream),
    ("POST", "/models/{model}:countTokens", gemini.count_tokens),
    ("POST", "/models/{model}:computeTokens", gemini.compute_tokens),
    ("POST", "/models/{model}:embedContent", gemini.embed),
    ("POST", "/models/{model}:predict", gemini.predict),
]
_CACHES: list[tuple[str, str, Handler]] = [
    ("POST", "/cachedContents", gemini_rest.create_cache),
    ("GET", "/cachedContents", gemini_rest.caches),
    ("GET", "/cachedContents/{id}", gemini_rest.cache),
    ("PATCH", "/cachedContents/{id}", gemini_rest.cache),
    ("DELETE", "/cachedContents/{id}", gemini_rest.nothing),
]
_GEMINI: list[tuple[str, str, Handler]] = [
    *_GENERATE,
    *_CACHES,
    ("POST", "/models/{model}:batchEmbedContents", gemini.batch_embed),
    ("POST", "/models/{model}:batchGenerateContent", gemini_rest.batch),
    ("POST", "/interactions", gemini_rest.interactions),
    ("POST", "/openai/chat/completions", openai_chat.chat),
    ("POST", "/openai/embeddings", openai_rest.embeddings),
    ("GET", "/openai/models", openai_rest.models),
]
_GEMINI_SHARED: list[tuple[str, str, Handler]] = [
    ("GET", "/models", gemini_rest.models),
    ("GET", "/models/{id}", gemini_rest.model),
    ("GET", "/files", gemini_rest.files),
    ("GET", "/files/{id}", gemini_rest.file),
    ("GET", "/files/{id}:download", gemini_rest.download),
    ("DELETE", "/files/{id}", gemini_rest.delete_file),
]
_PUBLISHER: list[tuple[str, str, Handler]] = [
    ("POST", "/models/count-tokens:rawPredict", anthropic.count_tokens_vertex),
    ("POST", "/models/{model}:rawPredict", anthropic.raw_predict),
    ("POST", "/models/{model}:streamRawPredict", anthropic.stream_raw_predict),
    *_GENERATE,
    ("GET", "/models", gemini_rest.vertex_models),
    ("GET", "/models/{id}", gemini_rest.vertex_model),
]
_LOCATION: list[tuple[str, str, Handler]] = [
    *_CACHES,
    ("POST", "/endpoints/openapi/chat/completions", openai_chat.chat),
    ("POST", "(?::|/)(?P<rest>.+)", gemini_rest.nothing),
    ("GET", "(?::|/)(?P<rest>.+)", gemini_rest.nothing),
]
_V = "/(?P<v>v1|v1beta|v1alpha)"
_VX = "/(?P<v>v1|v1beta1)"
_PLACE = _VX + "/projects/{project}/locations/{location}"


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/:]+)", path))


def _mount(
    family: Family, prefix: str, rows: list[tuple[str, str, Handler]], when: When | None = None
) -> list[Row]:
    return [
        Row(method, _pattern(prefix + path), family, handler, when=when)
        for method, path, handler in rows
    ]


def _socket(family: Family, path: str, talk: Opener, when: When | None = None) -> Row:
    return Row("WS", _pattern(path), family, talk=talk, when=when)


def _realtime(request: Request) -> realtime.Talk:
    query = request.query
    return realtime.Realtime(query.get("model") or query.get("deployment") or "gpt-realtime")


def _responses(request: Request) -> realtime.Talk:
    return realtime.Responses()


def _live(request: Request) -> realtime.Talk:
    return realtime.Live()


TABLE: list[Row] = [
    _socket(OPENAI, "/v1/realtime", _realtime),
    _socket(OPENAI, "/v1/responses", _responses),
    _socket(AZURE, "/openai/realtime", _realtime, _has_api_version),
    _socket(AZURE, "/openai/v1/realtime", _realtime),
    _socket(AZURE, "/openai/v1/responses", _responses),
    _socket(GEMINI, r"//?ws/google\.ai\.generativelanguage\..+", _live),
    _socket(VERTEX, r"//?ws/google\.cloud\.aiplatform\..+", _live),
    *_mount(ANTHROPIC, "/v1", _MESSAGES),
    *_mount(ANTHROPIC, "/v1", _ANTHROPIC_SHARED, _is_anthropic),
    *_mount(GEMINI, "/(?P<v>v1)", _GEMINI_SHARED, _is_google),
    *_mount(OPENAI, "/v1", _OPENAI),
    *_mount(AZURE, "/openai/v1", _OPENAI),
    *_mount(AZURE, "/openai/deployments/{deployment}", _OPENAI, _has_api_version),
    *_mount(AZURE, "/openai", _OPENAI, _has_api_version),
    *_mount(FOUNDRY, "/anthropic/v1", _MESSAGES),
    *_mount(FOUNDRY, "/anthropic/v1", _ANTHROPIC_SHARED),
    *_mount(GEMINI, "/upload" + _V, [("POST", "/files", gemini_rest.upload)]),
    *_mount(GEMINI, _V, _GEMINI),
    *_mount(GEMINI, _V, _GEMINI_SHARED),
    *_mount(VERTEX, _VX + "/publishers/{p}", _PUBLISHER),
    *_mount(VERTEX, _PLACE + "/publishers/{p}", _PUBLISHER),
    *_mount(VERTEX, _PLACE, _LOCATION),
]
_GUESSES: list[tuple[str, Family]] = [
    (r"/openai(/|$)", AZURE),
    (r"/anthropic(/|$)", FOUNDRY),
    (r"/v1/messages", ANTHROPIC),
    (r"/v1\w*/(projects|publishers|reasoningEngines)(/|$)|/v1beta1/|/ws/google\.cloud", VERTEX),
    (r"/(upload/)?v1(beta|alpha)(/|$)|/upload/|//?ws/google\.ai|/v1/.*:\w+$", GEMINI),
]


def find(request: Request) -> tuple[Row, dict[str, str]] | None:
    """The row for a request and the groups of its path, unescaped; None when there is none."""
    return _find(request, "WS" if request.is_websocket else request.method)


def allows_other_method(request: Request) -> bool:
    """Whether the path exists, but not for this method."""
    return any(_find(request, method) for method in ("GET", "POST", "DELETE"))


def _find(request: Request, method: str) -> tuple[Row, dict[str, str]] | None:
    method = "GET" if method == "HEAD" else method
    for row in TABLE:
        if row.method == method and (row.when is None or row.when(request)):
            match = row.path.fullmatch(request.path)
            if match:
                return row, {name: unquote(value) for name, value in match.groupdict().items()}
    return None


def guess(request: Request) -> Family:
    """Whose 404 an unknown path gets."""
    if _is_anthropic(request):
        return ANTHROPIC
    for pattern, family in _GUESSES:
        if re.match(pattern, request.path):
            return family
    return GEMINI if _is_google(request) else OPENAI
