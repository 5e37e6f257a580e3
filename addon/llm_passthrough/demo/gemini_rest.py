"""The rest of Gemini and Vertex: models, caches, files and their resumable upload, interactions.

Shapes: https://ai.google.dev/api/models, .../caching, .../files, .../interactions-api
"""

import base64
import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from . import say
from .answers import Answer, Call, Json, RefusedError, mint, mint_hex, plain, sse
from .gemini import google, thinks
from .http1 import Headers
from .shelf import File

MODELS = ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-embedding-001")
_METHODS = ["generateContent", "countTokens", "createCachedContent", "batchGenerateContent"]


def _stamp(seconds: float, hours: int = 0) -> str:
    moment = datetime.fromtimestamp(seconds, UTC) + timedelta(hours=hours)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _model(id: str) -> Json:
    return {
        "name": f"models/{id}",
        "version": "001",
        "displayName": id.replace("-", " ").title(),
        "description": "A demo: no model runs.",
        "inputTokenLimit": 1048576,
        "outputTokenLimit": 65536,
        "supportedGenerationMethods": _METHODS,
    }


def models(call: Call) -> Answer:
    """GET /{v}/models."""
    return google({"models": [_model(id) for id in MODELS]})


def model(call: Call) -> Answer:
    """GET /{v}/models/{id}: every model exists here."""
    return google(_model(call.names["id"]))


def vertex_models(call: Call) -> Answer:
    """GET /{v}/publishers/{p}/models."""
    return google({"publisherModels": [_vertex_model(call.names["p"], id) for id in MODELS]})


def vertex_model(call: Call) -> Answer:
    """GET /{v}/publishers/{p}/models/{id}."""
    return google(_vertex_model(call.names["p"], call.names["id"]))


def _vertex_model(publisher: str, id: str) -> Json:
    return {"name": f"publishers/{publisher}/models/{id}", "versionId": "001", "launchStage": "GA"}


def nothing(call: Call) -> Answer:
    """Whatever else Vertex offers below a location."""
    return google({})


def create_cache(call: Call) -> Answer:
    """POST /{v}/cachedContents, also below a Vertex location."""
    return google(_cache(f"cachedContents/{mint_hex(length=24)}", call.json))


def cache(call: Call) -> Answer:
    """GET or PATCH /{v}/cachedContents/{id}: nothing is kept, any cache is found."""
    return google(_cache(f"cachedContents/{call.names['id']}", call.json))


def caches(call: Call) -> Answer:
    """GET /{v}/cachedContents."""
    return google({"cachedContents": []})


def _cache(name: str, body: Json) -> Json:
    now = time.time()
    return {
        "name": name,
        "model": body.get("model", "models/gemini-2.5-flash"),
        "displayName": body.get("displayName", ""),
        "createTime": _stamp(now),
        "updateTime": _stamp(now),
        "expireTime": _stamp(now, hours=1),
        "usageMetadata": {"totalTokenCount": say.count_prompt(body)},
    }


def batch(call: Call) -> Answer:
    """POST /{v}/models/{m}:batchGenerateContent: a long-running operation that has just begun."""
    name = f"batches/{mint_hex(length=24)}"
    state = {"model": f"models/{call.names['model']}", "state": "BATCH_STATE_PENDING"}
    state |= {"name": name, "createTime": _stamp(time.time())}
    kind = {"@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch"}
    return google({"name": name, "metadata": kind | state})


def files(call: Call) -> Answer:
    """GET /{v}/files."""
    return google({"files": [_file(file) for file in call.shelf.starting("g-") if file.purpose]})


def file(call: Call) -> Answer:
    """GET /{v}/files/{id}."""
    return google(_file(_found(call)))


def download(call: Call) -> Answer:
    """GET /{v}/files/{id}:download?alt=media."""
    found = _found(call)
    return Answer(found.data, type=found.type)


def delete_file(call: Call) -> Answer:
    """DELETE /{v}/files/{id}."""
    call.shelf.drop(_found(call).id)
    return google({})


def _found(call: Call) -> File:
    found = call.shelf.get("g-" + call.names["id"])
    if found is None:
        raise RefusedError(404, f"Requested entity was not found: files/{call.names['id']}")
    return found


