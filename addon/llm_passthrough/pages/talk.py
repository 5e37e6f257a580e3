"""A conversation as a page shows it: messages, tool calls with their results, what is folded."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from llm_passthrough.conversation import Part, Turn
from llm_passthrough.conversation.values import size

_ASIDE = frozenset({"system", "developer", "tools"})
_LONG = 6000
_LONG_ASIDE = 400
_LONG_RESULT = 600
_PRETTY = 200_000
_PREVIEW = 120
_LABELS = {
    "thinking": "thinking",
    "tool_call": "call",
    "tool_result": "result",
    "refusal": "refused",
    "error": "error",
}


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a message; a folded one shows its `preview` alone."""

    kind: str
    label: str
    text: str
    folded: bool = False
    preview: str = ""
    size: str = ""
    image: str = ""
    results: tuple["Block", ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """A message; `old` ones stood in the call before too."""

    role: str
    blocks: tuple[Block, ...]
    answer: bool = False
    old: bool = False
    number: int = 0

    @property
    def is_new(self) -> bool:
        """Whether it was added since the call before: a question, or what was answered then."""
        return not (self.old or self.answer or self.role in _ASIDE)


def talk(turns: Sequence[Turn], before: Sequence[Turn] = ()) -> list[Said]:
    """The messages of a call. Results stand with their calls; what has none stays in its place."""
    results = _results(turns)
    same = _same(turns, before)
    found: list[Said] = []
    for number, turn in enumerate(turns):
        blocks = tuple(_blocks(turn, results))
        if blocks:
            found.append(Said(turn.role, blocks, turn.answer, number in same, len(found) + 1))
    return found


def _same(turns: Sequence[Turn], before: Sequence[Turn]) -> set[int]:
    """The numbers of the turns that stood in the call before: its questions from the start."""
    mine = [(n, turn) for n, turn in enumerate(turns) if not (turn.answer or turn.role in _ASIDE)]
    theirs = [turn for turn in before if not (turn.answer or turn.role in _ASIDE)]
    pairs = takewhile(lambda pair: pair[0][1] == pair[1], zip(mine, theirs, strict=False))
    return {number for (number, _), _ in pairs}


def _results(turns: Iterable[Turn]) -> dict[int, list[Part]]:
    """The results of each call, by the identity of the call's part; under 0 all that have one."""
    parts = [part for turn in turns for part in turn.parts]
    waiting: dict[tuple[str, str], list[Part]] = defaultdict(list)
    found: dict[int, list[Part]] = {0: []}
    for part in parts:
        if part.kind == "tool_call":
            waiting[_key(part)].append(part)
            found[id(part)] = []
        elif part.kind == "tool_result" and (calls := waiting.get(_key(part))):
            # With an id it is the one; by its name alone, the first that has none yet.
            call = calls[0] if part.call or len(calls) == 1 else calls.pop(0)
            found[id(call)].append(part)
            found[0].append(part)
    return found


def _key(part: Part) -> tuple[str, str]:
    return ("id", part.call) if part.call else ("name", part.name)


def _blocks(turn: Turn, results: dict[int, list[Part]]) -> Iterable[Block]:
    paired = {id(part) for part in results[0]}
    for part in turn.parts:
        if id(part) in paired:
            continue
        block = _block(part, turn.role)
        if given := results.get(id(part)):
            inner = tuple(_block(one, turn.role) for one in given)
            block = replace(block, results=inner)
        yield block


def _block(part: Part, role: str) -> Block:
    text = _pretty(part.text) if part.kind in ("tool_call", "tool_result", "raw") else part.text
    label = " ".join(word for word in (_LABELS.get(part.kind, ""), _name(part)) if word)
    longest = {"thinking": 0, "tool_result": _LONG_RESULT}.get(part.kind, _LONG)
    if role in _ASIDE:
        longest = _LONG_ASIDE
    folded = len(text) > longest
    preview = " ".join(text[: _PREVIEW * 2].split())
    preview = preview if len(preview) <= _PREVIEW else f"{preview[:_PREVIEW]}…"
    told = size(len(text.encode("utf-8", "replace")))
    return Block(part.kind, label, text, folded, preview, told, part.image)


def _name(part: Part) -> str:
    """The name of a tool; the id of a call is for machines."""
    return "" if part.name and part.name == part.call else part.name


def _pretty(text: str) -> str:
    """JSON with its lines; all else as it is."""
    if text[:1] not in ("{", "[") or len(text) > _PRETTY:
        return text
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return text
