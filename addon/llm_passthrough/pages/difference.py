"""What is different between a prompt and the one before it, and which one was before it."""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile

from llm_passthrough.pages.prompt import Prompt, Tool

_AROUND = 40
_EXCERPT = 120
_MOST_LINES = 3000


@dataclass(frozen=True, slots=True)
class Change:
    """The first place where two texts part: which piece, which character, and what stands there.

    `before` and `now` are excerpts in one line; their first `same` characters are the same.
    """

    piece: int
    at: int
    before: str
    now: str
    order_only: bool = False
    same: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """What became of the prompt before. `same` messages at the start stayed as they were.

    `lost` messages of the prompt before are not in this one any more, `added` are new.
    """

    same: int
    lost: int
    added: int
    message: Change | None = None
    system: Change | None = None
    tool: Change | None = None
    tools_added: tuple[str, ...] = ()
    tools_removed: tuple[str, ...] = ()
    tools_changed: tuple[str, ...] = ()
    settings: tuple[tuple[str, str | None, str | None], ...] = ()
    headers: tuple[tuple[str, str | None, str | None], ...] = ()
    model: tuple[str | None, str | None] | None = None

    @property
    def goes_on(self) -> bool:
        """Whether this prompt is the one before with something added."""
        return not self.lost and self.system is None and self.tool is None


def difference(before: Prompt, now: Prompt) -> Difference:
    """What is different, the first place of each kind."""
    old, new = [m.text for m in before.messages], [m.text for m in now.messages]
    if now.previous_id and now.previous_id == before.response_id:
        new = old + new  # the provider puts what it keeps in front
    same = _same(old, new)
    # What was added behind the end is no change of what was there.
    message = _change(old, new) if same < len(old) else None
    old_tools, new_tools = _by_name(before.tools), _by_name(now.tools)
    return Difference(
        same,
        len(old) - same,
        len(new) - same,
        message,
        _change(before.system, now.system),
        _change([t.text for t in before.tools], [t.text for t in now.tools]),
        tuple(name for name in new_tools if name not in old_tools),
        tuple(name for name in old_tools if name not in new_tools),
        tuple(n for n in new_tools if n in old_tools and old_tools[n] != new_tools[n]),
        _changed(before.settings, now.settings),
        _changed(before.headers, now.headers),
        None if before.model == now.model else (before.model, now.model),
    )


def lines(before: Iterable[str], now: Iterable[str]) -> list[tuple[str, str]]:
    """The lines of two texts as pairs of a sign (`+`, `-`, space, `@`) and a line.

    Empty where they are too long to be compared so.
    """
    old, new = _lines(before), _lines(now)
    if max(len(old), len(new)) > _MOST_LINES:
        return []
    found = difflib.unified_diff(old, new, n=2, lineterm="")
    return [(line[0], line[1:]) for line in found if not line.startswith(("---", "+++"))]


def follows(now: Prompt, before: Prompt) -> tuple[int, int] | None:
    """How surely a prompt is the next turn after another: the larger, the surer; None when not.

    The answer that it names itself, else the longest run of the same first messages that is a
    whole prompt, else one session.
    """
    if now.previous_id and now.previous_id == before.response_id:
        return 3, len(before.messages)
    same = _same([m.text for m in before.messages], [m.text for m in now.messages])
    if before.messages and same == len(before.messages):
        return 2, same
    shared = any(now.session.get(name) == value for name, value in before.session.items())
    if shared and (same or not now.messages):
        return 1, same
    return None


def previous(now: Prompt, candidates: Iterable[Prompt]) -> Prompt | None:
    """The prompt before among candidates, which come newest first."""
    best: tuple[int, int] | None = None
    found: Prompt | None = None
    for candidate in candidates:
        score = follows(now, candidate)
        if score is not None and (best is None or score > best):
            best, found = score, candidate
            # Nothing can be nearer: the same messages, or all but the last question and answer.
            near = score[0] == 2 and score[1] >= len(now.messages) - 2 and not now.previous_id
            if score[0] == 3 or near:
                break
    return found


def _same(old: list[str], new: list[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))


def _change(old: Iterable[str], new: Iterable[str]) -> Change | None:
    """The first place where two rows of texts part."""
    before, now = list(old), list(new)
    if before == now:
        return None
    piece = _same(before, now)
    one = before[piece] if piece < len(before) else ""
    other = now[piece] if piece < len(now) else ""
    order = bool(one and other) and _sorted(one) == _sorted(other)
    # Characters are counted as a person reads them, where what differs is a text.
    texts = _text(one) if one else "", _text(other) if other else ""
    if texts[0] is not None and texts[1] is not None and texts[0] != texts[1]:
        one, other = texts[0], texts[1]
    at = _same(list(one), list(other))
    start = max(at - _AROUND, 0)
    was, is_now = (text[start : start + _EXCERPT].replace("\n", "↵") for text in (one, other))
    return Change(piece, at, was, is_now, order, at - start)


def _sorted(text: str) -> str | None:
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        return text


def _by_name(tools: Iterable[Tool]) -> dict[str, str]:
    return {tool.name: tool.text for tool in tools}


def _changed(
    old: Mapping[str, str], new: Mapping[str, str]
) -> tuple[tuple[str, str | None, str | None], ...]:
    names = dict.fromkeys((*old, *new))
    return tuple(
        (name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)
    )


def _lines(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in readable(text).splitlines()]


def readable(text: str) -> str:
    """A piece of a prompt for a person: its text alone where it is one block of text."""
    plain = _text(text)
    if plain is not None:
        return plain
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=1)
    except (ValueError, RecursionError):
        return text


def _text(text: str) -> str | None:
    """The text of a piece that is one block of text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    inner = value.get("text", value.get("content"))
    if isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], dict):
        inner = inner[0].get("text")
    return inner if isinstance(inner, str) else None
