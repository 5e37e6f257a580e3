"""Whole pages from records, without a browser: list, call, dashboard, what is told live."""

import json
import re
from pathlib import Path

import pytest
from llm_passthrough.config import Log
from llm_passthrough.pages import call, calls, charts, link
from llm_passthrough.pages.dashboard import Dashboard
from llm_passthrough.pages.index import Index
from llm_passthrough.pages.site import Site
from llm_passthrough.pages.wishes import read
from llm_passthrough.record import Cost, Record, Usage
from llm_passthrough.sinks.sqlite import Sqlite
from made import START, id_at, line, log, record, told

from pages import samples
from pages.test_stores import database


def site(path: Path, records: list[Record], **more: object) -> Site:
    """A site whose index has read everything."""
    settings = Log.model_validate({"path": str(log(path / "records.jsonl", records))} | more)
    made = Site(lambda: settings)
    if isinstance(made.store, Index):
        while made.store.look():
            pass
    return made


def words(page: bytes | None) -> str:
    """What a page says, without its markup."""
    assert page is not None
    return " ".join(re.sub(r"<[^>]+>", " ", page.decode()).split())


SESSION = samples.session(START)


def test_the_list_has_a_row_for_each_call(tmp_path: Path) -> None:
    page = calls.page(site(tmp_path, SESSION), read({}, calls.now())).decode()
    assert page.count("<tr data-item") == len(SESSION)
    assert f'href="/llm/{SESSION[0].id}"' in page
    assert "6 calls" in page
    assert "claude-sonnet-4-5" in page


def test_the_list_says_what_is_wrong_and_what_there_is_to_see(tmp_path: Path) -> None:
    empty = site(tmp_path, [])
    assert "No calls yet." in words(calls.page(empty, read({}, calls.now())))
    wish = read({"status": "x", "provider": "openai"}, calls.now())
    shown = words(calls.page(empty, wish))
    assert "status must be such as 429, 5xx or 400,404" in shown
    assert "No call is like that." in shown


def test_a_database_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.sqlite").write_bytes(b"no database at all" * 100)
    bad = site(tmp_path, SESSION, sqlite=str(tmp_path / "bad.sqlite"))
    assert "cannot be read" in words(calls.page(bad, read({}, calls.now())))
    assert "cannot be read" in words(Dashboard(bad).page(read({}, calls.now())))


def test_a_database_that_was_switched_on_later_says_where_the_older_records_are(
    tmp_path: Path,
) -> None:
    path = tmp_path / "records.sqlite"
    database(path, SESSION[2:])
    later = site(tmp_path, SESSION, sqlite=str(path))
    for _ in range(2):
        shown = words(calls.page(later, read({}, calls.now())))
        assert "4 calls" in shown
        assert f"older ones, from before this database was switched on: {_list(tmp_path)}" in shown
    whole = site(tmp_path, SESSION[2:], sqlite=str(path))
    assert "older ones" not in words(calls.page(whole, read({}, calls.now())))
    alone = site(tmp_path, SESSION)
    assert "older ones" not in words(calls.page(alone, read({}, calls.now())))


def _list(folder: Path) -> str:
    return f"llm-passthrough logs list --file {folder / 'records.jsonl'}"


def test_records_that_go_elsewhere_are_read_there(tmp_path: Path) -> None:
    settings = [Log(path=str(log(tmp_path / "one.jsonl", SESSION[:1])))]
    moving = Site(lambda: settings[0])
    first = moving.store
    assert moving.store is first
    settings[0] = Log(path=str(log(tmp_path / "two.jsonl", SESSION)))
    assert moving.store is not first
    assert moving.place == tmp_path / "two.jsonl"


