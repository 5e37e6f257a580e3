"""The turn before and after a call, among many others and in both stores."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from llm_passthrough.pages import neighbours
from llm_passthrough.pages.prompt import prompt
from llm_passthrough.pages.store import Store
from llm_passthrough.record import Record
from made import START, record

from pages.test_stores import Make, make

__all__ = ["make"]  # a fixture
RESPONSES = {"path": b"/v1/responses", "client_path": b"/openai_passthrough/v1/responses"}
OTHERS = 200


def said(*texts: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": t} for n, t in enumerate(texts)]}


def at(seconds: float, asked: object, **facts: Any) -> Record:
    return record(started=START + seconds, asked=asked, **facts)


@cache
def others(start: float, opening: str = "Other {}") -> list[Record]:
    return [at(start + n / 1000, said(opening.format(n), "x", "y")) for n in range(OTHERS)]


def around(store: Store, one: Record) -> tuple[str, str]:
    """The ids of the turns before and after a call."""
    entry = store.find(one.id)
    assert entry is not None
    now = prompt(entry.record())
    before, old = neighbours.before(store, entry, now)
    assert (before.id if before else None) == old.get("id")
    return before.id if before else "", neighbours.after(store, entry, now)


def chain(store: Store, turns: list[Record]) -> None:
    """Each turn has the one before it and the one after it."""
    ids = ["", *(one.id for one in turns), ""]
    for number, one in enumerate(turns, 1):
        assert around(store, one) == (ids[number - 1], ids[number + 1])


@pytest.mark.parametrize("opening", ["Other {}", "Go on."], ids=["of their own", "of the same"])
def test_two_conversations_of_one_client_with_many_calls_between(make: Make, opening: str) -> None:
    texts = "Go on.", "Which one?", "The first.", "Done.", "Thanks."
    mine = [at(100 * n, said(*texts[: 2 * n + 1])) for n in range(3)]
    theirs = [at(100 * n + 50, said("Hello.", *texts[1 : 2 * n + 1])) for n in range(3)]
    between = [one for n in range(5) for one in others(50 * n + 1, opening)]
    store = make([*mine, *theirs, *between])
    for turns in (mine, theirs):
        found = [around(store, one)[0] for one in turns]
        assert found == ["", turns[0].id, turns[1].id]
    if opening != "Go on.":
        chain(store, mine)
    chain(store, theirs)


def test_a_conversation_that_the_provider_keeps(make: Make) -> None:
    turns = []
    for number in range(3):
        asked = {"model": "gpt-5", "input": f"Turn {number}"}
        asked |= {"previous_response_id": f"resp_{number - 1}"} if number else {}
        answered = {"id": f"resp_{number}", "object": "response", "output": []}
        turns.append(at(100 * number, asked, answered=answered, **RESPONSES))
    chain(make([*turns, *others(1), *others(101)]), turns)


def test_of_an_earlier_message_that_was_rewritten_the_session_tells(make: Make) -> None:
    mine = {"session_id": "s-1"}
    first = at(0, said("Hi.", "Hello.", "One."), session=mine)
    turn = at(100, said("Hi.", "Hello!", "One.", "Yes?", "Two."), session=mine)
    stranger = at(50, said("Hi.", "Hey.", "One."), session={"session_id": "s-2"})
    store = make([first, stranger, turn])
    assert around(store, turn) == (first.id, "")


def test_a_repetition_is_no_turn_after(make: Make) -> None:
    first = at(0, said("Hi."))
    again = at(10, said("Hi."), replay_of=first.id)
    turn = at(20, said("Hi.", "Hello.", "And now?"))
    store = make([first, again, turn])
    assert around(store, first) == ("", turn.id)
    assert around(store, again) == (first.id, turn.id)


def test_only_the_same_client_provider_and_operation_count(make: Make) -> None:
    turn = at(20, said("Hi.", "Hello.", "And now?"))
    store = make(
        [
            at(0, said("Hi."), client="another"),
            at(1, said("Hi."), provider="azure"),
            at(2, {"contents": []}),
            turn,
        ]
    )
    assert around(store, turn) == ("", "")


@pytest.mark.parametrize(("most", "seconds", "left"), [(2, 9.0, 2), (9, 2.5, 3), (9, 9.0, 5)])
def test_candidates_are_looked_at_for_a_while(most: int, seconds: float, left: int) -> None:
    ticks: Iterator[float] = iter(range(100))
    clock: Callable[[], float] = lambda: next(ticks)  # noqa: E731 - a clock that the test moves
    entries: Iterator[Any] = iter(range(5))
    assert len(list(neighbours._some(entries, most, seconds, clock))) == left


def test_nothing_is_before_what_holds_no_conversation(make: Make, tmp_path: Path) -> None:
    one = at(0, b"")
    assert around(make([one]), one) == ("", "")
