"""The lean master does what mitmproxy's does; the live tests run against it too."""

import gc
import logging
import platform
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from llm_passthrough import lean
from llm_passthrough.cli import launch
from llm_passthrough.lean import handler, memory, messages
from llm_passthrough.lean.handler import Handler
from llm_passthrough.lean.master import Lists
from llm_passthrough.lean.plain import Plain
from mitmproxy import addonmanager, connection, exceptions, flow, hooks, http
from mitmproxy.net.http import url
from mitmproxy.options import Options
from mitmproxy.proxy import mode_servers, server
from mitmproxy.proxy.layers.http import HttpRequestHook
from mitmproxy.test import tflow
from mitmproxy.tools.dump import DumpMaster


@pytest.fixture
def _as_it_was() -> Iterator[None]:
    """What is replaced for a whole process is put back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mode_servers, "ProxyConnectionHandler", mode_servers.ProxyConnectionHandler)
        for name in ("__init__", "get_all", "get", "__contains__"):
            patch.setattr(http.Headers, name, getattr(http.Headers, name))
        patch.setattr(url, "parse_authority", url.parse_authority)
        patch.setattr(flow, "uuid", flow.uuid)
        patch.setattr(connection, "uuid", connection.uuid)
        patch.setattr(http.MessageData, "__post_init__", http.MessageData.__post_init__)
        root = logging.getLogger()
        before = list(root.handlers)
        yield
        root.handlers[:] = before


def hastened() -> Any:
    """A mitmdump as it is when the gateway's script has been loaded."""
    master = DumpMaster(Options(), with_termlog=False, with_dumper=False)
    lean.hasten(master)
    return master


@pytest.fixture(params=[lambda: lean.Lean(Options()), hastened], ids=["serve", "mitmdump"])
async def master(_as_it_was: None, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """What it freezes stays frozen: with all that was imported, each collection takes a second."""
    before = gc.get_threshold()
    yield request.param()
    gc.set_threshold(*before)


# -- which master runs -----------------------------------------------------------------------------


def test_this_mitmproxy_is_as_it_is_known() -> None:
    assert lean.changed() is None


@pytest.mark.parametrize(
    ("named", "kind"),
    [
        pytest.param(set(), lean.Lean, id="nothing is asked for"),
        pytest.param({"confdir", "tcp_timeout", "passthrough_config"}, lean.Lean, id="it has them"),
        pytest.param({"scripts"}, DumpMaster, id="scripts"),
        pytest.param({"confdir", "save_stream_file"}, DumpMaster, id="saved flows"),
        pytest.param({"nonsense"}, DumpMaster, id="nobody has it: mitmproxy says so"),
    ],
)
@pytest.mark.usefixtures("_as_it_was")
async def test_the_full_set_of_addons_comes_where_an_option_needs_it(
    named: set[str], kind: type
) -> None:
    before = gc.get_threshold()
    made = launch.master_of("serve", Options(), named)
    gc.set_threshold(*before)
    assert type(made) is kind
    assert mode_servers.ProxyConnectionHandler is Handler
    assert isinstance(made.addons, Lists)


@pytest.mark.usefixtures("_as_it_was")
async def test_another_mitmproxy_is_left_as_it_is_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def server_event() -> None:
        something_new()  # type: ignore[name-defined]  # noqa: F821

    (_, names), *rest = lean._KNOWN
    monkeypatch.setattr(lean, "_KNOWN", ((server_event, names), *rest))
    theirs = mode_servers.ProxyConnectionHandler
    assert type(launch.master_of("serve", Options(), set())) is DumpMaster
    assert mode_servers.ProxyConnectionHandler is theirs
    assert "server_event" in caplog.text


def test_a_function_that_is_gone_is_a_change_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "_KNOWN", ((len, ""),))
    assert lean.changed() == "len"


# -- hooks -----------------------------------------------------------------------------------------


