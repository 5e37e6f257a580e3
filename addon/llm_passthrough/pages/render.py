"""Templates to pages: whatever stands in `{{ }}` becomes text, with nothing hidden in it."""

from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tornado.template import Loader

from llm_passthrough.pages.markup import plain, visible

_FOLDER = Path(__file__).parent
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}

STATIC: dict[str, tuple[str, bytes]] = {
    path.name: (_TYPES[path.suffix], path.read_bytes())
    for path in sorted((_FOLDER / "static").iterdir())
    if path.suffix in _TYPES
}
"""What a page loads, by name: its type and content. Nothing else is ever given out."""


def _shown(value: bytes) -> str:
    """What tornado's templates give: every value as UTF-8."""
    return escape(plain(value.decode("utf-8", "replace")))


def _address(part: str) -> str:
    """A part of a path; what is no UTF-8 cannot be one."""
    return quote(part.encode("utf-8", "replace"), safe="")


_LOADER = Loader(
    str(_FOLDER / "templates"),
    autoescape="shown",
    namespace={"shown": _shown, "visible": visible, "plain": plain, "quote": _address},
)


def render(name: str, **values: Any) -> bytes:
    """The page that a template makes of these values."""
    return bytes(_LOADER.load(name).generate(**values))