def test_a_call_shows_its_conversation_and_what_is_new_in_it(tmp_path: Path) -> None:
    shown = words(call.page(site(tmp_path, SESSION), SESSION[3].id))
    for text in (
        samples.QUESTION,
        "read_file",
        "pytest -q tests/test_cache.py",
        "1 failed, 3 passed in 0.21s",
        "It fails as it should. Now the change.",
        "prompt cache: hit",
        "3920 of 4340 input tokens came from the cache",
        "2 new messages; system prompt unchanged; tools unchanged",
        "5 earlier messages, the same as in the turn before",
        "turn after",
    ):
        if text.startswith("5 earlier"):
            text = "3 earlier messages, the same as in the turn before"
        assert text in shown, text


def test_a_call_says_why_its_cache_was_missed(tmp_path: Path) -> None:
    before = SESSION[2]
    asked = json.loads(told(SESSION[3])["request"]["body"])
    missed = samples.anthropic(
        START + 4000,
        asked["messages"],
        [],
        system=f"{samples.SYSTEM}It is 15:20.",
        tools=samples.TOOLS[:2],
        write=4300,
        beta="other",
    )
    shown = words(call.page(site(tmp_path, [before, missed]), missed.id))
    for text in (
        "prompt cache: missed",
        "another header anthropic-beta: prompt-caching → other",
        "other tools -run; from tool 3 on",
        f"another system prompt from character {len(samples.SYSTEM)} on",
        "too late 66 min after the call before; kept five minutes",
        "It is 15:20.",
    ):
        assert text in shown, text


@pytest.mark.parametrize("capture", ["usage", "none"])
def test_a_call_without_bodies_says_so(tmp_path: Path, capture: str) -> None:
    bare = record(capture=capture, answered={"model": "gpt-4o", "choices": []})
    shown = words(call.page(site(tmp_path, [bare]), bare.id))
    assert "Headers and bodies of this call were not kept" in shown
    assert "Nothing was kept of what was said." in shown or "not recorded" in shown


def test_a_call_that_is_not_there_has_no_page(tmp_path: Path) -> None:
    assert call.page(site(tmp_path, SESSION), "nothing") is None
    assert call.raw(site(tmp_path, SESSION), "nothing") is None


@pytest.mark.parametrize("what", ["list", "call", "raw", "stats"])
def test_nothing_of_a_hostile_record_is_markup(tmp_path: Path, what: str) -> None:
    one = samples.hostile(START)
    its = site(tmp_path, [one])
    wish = read({"since": "3650d", "by": "client"}, calls.now())
    page = {
        "list": lambda: calls.page(its, wish),
        "call": lambda: call.page(its, one.id),
        "raw": lambda: call.raw(its, one.id),
        "stats": lambda: Dashboard(its).page(wish),
    }[what]()
    assert page is not None
    html = page.decode()
    assert "&lt;script&gt;alert(1)" in html
    for tag in re.findall(r"<[^>]*>", html):
        assert "alert(" not in tag or "&lt;" in tag, tag
        assert not re.search(r"(?<![\w-])(src|href)=\"(?!/llm|/\"|\?|data:,)", tag), tag
    for hidden in ("\x1b", "\u202e", "\u200b", "\U000e0041"):
        assert hidden not in html


def test_what_is_told_live_is_what_the_list_would_show(tmp_path: Path) -> None:
    its = site(tmp_path, SESSION[:1])
    wish = read({"provider": "anthropic"}, calls.now())
    _, cursor = its.store.since(None)
    with (tmp_path / "records.jsonl").open("ab") as file:
        file.write(line(SESSION[1]) + line(samples.chat(START + 20, "Hello?", "Hi.")))
    assert isinstance(its.store, Index)
    while its.store.look():
        pass
    value, after = calls.news(its, wish, cursor, b"")
    news = json.loads(value)
    assert [one["id"] for one in news["calls"]] == [SESSION[1].id]
    assert ["model", "claude-sonnet-4-5", "", ""] in news["calls"][0]["cells"]
    assert news["total"] == "2 calls"
    assert json.loads(calls.news(its, wish, after, b"")[0])["calls"] == []