class Addon:
    """Notes what it is called with."""

    def __init__(self, name: str, seen: list[str], error: Exception | None = None) -> None:
        self.name = name
        self._seen, self._error = seen, error

    def request(self, flow: http.HTTPFlow) -> None:
        self._seen.append(self.name)
        if self._error:
            raise self._error


class Later(Addon):
    async def request(self, flow: http.HTTPFlow) -> None:  # type: ignore[override]
        super().request(flow)


class Nest(Addon):
    def __init__(self, name: str, seen: list[str], *addons: Addon) -> None:
        super().__init__(name, seen)
        self.addons = addons


def names(seen: list[str]) -> list[Addon]:
    return [
        Addon("a", seen),
        Later("b", seen),
        Nest("c", seen, Addon("d", seen), Later("e", seen)),
    ]


async def test_hooks_are_called_in_the_order_in_which_mitmproxy_calls_them(
    master: lean.Lean,
) -> None:
    seen: list[str] = []
    theirs: list[str] = []
    master.addons.add(*names(seen))
    other = addonmanager.AddonManager(master)
    other.add(*names(theirs))
    event = HttpRequestHook(tflow.tflow())
    await master.addons.handle_lifecycle(event)
    await other.handle_lifecycle(event)
    assert seen == theirs == list("abcde")


@pytest.mark.parametrize(
    ("change", "right"),
    [
        pytest.param(lambda m, more: m.add(more), "abcdex", id="added"),
        pytest.param(lambda m, more: setattr(m, "chain", [more, *m.chain]), "xabcde", id="first"),
        pytest.param(lambda m, more: m.remove(m.get("a")), "bcde", id="removed"),
        pytest.param(lambda m, more: setattr(m, "chain", []), "", id="cleared"),
    ],
)
async def test_the_lists_follow_the_addons(
    master: lean.Lean, change: Callable[[Any, Addon], None], right: str
) -> None:
    seen: list[str] = []
    master.addons.add(*names(seen))
    event = HttpRequestHook(tflow.tflow())
    await master.addons.trigger_event(event)
    seen.clear()
    change(master.addons, Addon("x", seen))
    await master.addons.trigger_event(event)
    assert "".join(seen) == right


