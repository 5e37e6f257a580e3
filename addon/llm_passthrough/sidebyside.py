"""A call and its repetition beside each other: what is known of both, where their answers part."""

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from llm_passthrough.columns import Row
from llm_passthrough.conversation import turns
from llm_passthrough.shown import duration, local_time, money, tokens

WORDS = re.compile(r"\S+\s*|\s+")
_MOST_WORDS = 3000
# Less alike than this, a comparison word by word is harder to read than both texts.
_ALIKE = 0.4


class Run(NamedTuple):
    """Words of both texts that are the same, or that stand in the place of each other."""

    before: str
    now: str

    @property
    def is_same(self) -> bool:
        """Whether both say this."""
        return self.before == self.now


def known(row: Row) -> list[tuple[str, str]]:
    """What is known of a call, by name; texts from outside are as they are."""
    outcome = row.outcome or "?"
    status = "---" if row.status is None else str(row.status)
    return [
        ("time", local_time(row.time)),
        ("outcome", status if outcome == "ok" else f"{status} {outcome}"),
        ("model", row.model or "-"),
        ("key", row.key or "-"),
        ("in", tokens(row.input_tokens)),
        ("cached", tokens(row.cache_read_tokens)),
        ("out", tokens(row.output_tokens)),
        ("cost", money(row.cost, row.currency)),
        ("first token", duration(row.first_token_ms)),
        ("total", duration(row.total_ms)),
    ]


def said(record: Mapping[str, Any]) -> str:
    """The answer of a record as text: what was said, thought and called."""
    parts = [part for turn in turns(record) if turn.answer for part in turn.parts]
    told = []
    for part in parts:
        label = "" if part.kind in ("text", "raw") else part.kind.replace("_", " ")
        label = " ".join(word for word in (label, part.name) if word)
        told.append(f"[{label}] {part.text}" if label else part.text)
    return "\n\n".join(told).strip()


def runs(before: str, now: str, most: int = _MOST_WORDS) -> list[Run] | None:
    """Two texts word by word; None where they are long (`most` words), or hardly alike."""
    old, new = WORDS.findall(before), WORDS.findall(now)
    if max(len(old), len(new)) > most:
        return None
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    if matcher.ratio() < _ALIKE:
        return None
    return [
        Run(_joined(old, low, high), _joined(new, start, end))
        for _, low, high, start, end in matcher.get_opcodes()
    ]


def _joined(words: Sequence[str], start: int, end: int) -> str:
    return "".join(words[start:end])
