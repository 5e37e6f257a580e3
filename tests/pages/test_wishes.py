"""What a query string asks for: words, links to other orders and pages, faults that are told."""

from datetime import UTC, datetime

import pytest
from llm_passthrough.columns import Row
from llm_passthrough.pages.wishes import read

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def row(**columns: object) -> Row:
    return Row("1" * 28, "2026-11-26T11:00:00.000Z")._replace(**columns)


@pytest.mark.parametrize(
    ("words", "columns", "taken"),
    [
        pytest.param({}, {}, True, id="no words ask for everything"),
        pytest.param({"provider": "openai"}, {"provider": "openai"}, True, id="the provider"),
        pytest.param({"provider": "openai"}, {"provider": "azure"}, False, id="another provider"),
        pytest.param({"model": "haiku"}, {"model_response": "claude-haiku-4-5"}, True, id="a part"),
        pytest.param({"model": "gpt-4?"}, {"model_requested": "gpt-4o"}, True, id="a glob"),
        pytest.param({"status": "4xx"}, {"status": 429}, True, id="a class of statuses"),
        pytest.param({"outcome": "failed"}, {"outcome": "timeout"}, True, id="all that failed"),
        pytest.param({"outcome": "failed"}, {"outcome": "ok"}, False, id="ok did not fail"),
        pytest.param({"client": " ci "}, {"client": "ci"}, True, id="spaces around mean nothing"),
        pytest.param({"client": "  "}, {"client": "ci"}, True, id="an empty word is none"),
        pytest.param({"evil": "x"}, {}, True, id="a word that means nothing"),
    ],
)
def test_words_ask_for_calls(
    words: dict[str, str], columns: dict[str, object], taken: bool
) -> None:
    assert read(words, NOW).filter.takes(row(**columns)) is taken


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        pytest.param({"status": "abc"}, "status", id="no status"),
        pytest.param({"outcome": "good"}, "outcome", id="no outcome"),
        pytest.param({"since": "soon"}, "since", id="no time"),
        pytest.param({"until": "99999999999d"}, "until", id="a time that no clock has"),
    ],
)
def test_a_word_that_cannot_be_understood_is_told_and_the_others_count(
    words: dict[str, str], wrong: str
) -> None:
    wish = read(words | {"provider": "openai"}, NOW)
    assert set(wish.faults) == {wrong}
    assert wish.filter.provider == "openai"


@pytest.mark.parametrize(
    ("text", "page"),
    [("3", 3), ("0", 1), ("-1", 1), ("x", 1), ("", 1), ("99999999999999", 1), ("²", 1)],
)
def test_a_page_is_a_number_from_one(text: str, page: int) -> None:
    assert read({"page": text}, NOW).page == page


def test_a_column_turns_round_when_it_is_asked_for_again() -> None:
    wish = read({"sort": "cost", "page": "4", "model": "a b&c"}, NOW)
    assert wish.sort_link("cost") == "?model=a+b%26c&sort=cost&order=up"
    assert wish.sort_link("total") == "?model=a+b%26c&sort=total"
    assert read({"sort": "; DROP"}, NOW).column == "time"


@pytest.mark.parametrize(
    ("words", "live"),
    [
        pytest.param({}, True, id="the newest first"),
        pytest.param({"model": "gpt"}, True, id="a filter does not matter"),
        pytest.param({"page": "2"}, False, id="an older page"),
        pytest.param({"sort": "cost"}, False, id="another order"),
        pytest.param({"order": "up"}, False, id="the oldest first"),
    ],
)
def test_new_calls_go_on_top_where_the_top_is_now(words: dict[str, str], live: bool) -> None:
    assert read(words, NOW).is_live is live
