"""Attaching: the gateway stands first in a real mitmproxy, or mitmproxy does not run."""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from llm_passthrough import said
from llm_passthrough.attach import Life, attach
from llm_passthrough.egress import Egress
from llm_passthrough.gateway import Gateway
from llm_passthrough.options import FORCED
from llm_passthrough.uploads import UploadStream
from mitmproxy import exceptions, http
from mitmproxy.options import Options
from mitmproxy.test import tflow
from mitmproxy.tools.dump import DumpMaster
from mitmproxy.tools.web.master import WebMaster

KEY = "sk-REAL-KEY-0123456789"
CHAT = "/openai_passthrough/v1/chat/completions"


@pytest.fixture(autouse=True)
def _says_as_it_did() -> Iterator[None]:
    """What a gateway changes for its whole process."""
    factory, hooks = logging.getLogRecordFactory(), (sys.excepthook, sys.unraisablehook)
    in_threads = threading.excepthook
    yield
    logging.setLogRecordFactory(factory)
    sys.excepthook, sys.unraisablehook = hooks
    threading.excepthook = in_threads
    said.knows(str)


@pytest.fixture(autouse=True)
def _buffer_as_it_was() -> Iterator[None]:
    buffered = UploadStream.request_buffer
    yield
    UploadStream.request_buffer = buffered


