"""The rest of Anthropic's API: models, files, message batches.

Shapes: https://docs.anthropic.com/en/api/models-list, .../creating-message-batches,
.../files-create
"""

import time
from datetime import UTC, datetime, timedelta

from .answers import Answer, Call, Json, RefusedError, encode, mint, plain
from .anthropic import require_version
from .shelf import File, parts

MODELS = ("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5")


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _page(data: list[Json]) -> Answer:
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return plain({"data": data, "has_more": False, "first_id": first, "last_id": last})


def _model(id: str) -> Json:
    name = id.replace("-", " ").title()
    made = "2025-10-01T00:00:00Z"
    return {"type": "model", "id": id, "display_name": name, "created_at": made}


def models(call: Call) -> Answer:
    """GET /v1/models."""
    require_version(call)
    return _page([_model(id) for id in MODELS])


def model(call: Call) -> Answer:
    """GET /v1/models/{id}: every model exists here."""
    require_version(call)
    return plain(_model(call.names["id"]))


def create_batch(call: Call) -> Answer:
    """POST /v1/messages/batches."""
    require_version(call)
    total = len(call.json.get("requests") or [])
    return plain(_batch(call, mint("msgbatch_01", 22), ended=False, total=total))


def batch(call: Call) -> Answer:
    """GET /v1/messages/batches/{id}: nothing is kept, any batch is found and has ended."""
    require_version(call)
    return plain(_batch(call, call.names["id"], ended=call.request.method == "GET"))


def batches(call: Call) -> Answer:
    """GET /v1/messages/batches."""
    require_version(call)
    return _page([])


def batch_results(call: Call) -> Answer:
    """GET /v1/messages/batches/{id}/results: one line of JSON a result."""
    require_version(call)
    error = {"type": "error", "error": {"type": "api_error", "message": "the demo keeps no batch"}}
    line = {"custom_id": "demo-1", "result": {"type": "errored", "error": error}}
    return Answer(encode(line) + b"\n", type="application/x-jsonl")


def _batch(call: Call, id: str, *, ended: bool, total: int = 1) -> Json:
    now = datetime.now(UTC)
    counts = {"processing": 0 if ended else total, "succeeded": 0, "errored": 0}
    counts |= {"canceled": 0, "expired": 0}
    if ended:
        counts["errored"] = total
    # On our own origin: newer SDKs fetch this address as it stands, their key with it.
    base = call.request.path.partition("/batches")[0]
    results = f"{call.origin}{base}/batches/{id}/results"
    return {
        "id": id,
        "type": "message_batch",
        "processing_status": "ended" if ended else "in_progress",
        "request_counts": counts,
        "created_at": _stamp(now),
        "expires_at": _stamp(now + timedelta(days=1)),
        "ended_at": _stamp(now) if ended else None,
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": results if ended else None,
    }


def _file(file: File) -> Json:
    return {
        "type": "file",
        "id": file.id,
        "filename": file.name,
        "mime_type": file.type,
        "size_bytes": len(file.data),
        "created_at": _stamp(datetime.fromtimestamp(file.made, UTC)),
        "downloadable": True,
    }


def _found(call: Call) -> File:
    require_version(call)
    file = call.shelf.get(call.names["id"])
    if file is None:
        raise RefusedError(404, f"File not found: {call.names['id']}")
    return file


def upload(call: Call) -> Answer:
    """POST /v1/files, multipart."""
    require_version(call)
    form = parts(call.request.header("content-type") or "", call.request.body)
    if "file" not in form:
        raise RefusedError(400, "file: Field required")
    part = form["file"]
    file = File(mint("file_01", 22), part.filename or "upload", part.type, part.data, time.time())
    return plain(_file(call.shelf.put(file)))


def files(call: Call) -> Answer:
    """GET /v1/files."""
    require_version(call)
    return _page([_file(file) for file in call.shelf.starting("file_")])


def file(call: Call) -> Answer:
    """GET /v1/files/{id}."""
    return plain(_file(_found(call)))


def file_content(call: Call) -> Answer:
    """GET /v1/files/{id}/content."""
    found = _found(call)
    return Answer(found.data, type=found.type)


def delete_file(call: Call) -> Answer:
    """DELETE /v1/files/{id}."""
    call.shelf.drop(_found(call).id)
    return plain({"id": call.names["id"], "type": "file_deleted"})
