"""What two answers say, compared word by word: short, for a terminal."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.text import Text

from llm_passthrough.shown import safe_lines
from llm_passthrough.sidebyside import WORDS, Run, runs, said

_AROUND = 6
_LONGEST = 1200


def compared(first: Mapping[str, Any], again: Mapping[str, Any]) -> Text:
    """The two answers: that they are the same, where they part, or both."""
    before, now = said(first), said(again)
    if before == now:
        return Text("the answers say the same" if now else "neither answer says anything", "dim")
    found = runs(before, now)
    if found is not None:
        return Text.assemble(*_marked(found))
    return Text.assemble(
        ("first call\n", "bold"), (_cut(before), "red"), "\n\n",
        ("replay\n", "bold"), (_cut(now), "green"),
    )  # fmt: skip


def _marked(found: Iterable[Run]) -> Iterator[Any]:
    """The words, as `git diff --word-diff` writes them; what is the same is left out in parts."""
    for run in found:
        if run.is_same:
            same = WORDS.findall(run.now)
            if len(same) > 3 * _AROUND:
                same = [*same[:_AROUND], "... ", *same[-_AROUND:]]
            yield safe_lines("".join(same)), "dim"
            continue
        if run.before:
            yield f"[-{safe_lines(run.before.rstrip())}-]", "red"
        if run.now:
            yield f"{{+{safe_lines(run.now.rstrip())}+}}", "green"
        yield " "


def _cut(text: str) -> str:
    shown = safe_lines(text[:_LONGEST]) or "(nothing)"
    return shown if len(text) <= _LONGEST else f"{shown}\n... {len(text):,} characters in all"
