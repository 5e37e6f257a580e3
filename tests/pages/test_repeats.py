"""A replay beside the call that it repeats, and what repeats a call: in both stores."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from llm_passthrough.pages import call, calls
from llm_passthrough.pages.repeats import Piece, beside, repetitions
from llm_passthrough.pages.site import Site
from llm_passthrough.pages.wishes import read
from llm_passthrough.record import Record, line
from made import START

from pages import samples
from pages.test_pages import site, words
from pages.test_stores import database

FIRST = samples.chat(START, "Why is the sky blue?", "Because air scatters blue light more.")


def again(answer: str, after: float = 60.0, **facts: Any) -> Record:
    given = {"replay_of": FIRST.id, "model": "gpt-4o-mini", "key": "spare"} | facts
    return samples.chat(START + after, "Why is the sky blue?", answer, **given)


AGAIN = again("Because air scatters red light less.")


@pytest.fixture(params=["jsonl", "sqlite"])
def of(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def made(*records: Record) -> Site:
        if request.param == "jsonl":
            return site(tmp_path, list(records))
        path = tmp_path / "records.sqlite"
        database(path, list(records))
        return site(tmp_path, [], sqlite=str(path))

    return made


def test_a_repetition_shows_both_calls_beside_each_other(of: Any) -> None:
    page = call.page(of(FIRST, AGAIN), AGAIN.id)
    assert page is not None
    html, shown = page.decode(), words(page)
    assert f'href="/llm/{FIRST.id}" data-first' in html
    for text in ("model gpt-4o gpt-4o-mini", "key team spare", "outcome 200 200", "first answer"):
        assert text in shown, text
    marked = re.findall(r"<mark>(.*?)</mark>", html)
    assert [text.strip() for text in marked] == ["blue", "more.", "red", "less."]


def test_the_first_lists_its_repetitions_the_newest_first(of: Any) -> None:
    others = [again("Again.", 60.0 + n) for n in (1, 2)]
    page = call.page(of(FIRST, AGAIN, *others), FIRST.id)
    assert page is not None
    links = re.findall(r'href="/llm/([0-9a-f]+)" data-again', page.decode())
    assert links == [others[1].id, others[0].id, AGAIN.id]
    assert "repeated 3 times" in words(page)


def test_answers_that_say_nothing_are_told(of: Any) -> None:
    first = samples.chat(START, "Hi", "", answered=None)
    other = samples.chat(START + 1, "Hi", "", answered=None, replay_of=first.id)
    shown = words(call.page(of(first, other), other.id))
    assert "Neither answer says anything." in shown


def test_a_call_that_neither_repeats_nor_is_repeated_says_nothing_of_it(of: Any) -> None:
    its = of(FIRST)
    entry = its.store.find(FIRST.id)
    assert beside(its.store, entry.row, entry.record()) is None
    assert repetitions(its.store, FIRST.id) == []
    assert "repeat" not in words(call.page(its, FIRST.id))


def test_a_first_call_that_is_gone_is_told(of: Any) -> None:
    shown = words(call.page(of(AGAIN), AGAIN.id))
    assert f"repeats a call that is not in this log (any more) {FIRST.id}" in shown


def test_the_list_marks_a_repetition_and_leads_to_the_first(of: Any) -> None:
    its = of(FIRST, AGAIN)
    html = calls.page(its, read({}, calls.now())).decode()
    assert html.count('class="again"') == 1
    assert f'class="again" href="/llm/{FIRST.id}"' in html


def test_the_mark_is_told_live_too(tmp_path: Path) -> None:
    its = site(tmp_path, [FIRST])
    _, cursor = its.store.since(None)
    with (tmp_path / "records.jsonl").open("ab") as file:
        file.write(line(AGAIN))
    while its.store.look():  # type: ignore[attr-defined]
        pass
    news = json.loads(calls.news(its, read({}, calls.now()), cursor, b"")[0])
    assert ["model", "gpt-4o-mini", "", FIRST.id] in news["calls"][0]["cells"]


@pytest.mark.parametrize(
    ("before", "now", "told", "answers"),
    [
        pytest.param("The same.", "The same.", "Both answers say the same.", [], id="the same"),
        pytest.param(
            "a b c d", "a b x d", "",
            [[("a b ", False), ("c ", True), ("d", False)],
             [("a b ", False), ("x ", True), ("d", False)]],
            id="a word",
        ),
        pytest.param(
            "a b c", "a b c d", "",
            [[("a b ", False), ("c", True)], [("a b ", False), ("c d", True)]],
            id="more",
        ),
        pytest.param(
            "one two", "something else", "",
            [[("one two", False)], [("something else", False)]],
            id="nothing alike",
        ),
        pytest.param(
            "w " * 2000, "w " * 1999 + "x", "",
            [[(("w " * 2000).strip(), False)], [("w " * 1999 + "x", False)]],
            id="too long to be compared",
        ),
    ],
)  # fmt: skip
def test_answers_are_compared_word_by_word(
    tmp_path: Path, before: str, now: str, told: str, answers: list[list[tuple[str, bool]]]
) -> None:
    first = samples.chat(START, "Hi", before)
    other = samples.chat(START + 1, "Hi", now, replay_of=first.id)
    store = site(tmp_path, [first, other]).store
    entry = store.find(other.id)
    assert entry is not None
    found = beside(store, entry.row, entry.record())
    assert found is not None
    assert found.told == told
    expected = [tuple(Piece(*piece) for piece in one) for one in answers]
    assert [pieces for _, pieces in found.answers] == expected
    assert [name for name, _ in found.answers] == ["first", "this"][: len(answers)]


def test_nothing_of_a_hostile_repetition_is_markup(of: Any) -> None:
    first = samples.hostile(START)
    other = samples.chat(
        START + 9, samples.EVIL, samples.EVIL, replay_of=first.id, model=samples.EVIL
    )
    its = of(first, other, samples.chat(START + 20, "", "", replay_of=samples.EVIL))
    for id_ in (first.id, other.id):
        html = (call.page(its, id_) or b"").decode()
        assert "&lt;script&gt;alert(1)" in html
        assert not re.search(r"<[^>]*alert\(", html)
    listed = calls.page(its, read({}, calls.now())).decode()
    assert 'class="again" href="/llm/%3Cscript%3E' in listed
    assert "<script>alert" not in listed