def test_the_dashboard_sums_up_and_has_a_picture_of_each_plot(tmp_path: Path) -> None:
    board = Dashboard(site(tmp_path, SESSION))
    wish = read({"since": "3650d", "by": "provider"}, calls.now())
    shown = words(board.page(wish))
    assert "anthropic 6 0 24.9k 19.6k 960 $0.0418" in shown
    for name in charts.CHARTS:
        svg = board.plot(name, wish, dark=True)
        assert svg is not None
        assert b"<svg" in svg
    assert board.plot("nothing", wish, dark=False) is None


def test_without_pygal_the_dashboard_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "pygal", None)
    board = Dashboard(site(tmp_path, SESSION))
    wish = read({}, calls.now())
    assert "pip install &#x27;llm-passthrough[pages]&#x27;" in board.page(wish).decode()
    assert board.plot("calls", wish, dark=False) is None


@pytest.mark.parametrize(
    ("web_url", "wanted"),
    [
        ("http://127.0.0.1:8081/?token=abc", "http://127.0.0.1:8081/llm?token=abc"),
        ("http://[::1]:8081/", "http://[::1]:8081/llm"),
    ],
)
def test_the_link_lets_in_as_mitmwebs_own_does(web_url: str, wanted: str) -> None:
    assert link(web_url) == wanted


def say(started: float, word: str, **facts: object) -> Record:
    """What a WebSocket's record holds of a question and its answer."""
    content = [{"type": "output_text", "text": f"answer {word}"}]
    output = [{"type": "message", "role": "assistant", "content": content}]
    asked = {"type": "response.create", "model": "gpt-4o", "input": f"question {word}"}
    answered = {"type": "response.completed", "response": {"output": output}}
    return record(id_at(started), started, asked=asked, answered=answered, status=101, **facts)


@pytest.mark.parametrize("sqlite", [False, True], ids=["JSONL", "SQLite"])
def test_a_websocket_is_one_page_and_each_turn_another(tmp_path: Path, sqlite: bool) -> None:
    whole = id_at(START)
    usage = Usage(input_tokens=12, output_tokens=34)
    turns = [
        say(START + n, str(n), part_of=whole, turn=n, usage=usage, cost=Cost(0.5, "USD", "x"))
        for n in (1, 2, 3)
    ]
    own = say(START, "left", turns=3, total=10.0)
    other = say(START + 2.5, "of another", part_of=id_at(START + 0.1), turn=1)
    records = [turns[0], turns[1], other, turns[2], own]
    more: dict[str, object] = {}
    if sqlite:
        sink = Sqlite(tmp_path / "records.sqlite")
        for one in records:
            sink.write(one, line(one))
        sink.close()
        more["sqlite"] = str(tmp_path / "records.sqlite")
    made = site(tmp_path, records, **more)
    page = call.page(made, whole)
    shown = words(page)
    parts = ("turn 1", "question 1", "answer 1", "turn 2", "question 2", "turn 3", "question left")
    places = [shown.index(part) for part in parts]
    assert places == sorted(places)
    assert "12 in / 34 out · $0.5000" in shown
    assert "of another" not in shown
    assert f'<h2><a href="/llm/{turns[1].id}">'.encode() in (page or b"")
    second = call.page(made, turns[1].id) or b""
    assert "question 1" not in words(second).split("question 2")[1]
    for link_ in (whole, turns[0].id, turns[2].id):
        assert f'href="/llm/{link_}"'.encode() in second


def test_a_turn_of_a_websocket_that_is_open_links_to_no_page(tmp_path: Path) -> None:
    one = say(START + 1, "one", part_of=id_at(START), turn=1)
    page = call.page(site(tmp_path, [one]), one.id)
    assert f'href="/llm/{id_at(START)}"' not in str(page)
    assert id_at(START) in words(page)


def test_of_very_many_turns_a_page_shows_some_and_says_so(tmp_path: Path) -> None:
    whole = id_at(START)
    records = [say(START + n, str(n), part_of=whole, turn=n) for n in range(1, 121)]
    records.append(record(whole, START, asked=b"", status=101, turns=120, total=200.0))
    shown = words(call.page(site(tmp_path, records), whole))
    assert "question 1 " in shown
    assert "more turns are not shown here" in shown
