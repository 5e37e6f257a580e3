"""Nested values as YAML for a person's eyes: texts stand in blocks, line by line as they are.

YAML because mitmproxy colours it, and because a text needs no escapes in it (YAML 1.2.2, 8.1.2).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# What a terminal or a page could obey, and what no YAML may hold; a text shows it as an escape.
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff]"
)
_QUOTED = re.compile(r'["\\\n]')
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_LONGEST_WORD = 100
_DEEPEST = 12
_STEP = "  "


def outline(value: Any) -> str:
    """The value as YAML: objects, lists, texts, numbers, true, false and null."""
    return "\n".join(_lines(value, "", 0)) + "\n"


def plain(text: str) -> str:
    """A text with its line breaks and tabs, and no other character that anything obeys."""
    return _ODD.sub(_escaped, text.replace("\r\n", "\n"))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode()


def _lines(value: Any, indent: str, depth: int) -> Iterator[str]:
    """The lines of a value that stands on lines of its own."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _entry(f"{indent}{_word(plain(str(name)))}:", one, indent, depth)
    else:
        for one in value:
            yield from _listed(one, indent, depth)


def _listed(value: Any, indent: str, depth: int) -> Iterator[str]:
    """An entry of a list; an object begins on the line of its dash."""
    if isinstance(value, Mapping) and value and depth < _DEEPEST:
        lines = _lines(value, indent + _STEP, depth + 1)
        yield f"{indent}- {next(lines)[len(indent) + len(_STEP) :]}"
        yield from lines
    else:
        yield from _entry(f"{indent}-", value, indent, depth)


def _entry(start: str, value: Any, indent: str, depth: int) -> Iterator[str]:
    """`start` is `name:` or the dash before a value."""
    if isinstance(value, str):
        yield from _said(start, value, indent)
    elif isinstance(value, Mapping | Sequence) and value and depth < _DEEPEST:
        yield start
        # A list below a name stands as far left as the name.
        deeper = indent if isinstance(value, Sequence) and start.endswith(":") else indent + _STEP
        yield from _lines(value, deeper, depth + 1)
    else:
        yield f"{start} {_scalar(value)}"


def _said(start: str, text: str, indent: str) -> Iterator[str]:
    """A text: as a word where it is one, else in quotes, else as a block."""
    shown = plain(text)
    word = _word(shown) if len(shown) <= _LONGEST_WORD or not shown.strip() else ""
    # Quotes are for short things: a text is easier to read without escapes.
    if word and (word == shown or not shown.strip() or not _QUOTED.search(shown)):
        yield f"{start} {word}"
        return
    indent = indent + _STEP
    first = next((line for line in shown.split("\n") if line), "")
    # A block that begins with spaces must say how deep it stands.
    depth = "2" if first.startswith((" ", "\t")) or not first else ""
    end = {0: "-", 1: ""}.get(len(shown) - len(shown.rstrip("\n")), "+")
    yield f"{start} |{depth}{end}"
    body = shown.removesuffix("\n") if end != "-" else shown
    yield from (f"{indent}{line}" if line else "" for line in body.split("\n"))


def _word(text: str) -> str:
    """A text as one word or a few, in quotes where it could mean something else."""
    safe = (
        text[:1].isalpha()
        and text.isprintable()
        and text.lower() not in _WORDS
        and not text.endswith((":", " "))
        and ": " not in text
        and " #" not in text
    )
    return text if safe and len(text) <= _LONGEST_WORD else json.dumps(text, ensure_ascii=False)


def _scalar(value: Any) -> str:
    try:
        return plain(json.dumps(value, ensure_ascii=False))
    except (ValueError, TypeError, RecursionError):
        return '"?"'