class Place:
    """A configuration file and the log that it names."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "gateway.yaml"
        self.log = folder / "log" / "records.jsonl"
        self.confdir = folder / "mitm"

    def write(self, **document: Any) -> None:
        given: dict[str, Any] = {
            "providers": {"openai": {"keys": [{"name": "main", "value": KEY}]}},
            "log": {"path": str(self.log)},
        }
        self.file.write_text(json.dumps(given | document))

    @property
    def env(self) -> Mapping[str, str]:
        return {"LLM_PASSTHROUGH_CONFIG": str(self.file)}

    def master(self, **options: Any) -> DumpMaster:
        """A mitmproxy that has all of its own addons and runs nothing yet."""
        opts = Options(confdir=str(self.confdir))
        master = DumpMaster(opts, with_termlog=False, with_dumper=False)
        opts.update(**options)
        return master


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.write()
    return place


@contextmanager
def attached(place: Place, **options: Any) -> Iterator[tuple[DumpMaster, Life, Gateway]]:
    """A gateway in a master, whose writer ends with the block."""
    master = place.master(**options)
    attach(master, place.env)
    life, gateway = master.addons.chain[:2]
    assert isinstance(life, Life)
    assert isinstance(gateway, Gateway)
    try:
        yield master, life, gateway
    finally:
        gateway.writer.close()


async def test_the_gateway_stands_before_every_other_addon(place: Place) -> None:
    with attached(place) as (master, _, gateway):
        kinds = [type(addon) for addon in master.addons.chain]
        assert kinds[:3] == [Life, Gateway, Egress]
        assert len(kinds) > 20
        assert master.addons.chain[2:4] == [gateway.egress, gateway.talks]


async def test_a_hang_up_before_the_port_is_open_is_a_reload_too(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with attached(place):
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.01)
    assert "the configuration was read again" in caplog.text


async def test_a_second_attach_leaves_the_first_gateway_alone(place: Place) -> None:
    with attached(place) as (master, _, _):
        before = list(master.addons.chain)
        attach(master, place.env)
        assert master.addons.chain == before


async def test_mitmproxys_options_are_set_to_what_is_safe(place: Place) -> None:
    with attached(place, stream_large_bodies="1m", http2=True) as (master, _, _):
        for name, value in FORCED.items():
            assert getattr(master.options, name) == value
        assert master.options.listen_host == "127.0.0.1"
        assert master.options.listen_port == 8080


@pytest.mark.parametrize(
    ("options", "word"),
    [
        pytest.param({"ssl_insecure": True}, "ssl_insecure", id="no certificates"),
        pytest.param({"validate_inbound_headers": False}, "validate_inbound", id="smuggling"),
        pytest.param({"mode": ["upstream:http://proxy.test:1"]}, "mode", id="another proxy"),
    ],
)
async def test_unsafe_options_stop_the_start(
    place: Place, options: dict[str, Any], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    master = place.master(**options)
    with pytest.raises(SystemExit) as ended:
        attach(master, place.env)
    assert ended.value.code == 2
    assert word in capsys.readouterr().err
    assert not any(isinstance(addon, Gateway) for addon in master.addons.chain)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        pytest.param({"ssl_insecure": True}, "ssl_insecure", id="no certificates"),
        pytest.param({"http2": True}, "http2", id="what the gateway has set"),
        pytest.param({"listen_host": "0.0.0.0"}, "listen_host", id="all interfaces"),
    ],
)
async def test_unsafe_options_are_refused_at_run_time_too(
    place: Place, options: dict[str, Any], word: str
) -> None:
    with attached(place) as (master, _, _):
        before = {name: getattr(master.options, name) for name in options}
        with pytest.raises(exceptions.OptionsError, match=word):
            master.options.update(**options)
        assert {name: getattr(master.options, name) for name in options} == before


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param({"listen": {"port": 99_999}}, ["listen.port"], id="a port"),
        pytest.param(
            {"providers": {"openai": {"keys": [{"value": f"{KEY}\n"}]}}, "limits": {"x": 1}},
            ["limits.x"],
            id="an unknown option",
        ),
        pytest.param({"listen": {"host": "0.0.0.0"}}, ["listen.host"], id="all interfaces"),
    ],
)
async def test_a_wrong_configuration_stops_the_start_with_a_line_a_fault(
    place: Place, document: dict[str, Any], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    place.write(**document)
    with pytest.raises(SystemExit) as ended:
        attach(place.master(), place.env)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert all(line.startswith("llm-passthrough: ") for line in said.splitlines())
    assert all(word in said for word in words)
    assert KEY not in said


async def test_a_missing_file_stops_the_start(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.file.unlink()
    with pytest.raises(SystemExit) as ended:
        attach(place.master(), place.env)
    assert ended.value.code == 2
    assert "gateway.yaml" in capsys.readouterr().err


async def test_a_log_that_cannot_be_had_stops_the_start(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.log.parent.write_text("a file where a folder should be")
    with pytest.raises(SystemExit) as ended:
        attach(place.master(), place.env)
    assert ended.value.code == 2
    assert "log" in capsys.readouterr().err


async def test_the_limit_for_buffered_requests_is_the_configurations(place: Place) -> None:
    place.write(limits={"request_buffer": 123})
    with attached(place):
        assert UploadStream.request_buffer == 123


@pytest.mark.parametrize(
    ("early", "asked", "port"),
    [
        pytest.param(True, None, 9123, id="the file's"),
        pytest.param(True, 9456, 9456, id="the one that was asked for"),
        pytest.param(False, None, 8081, id="the one that is open already"),
    ],
)
async def test_where_mitmwebs_page_is_stands_in_the_file_too(
    place: Place,
    caplog: pytest.LogCaptureFixture,
    early: bool,
    asked: int | None,
    port: int,
) -> None:
    place.write(listen={"web_port": 9123})
    master = WebMaster(Options(confdir=str(place.confdir)), with_termlog=False)
    if asked is not None:
        master.options.update(web_port=asked)
    master.options.update_defer(passthrough_config=str(place.file))
    attach(master, {}, early=early)
    life = master.addons.get(Life.name)
    assert master.options.web_port == port
    assert life.reloading._gateway.parts.config.listen.web_port == port
    assert ("listen.web_port: mitmweb opened its page" in caplog.text) is not early
    await life.done()


@pytest.mark.parametrize(("workers", "warns"), [(2, True), ("auto", True), (1, False)])
async def test_several_workers_are_no_wish_to_a_mitmproxy_of_its_own(
    place: Place, caplog: pytest.LogCaptureFixture, workers: object, warns: bool
) -> None:
    place.write(listen={"workers": workers})
    master = place.master()
    attach(master, place.env)
    assert ("listen.workers: this is one process" in caplog.text) is warns
    await master.addons.get(Life.name).done()


# -- reload ---------------------------------------------------------------------------------------


async def test_a_reload_swaps_all_parts_at_once(place: Place) -> None:
    with attached(place) as (_, life, gateway):
        before = gateway.parts
        route = {"prefix": "/own", "upstream": "https://own.test"}
        place.write(routes=[route], limits={"request_buffer": 321})
        assert life.reloading.reload() is True
        assert gateway.parts is not before
        assert "/own" in gateway.parts.routes.names
        assert UploadStream.request_buffer == 321


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="no YAML"),
        pytest.param('{"limits": {"x": 1}}', id="an unknown option"),
        pytest.param(
            json.dumps({"providers": {"openai": {"keys": [{"value": KEY, "weight": -1}]}}}),
            id="a wrong value beside a key",
        ),
        pytest.param(None, id="no file"),
    ],
)
async def test_a_reload_of_something_wrong_changes_nothing_and_says_why(
    place: Place, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with attached(place) as (_, life, gateway):
        before = gateway.parts
        if text is None:
            place.file.unlink()
        else:
            place.file.write_text(text)
        assert life.reloading.reload() is False
        assert gateway.parts is before
        assert "was not changed" in caplog.text
        assert KEY not in caplog.text


async def test_where_the_gateway_listens_stays_as_it_is_at_a_reload(place: Place) -> None:
    with attached(place, listen_port=18_080) as (master, life, gateway):
        place.write(listen={"port": 9})
        assert life.reloading.reload() is True
        assert gateway.parts.config.listen.port == 18_080
        assert master.options.listen_port == 18_080


async def test_a_new_key_is_used_and_the_old_one_stays_secret_after_a_reload(place: Place) -> None:
    with attached(place) as (_, life, gateway):
        new = "sk-NEW-KEY-9876543210"
        place.write(providers={"openai": {"keys": [{"name": "new", "value": new}]}})
        assert life.reloading.reload() is True
        flow = await _open(gateway)
        await gateway.passthrough_sign(flow)
        assert flow.request.headers["authorization"] == "Bearer [openai/new]"
        for secret in (new, KEY):
            assert secret not in gateway.parts.redactor(f"a {secret} b")


# -- the end --------------------------------------------------------------------------------------


async def _open(gateway: Gateway) -> http.HTTPFlow:
    """A request that was admitted."""
    flow = tflow.tflow()
    flow.client_conn.timestamp_tls_setup = None
    flow.request.data.host, flow.request.data.path = "localhost", CHAT.encode()
    flow.request.data.method = b"POST"
    flow.request.data.headers = http.Headers(host="localhost")
    await gateway.requestheaders(flow)
    assert flow.response is None
    return flow


async def test_at_the_end_what_is_open_is_written(place: Place) -> None:
    place.write(shutdown={"drain_seconds": 0})
    with attached(place) as (_, life, gateway):
        flow = await _open(gateway)
        await life.done()
        (line,) = place.log.read_text().splitlines()
        assert json.loads(line)["error"]["type"] == "stopped"
        assert flow not in gateway.live
        await life.done()  # mitmproxy may end twice
    assert len(place.log.read_text().splitlines()) == 1
