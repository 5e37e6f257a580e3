"""What two answers say, compared word by word: short, for a terminal."""

import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any

from rich.text import Text

from llm_passthrough.conversation import turns
from llm_passthrough.shown import safe_lines

_WORDS = re.compile(r"\S+\s*|\s+")
_MOST_WORDS = 3000
_AROUND = 6
_LONGEST = 1200
# Less alike than this, a comparison word by word is harder to read than both texts.
_ALIKE = 0.4


def said(record: Mapping[str, Any]) -> str:
    """The answer of a record as text: what was said, thought and called."""
    parts = [part for turn in turns(record) if turn.answer for part in turn.parts]
    told = []
    for part in parts:
        label = "" if part.kind in ("text", "raw") else part.kind.replace("_", " ")
        label = " ".join(word for word in (label, part.name) if word)
        told.append(f"[{label}] {part.text}" if label else part.text)
    return "\n\n".join(told).strip()


def compared(first: Mapping[str, Any], again: Mapping[str, Any]) -> Text:
    """The two answers: that they are the same, where they part, or both."""
    before, now = said(first), said(again)
    if before == now:
        return Text("the answers say the same" if now else "neither answer says anything", "dim")
    old, new = _WORDS.findall(before), _WORDS.findall(now)
    if max(len(old), len(new)) <= _MOST_WORDS:
        matcher = SequenceMatcher(None, old, new, autojunk=False)
        if matcher.ratio() >= _ALIKE:
            return Text.assemble(*_marked(matcher, old, new))
    return Text.assemble(
        ("first call\n", "bold"), (_cut(before), "red"), "\n\n",
        ("replay\n", "bold"), (_cut(now), "green"),
    )  # fmt: skip


def _marked(matcher: SequenceMatcher[str], old: list[str], new: list[str]) -> Iterator[Any]:
    """The words, as `git diff --word-diff` writes them; what is the same is left out in parts."""
    for kind, low, high, start, end in matcher.get_opcodes():
        if kind == "equal":
            same = new[start:end]
            if len(same) > 3 * _AROUND:
                same = [*same[:_AROUND], "... ", *same[-_AROUND:]]
            yield safe_lines("".join(same)), "dim"
            continue
        if low < high:
            yield f"[-{safe_lines(''.join(old[low:high]).rstrip())}-]", "red"
        if start < end:
            yield f"{{+{safe_lines(''.join(new[start:end]).rstrip())}+}}", "green"
        yield " "


def _cut(text: str) -> str:
    shown = safe_lines(text[:_LONGEST]) or "(nothing)"
    return shown if len(text) <= _LONGEST else f"{shown}\n... {len(text):,} characters in all"
