"""Which turn came before, and where two prompts part."""

import pytest
from llm_passthrough.lineage import Message
from llm_passthrough.pages.difference import difference, lines, previous, readable
from llm_passthrough.pages.prompt import Prompt, Tool


def ask(*texts: str, **more: object) -> Prompt:
    messages = tuple(Message("user", text) for text in texts)
    return Prompt(**({"messages": messages} | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "candidates", "wanted"),
    [
        pytest.param(ask("a", "b", "c"), [ask("a", id="1")], "1", id="all of it stands first"),
        pytest.param(
            ask("a", "b", "c", "d", "e"),
            [ask("a", id="1"), ask("a", "b", "c", id="2")],
            "2",
            id="the longest, not the newest",
        ),
        pytest.param(
            ask("a", "b", "c"), [ask("a", id="1"), ask("a", id="2")], "1", id="of equals the newest"
        ),
        pytest.param(ask("a"), [ask("a", id="1")], "1", id="the same again"),
        pytest.param(ask("a", "b"), [ask("b", id="1"), ask(id="2")], None, id="another one"),
        pytest.param(ask("a"), [ask("a", "b", id="1")], None, id="one that has more"),
        pytest.param(
            ask("a", "X", session={"session_id": "s"}),
            [ask("a", "b", id="1", session={"session_id": "s"})],
            "1",
            id="one session, with something rewritten",
        ),
        pytest.param(
            ask("a", "X", session={"session_id": "s"}),
            [ask("a", "b", id="1", session={"session_id": "t"})],
            None,
            id="another session",
        ),
        pytest.param(
            ask("new", previous_id="resp_1"),
            [ask("new", id="1"), ask("old", id="2", response_id="resp_1")],
            "2",
            id="the answer that it names is surest",
        ),
        pytest.param(
            ask("new", previous_id="resp_1"), [ask("x", id="1")], None, id="an answer unknown here"
        ),
    ],
)
def test_the_turn_before_is_found(
    now: Prompt, candidates: list[Prompt], wanted: str | None
) -> None:
    found = previous(now, candidates)
    assert (found.id if found else None) == wanted


def test_looking_ends_where_nothing_can_be_nearer() -> None:
    def candidates():
        yield ask("a", id="1")
        raise AssertionError("one more was asked for")

    found = previous(ask("a", "b", "c"), candidates())
    assert found is not None
    assert found.id == "1"


def test_what_was_added_is_no_change_of_what_was_there() -> None:
    found = difference(ask("a", "b"), ask("a", "b", "c", "d"))
    assert (found.same, found.lost, found.added, found.message) == (2, 0, 2, None)
    assert found.goes_on


def test_what_the_provider_keeps_stands_in_front() -> None:
    found = difference(ask("a", response_id="resp_1"), ask("b", previous_id="resp_1"))
    assert (found.same, found.lost, found.added) == (1, 0, 1)


def test_the_first_place_where_messages_part_is_told() -> None:
    old = "the same start, then one thing" + "." * 300
    new = "the same start, then another" + "." * 300
    found = difference(ask("x", old, "y"), ask("x", new, "y", "z"))
    assert (found.same, found.lost, found.added) == (1, 2, 3)
    assert found.message is not None
    assert found.message.at == len("the same start, then ")
    assert found.message.before.startswith("the same start, then one")
    assert found.message.now.startswith("the same start, then another")
    assert found.message.now[found.message.same :].startswith("another")
    assert len(found.message.before) <= 120


@pytest.mark.parametrize(
    ("old", "new", "added", "removed", "changed", "order_only"),
    [
        pytest.param("a1 b1", "a1 b1 c1", ("c",), (), (), False, id="one more"),
        pytest.param("a1 b1", "b1", (), ("a",), (), False, id="one less"),
        pytest.param("a1 b1", "a2 b1", (), (), ("a",), False, id="one that is another"),
        pytest.param("a1 b1", "b1 a1", (), (), (), False, id="another order"),
    ],
)
def test_tools_are_compared_by_name(
    old: str, new: str, added: object, removed: object, changed: object, order_only: bool
) -> None:
    def tools(text: str) -> tuple[Tool, ...]:
        return tuple(Tool(word[0], word) for word in text.split())

    found = difference(ask(tools=tools(old)), ask(tools=tools(new)))
    assert found.tool is not None
    assert (found.tools_added, found.tools_removed, found.tools_changed) == (
        added,
        removed,
        changed,
    )
    assert found.tool.order_only is order_only


def test_the_same_fields_in_another_order_are_told_apart_from_other_content() -> None:
    found = difference(
        ask(tools=(Tool("a", '{"x": 1, "y": 2}'),)), ask(tools=(Tool("a", '{"y": 2, "x": 1}'),))
    )
    assert found.tool is not None
    assert found.tool.order_only


def test_settings_headers_and_model_are_told_with_both_values() -> None:
    found = difference(
        ask(model="a", settings={"x": "1", "y": "2"}, headers={"anthropic-beta": "p"}),
        ask(model="b", settings={"x": "1", "z": "3"}),
    )
    assert found.model == ("a", "b")
    assert found.settings == (("y", "2", None), ("z", None, "3"))
    assert found.headers == (("anthropic-beta", "p", None),)


def test_lines_are_compared_as_a_person_reads_them() -> None:
    old, new = '{"type": "text", "text": "one\\ntwo"}', '{"type": "text", "text": "one\\n2"}'
    assert lines([old], [new])[1:] == [(" ", "one"), ("-", "two"), ("+", "2")]
    assert lines(["x\n" * 5000], ["y"]) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"role": "user", "content": [{"type": "text", "text": "Hi"}]}', "Hi"),
        ('{"text": "Hi"}', "Hi"),
        ("no JSON", "no JSON"),
        ('{"a": 1}', '{\n "a": 1\n}'),
    ],
)
def test_a_piece_is_shown_as_its_text(text: str, shown: str) -> None:
    assert readable(text) == shown
