"""A call that repeats another one beside that one, and the calls that repeat a call."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from llm_passthrough.columns import Row
from llm_passthrough.pages.cells import tone
from llm_passthrough.pages.store import Store
from llm_passthrough.shown import local_time
from llm_passthrough.sidebyside import known, runs, said

# Longer texts are shown without marks: a page must not take seconds.
_MOST_WORDS = 1500


class Piece(NamedTuple):
    """A piece of an answer; `differs` where the other answer says something else."""

    text: str
    differs: bool = False


class Beside(NamedTuple):
    """Two calls beside each other: a row a fact (name, first, this), and both answers.

    Without a record of the first there is only its `id`.
    """

    id: str
    time: str = ""
    tones: tuple[str, str] = ("", "")
    facts: tuple[tuple[str, str, str], ...] = ()
    told: str = ""
    answers: tuple[tuple[str, tuple[Piece, ...]], ...] = ()


def beside(store: Store, row: Row, record: Mapping[str, Any]) -> Beside | None:
    """The call that this one repeats, and this one; None where it repeats none."""
    if not row.replay_of:
        return None
    entry = store.find(row.replay_of)
    first = entry.record() if entry else {}
    if entry is None or not first:
        return Beside(row.replay_of)
    facts = tuple(
        (name, before, now)
        for (name, before), (_, now) in zip(known(entry.row), known(row), strict=True)
    )
    told, answers = _answers(said(first), said(record))
    tones = tone(entry.row.outcome), tone(row.outcome)
    return Beside(entry.row.id, local_time(entry.row.time), tones, facts, told, answers)


def repetitions(store: Store, id_: str) -> list[tuple[Row, list[tuple[str, str]]]]:
    """The calls that repeat this one, and what is known of each; the newest first."""
    return [(row, known(row)) for row in store.repeats(id_)]


def _answers(before: str, now: str) -> tuple[str, tuple[tuple[str, tuple[Piece, ...]], ...]]:
    if before == now:
        return "Both answers say the same." if now else "Neither answer says anything.", ()
    found = runs(before, now, _MOST_WORDS)
    if found is None:
        return "", (("first", (Piece(before),)), ("this", (Piece(now),)))
    old = tuple(Piece(run.before, not run.is_same) for run in found if run.before)
    new = tuple(Piece(run.now, not run.is_same) for run in found if run.now)
    return "", (("first", old), ("this", new))
