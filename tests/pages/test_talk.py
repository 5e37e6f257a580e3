"""A conversation as a page shows it: calls with their results, old and new, what is folded."""

from llm_passthrough.conversation import Part, Turn, turns
from llm_passthrough.pages.call import groups
from llm_passthrough.pages.talk import Said, talk
from made import START, told

from pages import samples


def shape(said: list[Said]) -> list[tuple[str, list[tuple[str, int]]]]:
    return [(s.role, [(b.kind, len(b.results)) for b in s.blocks]) for s in said]


def test_a_result_stands_with_its_call() -> None:
    found = talk(
        [
            Turn(
                "assistant",
                (Part("tool_call", "{}", "a", "id1"), Part("tool_call", "{}", "b", "id2")),
            ),
            Turn("tool", (Part("tool_result", "two", "id2", "id2"),)),
            Turn("tool", (Part("tool_result", "one", "id1", "id1"), Part("text", "and?"))),
        ]
    )
    assert shape(found) == [
        ("assistant", [("tool_call", 1), ("tool_call", 1)]),
        ("tool", [("text", 0)]),
    ]
    assert [block.results[0].text for block in found[0].blocks] == ["one", "two"]


def test_without_ids_results_go_by_the_name_in_order() -> None:
    call = Part("tool_call", "{}", "look")
    found = talk(
        [
            Turn("model", (call, Part("tool_call", "{ }", "look"))),
            Turn("user", (Part("tool_result", "1", "look"), Part("tool_result", "2", "look"))),
        ]
    )
    assert [block.results[0].text for block in found[0].blocks] == ["1", "2"]


def test_a_result_without_its_call_stays_in_its_place() -> None:
    found = talk([Turn("tool", (Part("tool_result", "x", "id", "id"),))])
    assert shape(found) == [("tool", [("tool_result", 0)])]


def test_what_stood_in_the_turn_before_is_old() -> None:
    first, second = (turns(told(one)) for one in samples.session(START)[1:3])
    found = talk(second, first)
    asked = [said for said in found if not said.answer and said.role not in ("system", "tools")]
    assert [said.old for said in asked] == [True, True, False]
    assert [said.is_new for said in asked] == [False, False, True]
    assert not found[0].is_new, "the system prompt is compared by itself"


def test_old_messages_are_folded_where_there_are_several() -> None:
    session = samples.session(START)
    found = talk(turns(told(session[-1])), turns(told(session[-2])))
    kinds = [(kind, len(said)) for kind, said in groups(found)]
    assert kinds == [("", 1), ("old", 5), ("", 2)]


def test_thinking_and_what_is_long_are_folded() -> None:
    found = talk(
        [
            Turn("system", (Part("text", "x" * 500),)),
            Turn("user", (Part("text", "x" * 500), Part("text", "y" * 7000))),
            Turn("assistant", (Part("thinking", "hm"), Part("tool_result", "z" * 700))),
        ]
    )
    assert [b.folded for said in found for b in said.blocks] == [True, False, True, True, True]
    assert found[1].blocks[1].size == "7.0 kB"
    assert len(found[1].blocks[1].preview) <= 121


def test_json_of_tools_has_lines_and_all_else_stays_as_it_is() -> None:
    found = talk([Turn("assistant", (Part("tool_call", '{"a": [1]}'), Part("text", '{"a": 1}')))])
    assert found[0].blocks[0].text == '{\n  "a": [\n    1\n  ]\n}'
    assert found[0].blocks[1].text == '{"a": 1}'


def test_a_small_picture_is_there_and_other_media_are_told() -> None:
    (picture,) = [
        block
        for said in talk(turns(told(samples.picture(START))))
        for block in said.blocks
        if block.image
    ]
    assert picture.image == f"data:image/png;base64,{samples.PNG}"
    hostile = talk(turns(told(samples.hostile(START))))
    assert not [block for said in hostile for block in said.blocks if block.image]
