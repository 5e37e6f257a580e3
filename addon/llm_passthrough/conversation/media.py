"""Pictures, sound and files of a conversation in words: their kind and size, or their address."""

from typing import Any

from llm_passthrough.conversation.values import Json, as_dict, size

# What is longer than an address is base64 where an address is usual.
_LONGEST_ADDRESS = 2000


def image(part: Json) -> str:
    """`image_url` (a text or an object), `source` of Anthropic, `file_id`."""
    where = part.get("image_url", part.get("source", part.get("file_id")))
    where = as_dict(where).get("url", where)
    return _media("image", where)


def audio(part: Json) -> str:
    """`input_audio` of a request, `audio` of an answer."""
    sound = as_dict(part.get("input_audio", part))
    return _media("audio", {"data": sound.get("data"), "media_type": sound.get("format")})


def file(part: Json) -> str:
    """`file` of Chat Completions, `input_file` of Responses, `document` of Anthropic."""
    inner = as_dict(part.get("file", part))
    names = ("source", "file_data", "file_url", "file_id")
    where = next((inner[name] for name in names if inner.get(name)), None)
    where = as_dict(where).get("url", where)
    name = inner.get("filename") or inner.get("title")
    told = _media("file", where)
    return f"{told} {name}" if isinstance(name, str) else told


def inline(part: Json) -> str:
    """Gemini's `inlineData`, also as its SDK for Python spells it."""
    blob = as_dict(part.get("inlineData", part.get("inline_data")))
    kind = blob.get("mimeType", blob.get("mime_type"))
    return _media("data", {"data": blob.get("data"), "media_type": kind})


def linked(part: Json) -> str:
    """Gemini's `fileData`."""
    link = as_dict(part.get("fileData", part.get("file_data")))
    return _media("file", link.get("fileUri", link.get("file_uri")))


def _media(what: str, where: Any) -> str:
    """`image image/png, 12.3 kB`, or its address."""
    source = as_dict(where)
    if isinstance(where, str) and where.startswith("data:"):
        kind, _, data = where[5:].partition(",")
        source = {"data": data, "media_type": kind.partition(";")[0]}
    if isinstance(source.get("data"), str):
        data = source["data"]
        plain = source.get("type") == "text"
        count = len(data.encode("utf-8", "replace")) if plain else len(data.rstrip("=")) * 3 // 4
        said = source.get("media_type")
        return f"{what} {said if isinstance(said, str) else '?'}, {size(count)}"
    address = source.get("url", source.get("file_id", where))
    if not isinstance(address, str):
        return f"{what} ?"
    shown = address if len(address) <= _LONGEST_ADDRESS else size(len(address) * 3 // 4)
    return f"{what} {shown}"
