"""Pieces of an answer added to what is there, as the providers' own SDKs do."""

from typing import Any

from llm_passthrough.conversation.values import Json

# Fields of a delta that are whole each time; all other texts are pieces.
_WHOLE = frozenset({"id", "type", "role", "index", "name", "finish_reason", "format"})
_DEEPEST = 20


def merge(into: Json, delta: Json, depth: int = 0) -> None:
    """Add the pieces of a delta."""
    for name, value in delta.items():
        old = into.get(name)
        if isinstance(value, list):
            into[name] = old if isinstance(old, list) else [old] if old else []
            _merge_list(into[name], value, depth)
        elif isinstance(old, list) and isinstance(value, str):
            _merge_list(old, [value], depth)
        elif isinstance(old, dict) and isinstance(value, dict) and depth < _DEEPEST:
            merge(old, value, depth + 1)
        elif isinstance(old, str) and isinstance(value, str) and name not in _WHOLE:
            into[name] = old + value
        elif value is not None and value != "":
            into[name] = value


def _merge_list(into: list[Any], pieces: list[Any], depth: int) -> None:
    for piece in pieces:
        if isinstance(piece, str) and into and isinstance(into[-1], str):
            into[-1] += piece
            continue
        match = next((old for old in objects(into) if _continues(old, piece)), None)
        if match is not None and depth < _DEEPEST:
            merge(match, piece, depth + 1)
        else:
            into.append(piece)


def _continues(old: Json, piece: Any) -> bool:
    """Whether a piece belongs to an entry: its index, unless it has another id."""
    if not isinstance(piece, dict) or "index" not in piece or piece["index"] != old.get("index"):
        return False
    return not (piece.get("id") and old.get("id") and piece["id"] != old["id"])


def objects(value: Any) -> list[Json]:
    """The objects in a list; nothing of anything else."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
