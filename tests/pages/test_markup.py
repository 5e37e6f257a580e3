"""Text from outside as HTML: nothing is markup, nothing is hidden, nothing turns the line round."""

import pytest
from llm_passthrough.pages.cells import cells
from llm_passthrough.pages.markup import plain, visible
from llm_passthrough.pages.render import STATIC, render

SHOWN = '<b class="unseen">{}</b>'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("<img src=x>", "&lt;img src=x&gt;", id="markup"),
        pytest.param("\"'&", "&quot;&#x27;&amp;", id="what ends an attribute"),
        pytest.param("a\n\tb", "a\n\tb", id="lines and tabs stay"),
        pytest.param("a\r\nb", "a\nb", id="a line break of Windows is one"),
        pytest.param("\x1b[2J", SHOWN.format("\\x1b") + "[2J", id="a terminal's escape"),
        pytest.param("\u202e", SHOWN.format("\\u202e"), id="what turns the direction"),
        pytest.param("\u2066", SHOWN.format("\\u2066"), id="what isolates a direction"),
        pytest.param("\u200b", SHOWN.format("\\u200b"), id="no width"),
        pytest.param("\U000e0041", SHOWN.format("\\U000e0041"), id="a tag character"),
        pytest.param("\ud800", SHOWN.format("\\ud800"), id="half a character"),
        pytest.param("\x00\x85", SHOWN.format("\\x00") + SHOWN.format("\\x85"), id="controls"),
        pytest.param("a\u200db", "a" + SHOWN.format("\\u200d") + "b", id="a joiner of nothing"),
        pytest.param("👩\u200d💻 é 漢字 שלום", "👩\u200d💻 é 漢字 שלום", id="all languages stay"),
        pytest.param(None, "None", id="what is no text"),
    ],
)
def test_what_is_written_is_what_is_seen(text: object, shown: str) -> None:
    assert visible(text) == shown


def test_in_attributes_and_scripts_the_names_of_hidden_characters_stand_as_text() -> None:
    assert plain("a\u202eb\x1b<") == "a\\u202eb\\x1b<"


def test_a_template_takes_every_value_as_text() -> None:
    page = render("said.html", title="<&>", here="", text="{{ 1 }} \u202e<script>").decode()
    assert "<title>&lt;&amp;&gt;</title>" in page
    assert "{{ 1 }} \\u202e&lt;script&gt;" in page


def test_no_template_and_no_file_has_anything_inline_or_from_outside() -> None:
    import re

    from llm_passthrough.pages import render as module

    folder = module._FOLDER
    texts = {path.name: path.read_text() for path in (folder / "templates").iterdir()}
    texts |= {name: content.decode() for name, (_, content) in STATIC.items()}
    for name, text in texts.items():
        assert not re.search(r"https?://|//[a-z]+\.", text), f"{name} names another host"
        if name.endswith(".html"):
            assert not re.search(r"\son[a-z]+=|\sstyle=|<style|javascript:", text), name
            assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text)), name
            raws = set(re.findall(r"\{% raw ([a-z]+)", text))
            assert raws <= {"visible"}, f"{name} takes {raws} as it is"
        if name.endswith(".js"):
            assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval", text)


def test_a_cell_shows_what_hides_and_cuts_what_is_long() -> None:
    from llm_passthrough.columns import Row

    row = Row("i" * 28, "2026-11-26T11:00:00.000Z", client="\u202ex", model_requested="m" * 90)
    found = {cell.name: cell for cell in cells(row)}
    assert found["client"].text == "\\u202ex"
    assert (len(found["model"].text), found["model"].title) == (60, "m" * 90)
    assert found["num cost"].text == "-"
