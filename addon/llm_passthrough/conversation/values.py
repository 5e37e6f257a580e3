"""JSON values whose shape nobody promised: looked at without ever raising."""

import json
from typing import Any

type Json = dict[str, Any]


def compact(value: Any) -> str:
    """A value as short JSON; a text stays as it is."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        return "?"


def size(count: object) -> str:
    """A number of bytes for a person."""
    number = float(count) if isinstance(count, int) and 0 <= count < 1 << 60 else 0.0
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def whole(text: str) -> str:
    """A text whose surrogate halves are characters again; half a pair becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def as_dict(value: Any) -> Json:
    """A JSON object; anything else is an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """A JSON array; anything else is an empty one."""
    return value if isinstance(value, list) else []