@pytest.mark.parametrize(
    ("error", "right"),
    [
        pytest.param(ValueError("oh"), ["a", "b"], id="an error is told, and the next is called"),
        pytest.param(exceptions.AddonHalt(), ["a"], id="who halts is the last"),
    ],
)
async def test_what_an_addon_raises_is_taken_as_mitmproxy_takes_it(
    master: lean.Lean, error: Exception, right: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    master.addons.add(Addon("a", seen, error), Addon("b", seen))
    await master.addons.trigger_event(HttpRequestHook(tflow.tflow()))
    assert seen == right
    assert ("Addon error: oh" in caplog.text) is (len(right) == 2)


async def test_what_a_hook_returns_is_of_no_interest(
    master: lean.Lean, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    class Answers:
        def request(self, flow: http.HTTPFlow) -> bool:
            return True

    master.addons.add(Answers(), Addon("b", seen))
    event = HttpRequestHook(tflow.tflow())
    await master.addons.trigger_event(event)
    rest = iter(master.addons.of("request"))
    while handler._call(rest, event.flow) is not None:
        pass
    assert seen == ["b", "b"]
    assert "await" not in caplog.text


async def test_what_a_script_loads_later_is_called_too(master: lean.Lean) -> None:
    """Its addons stand below it, in no list of mitmproxy's."""
    seen: list[str] = []
    event = HttpRequestHook(tflow.tflow())
    script = Nest("script", seen)
    master.addons.add(script)
    await master.addons.trigger_event(event)
    later = master.addons.register(Addon("later", seen))
    script.addons = (later,)
    await master.addons.trigger_event(event)
    master.addons.remove(later)
    script.addons = ()
    await master.addons.trigger_event(event)
    assert seen == ["script", "script", "later", "script"]


async def test_who_asks_is_told_of_a_flows_changes(master: lean.Lean) -> None:
    told: list[object] = []

    class Asks:
        def update(self, flows: list[object]) -> None:
            told.extend(flows)

    changed = tflow.tflow()
    master.addons.add(Asks())
    await master.addons.handle_lifecycle(HttpRequestHook(changed))
    assert told == [changed]


async def test_what_is_there_at_the_start_is_not_looked_through_again(master: lean.Lean) -> None:
    await master.running()
    assert gc.is_tracked(master)
    assert not any(one is master for one in gc.get_objects())


# -- options ---------------------------------------------------------------------------------------


def test_plain_options_are_the_present_ones() -> None:
    options = Options()
    plain = Plain(options)
    assert plain.http2 is options.http2 is True
    options.update(http2=False, allow_hosts=["x"])
    assert plain.http2 is False
    assert plain.allow_hosts == ["x"]
    options.add_option("later", str, "first", "An option that comes later.")
    assert plain.later == "first"
    with pytest.raises(AttributeError):
        _ = plain.nothing


def test_a_change_that_is_taken_back_is_taken_back_here_too() -> None:
    options = Options()
    plain = Plain(options)

    def refuse(updated: set[str]) -> None:
        if not options.http2:
            raise exceptions.OptionsError("no")

    options.changed.connect(refuse)
    with pytest.raises(exceptions.OptionsError):
        options.update(http2=False)
    assert plain.http2 is True


# -- headers ---------------------------------------------------------------------------------------

FIELDS = ((b"Host", b"a"), (b"x-A", b"1"), (b"X-a", b"2"), (b"Accept", b"\xff"), (b"\xc3\xa9", b""))


@pytest.mark.parametrize("name", ["host", "HOST", "X-A", b"x-a", "accept", "é", "absent", "hos"])
@pytest.mark.parametrize("fields", [FIELDS, ()], ids=["fields", "none"])
def test_headers_are_looked_up_as_mitmproxy_does(
    name: str | bytes, fields: tuple[tuple[bytes, bytes], ...]
) -> None:
    headers = http.Headers(fields)
    assert messages._all(headers, name) == headers.get_all(name)
    assert messages._get(headers, name, "none") == headers.get(name, "none")
    assert messages._has(headers, name) is (name in headers)


@pytest.mark.usefixtures("_as_it_was")
def test_headers_are_made_as_mitmproxy_makes_them() -> None:
    pairs: list[Any] = [[b"A", b"1"], (b"b", b"2")]
    right = http.Headers(pairs).fields, http.Headers([(b"A", b"1")], x_y="z").fields
    lean.install()
    assert (http.Headers(pairs).fields, http.Headers([(b"A", b"1")], x_y="z").fields) == right
    assert http.Headers().fields == ()


@pytest.mark.parametrize(
    "authority",
    ["localhost:8080", "example.com", "[::1]:1", "a b", "x" * 300, b"h:1", ":", "h:99999", ""],
)
@pytest.mark.parametrize("check", [True, False])
def test_an_authority_is_read_as_mitmproxy_reads_it(authority: str | bytes, check: bool) -> None:
    def read(how: Callable[..., object]) -> object:
        try:
            return how(authority, check)
        except ValueError as error:
            return str(error)

    for _ in range(2):
        assert read(messages._parsed_authority) == read(messages._authority)


def test_ids_are_others_each_time() -> None:
    ids = {messages._new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(id_) == 32 for id_ in ids)


def test_hooks_of_connections_are_about_one_thing() -> None:
    """handler.py gives a hook that one thing."""
    for name, kind in hooks.all_hooks.items():
        if issubclass(kind, server.commands.StartHook):
            assert len(kind(None).args()) == 1, name  # type: ignore[call-arg]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_memory_that_one_body_needed_is_there_for_the_next() -> None:
    memory.keep()

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            bytearray(3 << 20)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 2 * (3 << 20) // resource.getpagesize()
