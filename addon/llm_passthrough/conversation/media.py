"""Pictures, sound and files of a conversation in words: their kind and size, or their address."""

import re
from typing import Any

from llm_passthrough.conversation.values import Json, as_dict, size

# What is longer than an address is base64 where an address is usual.
_LONGEST_ADDRESS = 2000
# Pictures that a browser only draws: no scripts, no addresses in them, as SVG may have.
_INERT = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_LARGEST_THUMBNAIL = 512 << 10
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def image(part: Json) -> str:
    """`image_url` (a text or an object), `source` of Anthropic, `file_id`."""
    where = part.get("image_url", part.get("source", part.get("file_id", _inline(part))))
    where = as_dict(where).get("url", where)
    return _media("image", where)


def audio(part: Json) -> str:
    """`input_audio` of a request, `audio` of an answer."""
    sound = as_dict(part.get("input_audio", part))
    kind = sound.get("format", sound.get("mime_type"))
    return _media("audio", {"data": sound.get("data"), "media_type": kind})


def file(part: Json) -> str:
    """`file` of Chat Completions, `input_file` of Responses, `document` of Anthropic."""
    inner = as_dict(part.get("file", part))
    names = ("source", "file_data", "file_url", "file_id")
    where = next((inner[name] for name in names if inner.get(name)), _inline(part))
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


def thumbnail(part: Json) -> str:
    """A small picture of an inert type as a data: URL; empty for all else."""
    names = ("image_url", "source", "inlineData", "inline_data", "input_image")
    where: Any = next((part[name] for name in names if part.get(name)), None)
    where = as_dict(where).get("url", where)
    if isinstance(where, str) and where.startswith("data:"):
        kind, _, data = where[5:].partition(",")
        kind, _, coding = kind.partition(";")
        where = {"media_type": kind, "data": data} if coding == "base64" else None
    source = as_dict(where)
    said = next((source.get(n) for n in ("media_type", "mimeType", "mime_type") if n in source), "")
    given = source.get("data")
    if said in _INERT and isinstance(given, str) and len(given) <= _LARGEST_THUMBNAIL:
        given = given.replace("-", "+").replace("_", "/")  # google-genai sends base64url
        return f"data:{said};base64,{given}" if _BASE64.fullmatch(given) else ""
    return ""


def converse(part: Json) -> str:
    """`image`, `document`, `video` and `audio` of Amazon Bedrock's Converse."""
    what = next(name for name in ("image", "document", "video", "audio") if name in part)
    given = as_dict(part[what])
    source, name = as_dict(given.get("source")), given.get("name")
    place = as_dict(source.get("s3Location")).get("uri")
    told = _media(what, place or {"data": source.get("bytes"), "media_type": given.get("format")})
    return f"{told} {name}" if isinstance(name, str) else told


def _inline(part: Json) -> Json:
    """Data that stands in the part itself, as in Gemini's Interactions."""
    address = {"url": part["uri"]} if part.get("uri") else {}
    return {"data": part.get("data"), "media_type": part.get("mime_type")} | address


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
    address = source.get("url") or source.get("file_id", where)
    if not isinstance(address, str):
        return f"{what} ?"
    shown = address if len(address) <= _LONGEST_ADDRESS else size(len(address) * 3 // 4)
    return f"{what} {shown}"
