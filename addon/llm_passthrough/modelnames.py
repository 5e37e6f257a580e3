"""The models that a request names, wherever it names them: in its path, its query, its body.

A provider takes one of them. Where it is not known which, each of them counts: a rule about models
must not be evaded by a second name, another spelling, or a body that we read in another way.
"""

import json
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote

from llm_passthrough.bodies import decoded, top_level
from llm_passthrough.dialects import operation
from llm_passthrough.policy import NAMELESS, Named

_PATH = re.compile(r"(?i)/(?:models|tunedModels|deployments|engines|model)/([^/?]+)")
# Azure: /models/chat/completions; the model is in the body.
_NO_MODEL = frozenset({"chat", "embeddings", "images"})
# Vertex and Gemini write the method behind the model.
_METHOD_AFTER_COLON = frozenset({"gemini", "vertex"})
_QUERY = frozenset({"model", "deployment"})
# Servers written in Go take names in any case; some take a list of models to fall back to.
_BODY = frozenset({"model", "modelid", "model_id", "agent"})
_BODY_LISTS = frozenset({"models"})
_KEY = re.compile(rb'"model"\s*:')
_LETTER = re.compile(rb"\\u00[4-7]")
_FORM = re.compile(rb'(?i)\bname[ \t]*=[ \t]*"?model"?[ \t]*(?:;[^\r\n]*)?\r?\n')
_FORM_VALUE = re.compile(rb"(?:[^\r\n]+\r?\n)*\r?\n([^\r\n]{0,256})\r?\n--")
# Files that are kept run no model; whatever else is asked for without a model may name one in a
# way that we do not know.
_MODELLESS = frozenset({"files", "uploads", "vector_stores"})
_READS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_LARGEST = 8 << 20
_NONE = "it names no model"
_TOO_LONG = "its body is too long to look for its model; see limits.request_buffer"
_LONGEST = 256


def runs_none(path: bytes) -> bool:
    """Whether what is sent to a path is kept only, and so has no model."""
    return operation(path.decode("latin-1")) in _MODELLESS


def needs_none(method: str, path: bytes, upgrade: bool) -> bool:
    """Whether a request runs no model, so that it need not name one. `upgrade`: to a WebSocket,
    whose first message would name it."""
    return not upgrade and (method in _READS or runs_none(path))


def named(
    path: bytes,
    query: bytes | None,
    kind: str,
    coding: str | None,
    body: bytes | None,
    provider: str,
) -> Named:
    """The models that a request names; `kind` and `coding` are those of its body, which is None
    while it still streams. Takes time in proportion to the body."""
    names = [*_in_path(path, provider), *_in_query(query or b"")]
    if body is None:
        return Named(tuple(names), None if names else _TOO_LONG)
    try:
        found = _in_body(kind, coding, body)
    except ValueError as error:
        return Named(tuple(names), str(error))
    names += found
    return Named(tuple(dict.fromkeys(names)), None if names else _NONE)


def deciding(
    path: bytes,
    query: bytes | None,
    kind: str,
    coding: str | None,
    body: bytes | None,
    provider: str,
) -> Named:
    """The models that a key is chosen for, with the arguments of `named`. What the path names is
    what the provider takes; else each name counts, and a request that names none may use any key.
    """
    if names := tuple(_in_path(path, provider)):
        return Named(names)
    found = named(path, query, kind, coding, body, provider)
    return NAMELESS if found.unknown == _NONE else found


def _in_path(path: bytes, provider: str) -> Iterable[str]:
    for name in _PATH.findall(unquote(path.decode("latin-1"))):
        model = name.partition(":")[0] if provider in _METHOD_AFTER_COLON else name
        if model.lower() not in _NO_MODEL:
            yield model


def _in_query(query: bytes) -> Iterable[str]:
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return (value for name, value in pairs if name.lower() in _QUERY)


def _in_body(kind: str, coding: str | None, body: bytes) -> list[str]:
    """The models that a body names. Raises ValueError: why that cannot be said."""
    content, cut = decoded(body, coding, _LARGEST)
    if coding and coding.strip().lower() != "identity" and (content is body or cut):
        raise ValueError("its content coding cannot be undone")
    if kind.partition(";")[0].strip().lower() == "multipart/form-data":
        return _in_form(content)
    return _in_json(content) if content else []


def _in_form(body: bytes) -> list[str]:
    found = list(_FORM.finditer(body))
    if len(found) > 1:
        raise ValueError("it names its model more than once")
    values = [_FORM_VALUE.match(body, one.end()) for one in found]
    return [value[1].decode("utf-8", "replace") for value in values if value]


def _in_json(body: bytes) -> list[str]:
    # A name that stands twice, perhaps with an escape in it, would be lost in a dict.
    if len(_KEY.findall(body)) > 1 or _LETTER.search(body):
        pairs = _pairs(body)
    else:
        pairs = list(top_level(body).items())
    names: list[str] = []
    for key, value in pairs:
        if key.lower() in _BODY:
            names += _texts([value])
        elif key.lower() in _BODY_LISTS and isinstance(value, list):
            names += _texts(value)
    return names


def _pairs(body: bytes) -> list[tuple[str, object]]:
    """The members of a JSON object, each as often as it stands there."""
    last: list[tuple[str, object]] = []

    def take(pairs: list[tuple[str, object]]) -> None:
        last[:] = pairs  # the outermost object comes last

    try:
        is_object = json.loads(body, object_pairs_hook=take) is None
    except (ValueError, RecursionError):
        raise ValueError("its body cannot be read as JSON") from None
    return last if is_object else []


def _texts(values: list[object]) -> list[str]:
    texts = [value for value in values if isinstance(value, str) and 0 < len(value) <= _LONGEST]
    if len(texts) < len(values):
        raise ValueError("its model is no plain name")
    return texts