def _file(file: File) -> Json:
    id = file.id.removeprefix("g-")
    digest = hashlib.sha256(file.data).hexdigest().encode()
    return {
        "name": f"files/{id}",
        "displayName": file.name,
        "mimeType": file.type,
        "sizeBytes": str(len(file.data)),
        "createTime": _stamp(file.made),
        "updateTime": _stamp(file.made),
        "expirationTime": _stamp(file.made, hours=48),
        "sha256Hash": base64.b64encode(digest).decode(),
        "uri": f"https://generativelanguage.googleapis.com/v1beta/files/{id}",
        "state": "ACTIVE",
        "source": "UPLOADED",
    }


def upload(call: Call) -> Answer:
    """POST /upload/{v}/files: ``start`` names a URL, ``upload``s go there, ``finalize`` ends it.

    The URL is on this server as the request's Host header names it. Its ``upload_id`` is what lets
    the later requests in: the Python SDK sends no key with them.
    """
    commands = call.request.tokens("x-goog-upload-command")
    if "start" in commands:
        return _start(call)
    id = call.request.query.get("upload_id", "")
    known = call.shelf.get(id)
    if known is None:
        raise RefusedError(404, "Upload not found")
    if "query" in commands:
        return _status("active", known)
    offset = call.request.header("x-goog-upload-offset") or str(len(known.data))
    if offset != str(len(known.data)):
        raise RefusedError(400, f"X-Goog-Upload-Offset is {offset}, {len(known.data)} is due")
    grown = call.shelf.append(id, call.request.body) or known
    return _status("final" if "finalize" in commands else "active", grown)


def _start(call: Call) -> Answer:
    described = call.json.get("file") or {}
    kind = call.request.header("x-goog-upload-header-content-type") or described.get("mimeType")
    name = str(described.get("displayName") or described.get("display_name") or "")
    id = "g-" + mint_hex(length=12)
    call.shelf.put(File(id, name, str(kind or "application/octet-stream"), b"", time.time()))
    query = f"?upload_id={id}&upload_protocol=resumable"
    url = f"{call.origin}{call.request.path}{query}"
    headers: Headers = [
        ("X-Goog-Upload-URL", url),
        ("X-Goog-Upload-Control-URL", url),
        ("X-Goog-Upload-Status", "active"),
        ("X-Goog-Upload-Chunk-Granularity", "262144"),
        ("X-GUploader-UploadID", id),
    ]
    return Answer(b"", type="text/plain; charset=utf-8", headers=headers)


def _status(status: str, file: File) -> Answer:
    headers = [
        ("X-Goog-Upload-Status", status),
        ("X-Goog-Upload-Size-Received", str(len(file.data))),
    ]
    if status == "final":
        return google({"file": _file(file)}).plus(headers)
    return Answer(b"", type="text/plain; charset=utf-8", headers=headers)


def interactions(call: Call) -> Answer:
    """POST /{v}/interactions, the newer stateful API."""
    said = say.reply_to(say.last_user_text(call.json))
    done = _interaction(call.json, said)
    return (
        sse(_interaction_events(done, said), end=b"[DONE]")
        if call.json.get("stream")
        else plain(done)
    )


def _interaction(body: Json, said: str) -> Json:
    count, now = say.count(body, said, reasons=thinks(body)), _stamp(time.time())
    step = {"type": "model_output", "content": [{"type": "text", "text": said}]}
    return {
        "id": mint("v1_", 40),
        "object": "interaction",
        "model": body.get("model", MODELS[0]),
        "status": "completed",
        "created": now,
        "updated": now,
        "steps": [step],
        "usage": {
            "total_input_tokens": count.prompt,
            "total_cached_tokens": count.cached,
            "total_output_tokens": count.text,
            "total_thought_tokens": count.reasoning,
            "total_tokens": count.prompt + count.output,
        },
    }


def _interaction_events(done: Json, said: str) -> Iterator[Json]:
    begun = {key: done[key] for key in ("id", "object", "model", "created", "updated")}
    begun["status"] = "in_progress"
    yield {"event_type": "interaction.created", "interaction": begun}
    yield {"event_type": "step.start", "index": 0, "step": {"type": "model_output", "content": []}}
    for word in say.words(said):
        yield {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": word}}
    yield {"event_type": "step.stop", "index": 0}
    yield {"event_type": "interaction.completed", "interaction": done}
