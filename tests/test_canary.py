"""The canary: whatever does not hold inside of mitmproxy is found before anything is served."""

import threading
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from llm_passthrough import canary, heads, http1, intake, layer, lean, seal
from llm_passthrough.canary import KNOWN, SelfTestError, sing
from llm_passthrough.config import Limits
from llm_passthrough.egress import Egress
from llm_passthrough.intake import Reader
from llm_passthrough.layer import GatewayStream
from llm_passthrough.lean.handler import Handler
from llm_passthrough.options import FORCED
from llm_passthrough.talks import Talks
from mitmproxy import version
from mitmproxy.net import tls as net_tls
from mitmproxy.net.http.http1 import assemble
from mitmproxy.options import Options
from mitmproxy.proxy import events
from mitmproxy.proxy.layers import http as layers
from mitmproxy.proxy.layers.http import HttpStream, _http1
from mitmproxy.proxy.layers.http._hooks import HttpResponseHeadersHook
from mitmproxy.proxy.layers.websocket import WebsocketLayer
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.tools.dump import DumpMaster

type Patch = pytest.MonkeyPatch

INSTALL = partial(layer.install, Limits())
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _unsung(monkeypatch: Patch) -> None:
    monkeypatch.setattr(canary, "_HELD", threading.Event())


@pytest.fixture
async def master(tmp_path: Path) -> DumpMaster:
    opts = Options(confdir=str(tmp_path))
    master = DumpMaster(opts, with_termlog=False, with_dumper=False)
    opts.update(**FORCED)
    return master


async def test_it_is_content_with_mitmproxy_as_it_is(master: DumpMaster) -> None:
    sing(master, INSTALL)


async def test_a_process_is_checked_once(master: DumpMaster, monkeypatch: Patch) -> None:
    sing(master, INSTALL)
    monkeypatch.setattr(seal.Seal, "fits", lambda *_: False)
    sing(master, INSTALL)


async def test_it_leaves_no_task_thread_or_flow_behind(master: DumpMaster) -> None:
    seen: list[object] = []

    class Onlooker:
        """An addon of the user's."""

        def requestheaders(self, flow: object) -> None:
            seen.append(flow)

        client_connected = server_connect = requestheaders

    master.addons.add(Onlooker())
    threads = threading.active_count()
    sing(master, INSTALL)
    assert not seen
    assert threading.active_count() == threads


# -- each seam is broken in turn -------------------------------------------------------------------


def _fields_on_the_wire(patch: Patch) -> None:
    def assembled(request: Any) -> bytes:
        return b"".join(b"%s: %s\r\n" % field for field in request.headers.fields)

    patch.setattr(assemble, "_assemble_request_headers", assembled)


def _secret_in_the_flow(patch: Patch) -> None:
    unlock = seal.Sealed.unlock

    def unlocked(self: seal.Sealed, server: Any) -> bool:
        fits = unlock(self, server)
        assert self.seal
        self.fields = self.seal.opened(self.fields)
        return fits

    patch.setattr(seal.Sealed, "unlock", unlocked)


def _nobody_asked(patch: Patch) -> None:
    patch.setattr(layer, "PassthroughSignHook", HttpResponseHeadersHook)


def _dials_anything(patch: Patch) -> None:
    patch.setattr(Egress, "server_connect", lambda self, data: None)


def _hook_ignored(patch: Patch) -> None:
    def forgiven(self: Egress, data: ServerConnectionHookData) -> None:
        connect(self, data)
        data.server.error = None

    connect = Egress.server_connect
    patch.setattr(Egress, "server_connect", forgiven)


def _fits_anything(patch: Patch) -> None:
    patch.setattr(seal.Seal, "fits", lambda self, server: True)


def _no_pin(patch: Patch) -> None:
    def unpinned(self: Egress, data: ServerConnectionHookData) -> None:
        connect(self, data)
        data.server.sni = "else.invalid"

    connect = Egress.server_connect
    patch.setattr(Egress, "server_connect", unpinned)


