"""The rest of OpenAI's API: embeddings, models, files, audio, images, moderations, batches.

Shapes: https://platform.openai.com/docs/api-reference
"""

import base64
import random
import struct
import time
from collections.abc import Iterator
from typing import Any

from . import say
from .answers import Answer, Call, Json, RefusedError, mint, mint_hex, plain, sse
from .openai_chat import model_of
from .shelf import File, parts

MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-5", "o3-mini", "text-embedding-3-small", "whisper-1")
_MADE = 1715367049
# One silent MPEG-1 layer III frame, 128 kbit/s, 44.1 kHz.
_MP3_FRAME = b"\xff\xfb\x90\x64" + bytes(413)
_PNG = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9bU"
    b"\x00\x00\x00\nIDATx\x9cc`\x00\x00\x00\x02\x00\x01H\xaf\xa4q\x00\x00\x00\x00IEND\xaeB`\x82"
).decode()


def vector(text: str, size: int) -> list[float]:
    """A unit vector that depends on the text only."""
    chance = random.Random(text)  # noqa: S311 - repeatable on purpose, no secret
    values = [chance.gauss(0, 1) for _ in range(size)]
    length = sum(value * value for value in values) ** 0.5
    return [round(value / length, 8) for value in values]


def embeddings(call: Call) -> Answer:
    """POST /embeddings; ``encoding_format: base64`` is little-endian float32, as the SDKs ask."""
    body, model = call.json, model_of(call)
    given = body.get("input")
    if not given:
        raise RefusedError(400, "'input' is a required property", param="input")
    texts = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    size = int(body.get("dimensions") or 1536)
    data: list[Json] = []
    for index, text in enumerate(texts):
        values: Any = vector(str(text), size)
        if body.get("encoding_format") == "base64":
            values = base64.b64encode(struct.pack(f"<{size}f", *values)).decode()
        data.append({"object": "embedding", "index": index, "embedding": values})
    tokens = sum(say.count_text(t) if isinstance(t, str) else len(t) for t in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return plain({"object": "list", "data": data, "model": model, "usage": usage})


def _model(id: str) -> Json:
    return {"id": id, "object": "model", "created": _MADE, "owned_by": "system"}


def models(call: Call) -> Answer:
    """GET /models."""
    return plain({"object": "list", "data": [_model(id) for id in MODELS]})


def model(call: Call) -> Answer:
    """GET /models/{id}: every model exists here."""
    return plain(_model(call.names["id"]))


def _file(file: File) -> Json:
    return {
        "id": file.id,
        "object": "file",
        "bytes": len(file.data),
        "created_at": int(file.made),
        "expires_at": None,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
    }


def _found(call: Call) -> File:
    file = call.shelf.get(call.names["id"])
    if file is None:
        raise RefusedError(404, f"No such File object: {call.names['id']}", param="id")
    return file


def upload(call: Call) -> Answer:
    """POST /files, multipart."""
    form = parts(call.request.header("content-type") or "", call.request.body)
    if "file" not in form:
        raise RefusedError(400, "'file' is a required property", param="file")
    part = form["file"]
    purpose = form["purpose"].data.decode() if "purpose" in form else "user_data"
    name = part.filename or "upload"
    file = File(mint("file-", 22), name, part.type, part.data, time.time(), purpose)
    return plain(_file(call.shelf.put(file)))


def files(call: Call) -> Answer:
    """GET /files."""
    data = [_file(file) for file in call.shelf.starting("file-")]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    return plain({"object": "list", "data": data, "has_more": False} | ends)


def file(call: Call) -> Answer:
    """GET /files/{id}."""
    return plain(_file(_found(call)))


def file_content(call: Call) -> Answer:
    """GET /files/{id}/content."""
    return Answer(_found(call).data, type="application/octet-stream")


def delete_file(call: Call) -> Answer:
    """DELETE /files/{id}."""
    call.shelf.drop(_found(call).id)
    return plain({"object": "file", "id": call.names["id"], "deleted": True})


def speech(call: Call) -> Answer:
    """POST /audio/speech: a second of silence, sent piece by piece."""
    model_of(call)
    return Answer((_MP3_FRAME * 5 for _ in range(8)), type="audio/mpeg")


def transcriptions(call: Call) -> Answer:
    """POST /audio/transcriptions and /audio/translations, multipart."""
    form = parts(call.request.header("content-type") or "", call.request.body)
    if "file" not in form:
        raise RefusedError(400, "'file' is a required property", param="file")
    fields = {name: part.data.decode("utf-8", "replace") for name, part in form.items()}
    name, size = form["file"].filename, len(form["file"].data)
    text = say.reply_to(f"(a recording named {name}, {size} bytes)")
    if fields.get("response_format") in ("text", "srt", "vtt"):
        return Answer(text.encode() + b"\n", type="text/plain; charset=utf-8")
    tokens = {"input_tokens": 32, "output_tokens": say.count_text(text)}
    details = {"text_tokens": 0, "audio_tokens": 32}
    usage = {"type": "tokens", "input_token_details": details, **tokens}
    usage["total_tokens"] = sum(tokens.values())
    if fields.get("stream") == "true":
        return sse(_transcript_events(text, usage), end=b"[DONE]")
    return plain({"text": text, "usage": usage})


def _transcript_events(text: str, usage: Json) -> Iterator[Json]:
    for word in say.words(text):
        yield {"type": "transcript.text.delta", "delta": word}
    yield {"type": "transcript.text.done", "text": text, "usage": usage}


def images(call: Call) -> Answer:
    """POST /images/generations, /images/edits: one black pixel."""
    usage = {
        "input_tokens": 12,
        "input_tokens_details": {"text_tokens": 12, "image_tokens": 0},
        "output_tokens": 272,
        "total_tokens": 284,
    }
    return plain({"created": int(time.time()), "data": [{"b64_json": _PNG}], "usage": usage})


_CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit",
    "illicit/violent", "self-harm", "self-harm/instructions", "self-harm/intent", "sexual",
    "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip


def moderations(call: Call) -> Answer:
    """POST /moderations: nothing is flagged."""
    given = call.json.get("input", "")
    result: Json = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.0001),
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }
    results = [result] * (len(given) if isinstance(given, list) else 1)
    name = call.json.get("model") or "omni-moderation-latest"
    return plain({"id": mint_hex("modr-"), "model": name, "results": results})


def create_batch(call: Call) -> Answer:
    """POST /batches."""
    return plain(_batch(mint_hex("batch_"), "validating", call.json))


def batch(call: Call) -> Answer:
    """GET /batches/{id}, POST /batches/{id}/cancel: nothing is kept, any id is found."""
    cancelled = call.request.method == "POST"
    return plain(_batch(call.names["id"], "cancelling" if cancelled else "completed", {}))


def batches(call: Call) -> Answer:
    """GET /batches."""
    return plain({"object": "list", "data": [], "has_more": False})


def _batch(id: str, status: str, body: Json) -> Json:
    now = int(time.time())
    return {
        "id": id,
        "object": "batch",
        "endpoint": body.get("endpoint", "/v1/chat/completions"),
        "errors": None,
        "input_file_id": body.get("input_file_id", "file-demo"),
        "completion_window": body.get("completion_window", "24h"),
        "status": status,
        "output_file_id": "file-demo-output" if status == "completed" else None,
        "error_file_id": None,
        "created_at": now,
        "expires_at": now + 86400,
        "completed_at": now if status == "completed" else None,
        "request_counts": {"total": 1, "completed": int(status == "completed"), "failed": 0},
        "metadata": body.get("metadata"),
    }
