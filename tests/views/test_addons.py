"""What a mitmproxy gets for those who look at it, and what is put into its flows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llm_passthrough import options, views
from llm_passthrough.errors import ConfigError
from llm_passthrough.tee import Tee
from mitmproxy import contentviews
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.test import tflow
from mitmproxy.tools.console.master import ConsoleMaster
from mitmproxy.tools.dump import DumpMaster
from mitmproxy.tools.web.master import WebMaster


class Ours:
    """The addon that declares our options."""

    name = "ours"

    def load(self, loader: Any) -> None:
        for option in options.OWN:
            loader.add_option(*option)


def web(folder: Path) -> WebMaster:
    """A mitmweb that runs nothing yet."""
    return _with_ours(WebMaster(Options(confdir=str(folder)), with_termlog=False))


def console(folder: Path) -> ConsoleMaster:
    return _with_ours(ConsoleMaster(Options(confdir=str(folder))))


def dump(folder: Path) -> DumpMaster:
    return _with_ours(DumpMaster(Options(confdir=str(folder)), with_termlog=False))


def _with_ours[M: Master](master: M) -> M:
    master.addons.add(Ours())
    return master


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(web, ["Notes", "LastCalls"], id="mitmweb"),
        pytest.param(console, ["Notes", "LastCalls"], id="mitmproxy"),
        pytest.param(dump, [], id="mitmdump"),
    ],
)
async def test_where_flows_are_shown_they_get_notes_and_the_oldest_leave(
    make: Callable[[Path], Master], expected: list[str], tmp_path: Path
) -> None:
    found = views.addons(make(tmp_path))
    assert [type(addon).__name__ for addon in found] == expected
    assert "conversation" in contentviews.registry


async def test_mitmwebs_table_shows_the_comment(tmp_path: Path) -> None:
    for given, shown in ((None, True), (["path"], False)):
        master = web(tmp_path)
        if given:
            master.options.update(web_columns=given)
        views.addons(master)
        assert ("comment" in master.options.web_columns) is shown
        assert master.options.web_columns[-1] == ("comment" if shown else "path")


async def test_a_size_that_is_none_stops_the_start(tmp_path: Path) -> None:
    master = web(tmp_path)
    master.options.update(passthrough_view_bytes="much")
    with pytest.raises(ConfigError) as refused:
        views.addons(master)
    assert refused.value.lines == (
        "mitmproxy option passthrough_view_bytes must be a size such as 256m",
    )


def tee(data: bytes, limit: int = 100) -> Tee:
    found = Tee(limit, lambda: 0.0)
    found(data)
    return found


def test_copies_of_what_was_streamed_are_put_into_the_flow() -> None:
    flow = tflow.tflow(resp=True)
    views.keep(flow, tee(b"asked"), tee(b"answered", 4))
    assert flow.response is not None
    assert (flow.request.raw_content, flow.response.raw_content) == (b"asked", b"answ")


def test_what_was_not_streamed_stays_as_it_is() -> None:
    flow = tflow.tflow(resp=True)
    views.keep(flow, None, None)
    assert flow.response is not None
    assert (flow.request.raw_content, flow.response.raw_content) == (b"content", b"message")


def test_without_an_answer_there_is_nothing_to_put_it_into() -> None:
    flow = tflow.tflow()
    views.keep(flow, tee(b"asked"), tee(b""))
    assert flow.response is None


def test_a_websocket_has_its_messages_instead() -> None:
    flow = tflow.twebsocketflow()
    before = flow.response.raw_content
    views.keep(flow, tee(b"one"), tee(b"two"))
    assert flow.response.raw_content == before