def _certificates_unverified(patch: Patch) -> None:
    def lenient(**wanted: Any) -> Any:
        return context(**wanted | {"verify": net_tls.Verify.VERIFY_NONE})

    context = net_tls.create_proxy_server_context
    patch.setattr(net_tls, "create_proxy_server_context", lenient)


def _no_answer_of_ours(patch: Patch) -> None:
    patch.setattr(GatewayStream, "answer", lambda self: iter(()))


def _requests_as_they_were(patch: Patch) -> None:
    patch.setattr(intake, "install", lambda place: None)
    patch.setattr(layers, "Http1Server", _http1.Http1Server)


def _answers_as_they_were(patch: Patch) -> None:
    patch.setattr(http1, "install", lambda: None)
    patch.setattr(_http1.Http1Client, "read_headers", http1._read_answer)


def _no_limits(patch: Patch) -> None:
    patch.setattr(Reader, "_wait_for_more", lambda self, size: iter(()))


def _trailers_as_they_were(patch: Patch) -> None:
    patch.setattr(http1, "install", lambda: None)
    patch.setattr(_http1, "ChunkedReader", http1.ChunkedReader)


def _sockets_unheard(patch: Patch) -> None:
    patch.setattr("llm_passthrough.egress.let_finish", lambda *_: None)


def _never_hangs_up(patch: Patch) -> None:
    patch.setattr(Egress, "hang_up", lambda self, flow: None)


def _heads_unjudged(patch: Patch) -> None:
    patch.setattr(heads, "beyond", lambda *_: None)


def _nobody_is_turned_away(patch: Patch) -> None:
    patch.setattr(Reader, "_fail", lambda self, refusal: iter(()))


def _websockets_as_they_were(patch: Patch) -> None:
    patch.setattr(layers.websocket, "WebsocketLayer", WebsocketLayer)


def _upgrades_unasked(patch: Patch) -> None:
    def make(self: GatewayStream) -> Any:
        is_upgrade = "upgrade" in self.flow.request.headers
        return (HttpStream.make_server_connection if is_upgrade else ours)(self)

    ours = GatewayStream.make_server_connection
    patch.setattr(GatewayStream, "make_server_connection", make)


def _talks_unheard(patch: Patch) -> None:
    patch.setattr(Talks, "websocket_end", lambda self, flow: None)


BROKEN = [
    pytest.param(_fields_on_the_wire, "a key does not reach", id="headers are sent otherwise"),
    pytest.param(_secret_in_the_flow, "shows elsewhere", id="the flow has the key"),
    pytest.param(_nobody_asked, "a key does not reach", id="the gateway is not asked"),
    pytest.param(_dials_anything, "not configured", id="no allow-list"),
    pytest.param(_hook_ignored, "not configured", id="mitmproxy ignores the allow-list"),
    pytest.param(_fits_anything, "not sealed for", id="a seal opens for any connection"),
    pytest.param(_no_pin, "a name or a certificate", id="another name in the handshake"),
    pytest.param(_certificates_unverified, "a name or a certificate", id="any certificate"),
    pytest.param(_no_answer_of_ours, "not refused", id="no answer of ours"),
    pytest.param(_requests_as_they_were, "HTTP/1", id="empty lines before a request"),
    pytest.param(_answers_as_they_were, "HTTP/1", id="an interim answer"),
    pytest.param(_trailers_as_they_were, "HTTP/1", id="trailers"),
    pytest.param(_no_limits, "without an end", id="a head without end"),
    pytest.param(_heads_unjudged, "follows a refused head", id="a crowded head is sent on"),
    pytest.param(_nobody_is_turned_away, "follows a refused head", id="it gets no answer"),
    pytest.param(_websockets_as_they_were, "a WebSocket", id="a WebSocket cannot be closed"),
    pytest.param(_upgrades_unasked, "a WebSocket", id="an upgrade goes past the seal"),
    pytest.param(_talks_unheard, "a WebSocket", id="the end of a WebSocket is not told"),
    pytest.param(_sockets_unheard, "breaks off", id="a reset is not heard"),
    pytest.param(_never_hangs_up, "a deadline", id="nothing is cancelled"),
]


