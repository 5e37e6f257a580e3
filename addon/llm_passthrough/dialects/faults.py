"""Errors in answers, whole or inside a stream with status 200, in the shapes of all providers."""

from llm_passthrough.dialects.draft import Dialect, Draft
from llm_passthrough.usage import Object

_MESSAGES = ("message", "Message", "detail", "error_description", "errorMessage", "msg")
_TYPES = ("type", "status", "__type", "error_type")
_CODES = ("code", "error_code", "statusCode")


def see_fault(draft: Draft, value: Object) -> bool:
    """Note the error that a message of a good answer holds, if it holds one."""
    error = value.get("error")
    if not error and ("choices" in value or "candidates" in value):  # the usual events
        return False
    if error and isinstance(error, dict | str):
        _note(draft, value, error)
    elif value.get("type") == "error" or value.get("event_type") == "error":
        draft.fault(None, value.get("code"), _first(value, _MESSAGES))
    elif draft.event == b"error" or value.get("object") == "error":
        _note(draft, value, value)
    else:
        return False
    return True


def see_failure(draft: Draft, value: Object) -> None:
    """Note the error that the whole answer is."""
    if not see_fault(draft, value):
        _note(draft, value, value)


def _note(draft: Draft, value: Object, error: Object | str) -> None:
    if isinstance(error, str):  # Ollama, xAI: {"error": text, "code": ..}
        draft.fault(None, value.get("code"), error)
        return
    if not isinstance(error, dict):
        return
    kind, code = _first(error, _TYPES), _first(error, _CODES)
    message = _first(error, _MESSAGES)
    if isinstance(kind, int):  # an HTTP status, no type
        kind, code = None, kind if code is None else code
    if isinstance(message, list):  # FastAPI: {"detail": [{"msg": ..}]}
        message = next((row.get("msg") for row in message if isinstance(row, dict)), None)
    elif isinstance(message, dict):
        message = _first(message, _MESSAGES)
    draft.fault(kind, code, message)


def _first(value: Object, names: tuple[str, ...]) -> object:
    return next((value[name] for name in names if value.get(name) is not None), None)


FAILURE = Dialect(see=see_failure, counted=False)