@pytest.mark.parametrize(("breaks", "words"), BROKEN)
async def test_a_seam_that_does_not_hold_is_named(
    master: DumpMaster, monkeypatch: Patch, breaks: Callable[[Patch], None], words: str
) -> None:
    INSTALL()
    breaks(monkeypatch)
    monkeypatch.setattr(canary, "_PATIENCE", 1.0)
    with pytest.raises(SelfTestError) as told:
        sing(master, lambda: None)
    assert words in str(told.value)
    assert version.VERSION in str(told.value)
    assert "\n" not in str(told.value)


# -- what `serve` puts in the place of mitmproxy's -------------------------------------------------


@pytest.fixture
async def lean_master(tmp_path: Path) -> lean.Lean:
    opts = Options(confdir=str(tmp_path))
    master = lean.Lean(opts)
    opts.update(**{name: value for name, value in FORCED.items() if name in opts})
    return master


async def test_it_is_content_with_a_lean_master_as_it_is(lean_master: lean.Lean) -> None:
    sing(lean_master, INSTALL)


def _hooks_uncalled(self: Handler, hook: Any) -> None:
    if hook.blocking:
        self._events.append(events.HookCompleted(hook))


def _unordered(self: Handler) -> None:
    self._out.reverse()
    write(self)


write = Handler._write


@pytest.mark.parametrize(
    ("name", "broken", "words"),
    [
        pytest.param(
            "_start_hook", _hooks_uncalled, "a key does not reach", id="no hook is called"
        ),
        pytest.param("_write", lambda self: None, "a key does not reach", id="nothing is written"),
        pytest.param("_write", _unordered, "a key does not reach", id="pieces change places"),
        pytest.param("_wake", None, "without an end", id="nobody is woken"),
    ],
)
async def test_a_handler_of_serves_that_does_not_hold_stops_the_start(
    lean_master: lean.Lean, monkeypatch: Patch, name: str, broken: Any, words: str
) -> None:
    INSTALL()
    monkeypatch.setattr(Handler, name, broken)
    monkeypatch.setattr(canary, "_PATIENCE", 1.0)
    with pytest.raises(SelfTestError, match=words):
        sing(lean_master, lambda: None)


async def test_seams_that_cannot_be_put_in_stop_the_start(master: DumpMaster) -> None:
    def install() -> None:
        raise AttributeError("_http1 has no ChunkedReader")

    with pytest.raises(SelfTestError, match=r"could not be made ready .AttributeError at install"):
        sing(master, install)


@pytest.mark.parametrize(
    ("number", "held"),
    [
        pytest.param("12.2.0", True, id="the first that we know"),
        pytest.param("12.99.1", True, id="a later one of the same kind"),
        pytest.param("12.3.0.dev", True, id="one that is being made"),
        pytest.param("12.1.2", False, id="too old"),
        pytest.param("13.0.0", False, id="the next one"),
    ],
)
async def test_only_known_versions_are_run_with(
    master: DumpMaster, monkeypatch: Patch, number: str, held: bool
) -> None:
    monkeypatch.setattr(version, "VERSION", number)
    canary._HELD.set()
    if held:
        sing(master, INSTALL)
    else:
        with pytest.raises(SelfTestError, match=f"{number} is not supported; install one >=12.2"):
            sing(master, INSTALL)


def test_the_known_versions_are_those_that_are_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    first, beyond = (".".join(map(str, numbers)) for numbers in KNOWN)
    assert f"mitmproxy>={first},<{beyond}" in project["dependencies"]
