"""Runs a mitmweb without a gateway and without a port for clients: it shows, and sends nothing."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import typer
from mitmproxy import ctx, exceptions, flow, http
from mitmproxy import types as mitmproxy_types
from mitmproxy.addonmanager import Loader
from mitmproxy.options import Options
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.tools.web.app import APIError
from mitmproxy.tools.web.master import WebMaster

from llm_passthrough import options, pages, views
from llm_passthrough.config import Log
from llm_passthrough.errors import ConfigError
from llm_passthrough.options import VIEW_BYTES, VIEW_FLOWS
from llm_passthrough.views.last import limits

__all__ = ["VIEW_FLOWS", "Desk", "run"]

_NOTHING_IS_SENT = "nothing is sent from here; `llm-passthrough replay` sends a call again"
# 8081 is where a gateway's mitmweb usually is.
_PORTS = range(8082, 8182)
_SENDERS = ("clientplayback",)

type Flows = Callable[[int], list[http.HTTPFlow]]


def run(
    flows: Flows, log: Log | None, values: dict[str, object], settings: list[str], port: int | None
) -> None:
    """Show flows until stopped: `flows` is given how many bytes of them may be held (0: any).

    `log` is what the pages read, `values` and `settings` (NAME=VALUE) are options of mitmproxy's.
    Ends with exit code 2 for what is wrong in the options, 1 when the port cannot be had.
    """
    try:
        asyncio.run(_main(flows, log, values, settings, port))
    except (exceptions.OptionsError, ConfigError) as error:
        typer.echo(f"llm-passthrough: {error}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"llm-passthrough: {error.strerror or error}", err=True)
        raise typer.Exit(1) from None


async def _main(
    flows: Flows, log: Log | None, values: dict[str, object], settings: list[str], port: int | None
) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    for noisy in ("tornado", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    master = WebMaster(Options())
    desk = Desk(log)
    master.addons.register(desk)
    master.options.update(termlog_verbosity="warn", server=False)
    master.options.set(*settings, defer=True)
    master.options.update(**values)
    if port is not None or not master.options.has_changed("web_port"):
        master.options.update(web_port=port or _free_port())
    if faults := options.unsafe(master.options) + _serving(master.options):
        raise ConfigError(*faults)
    # In the place of mitmproxy's own, which would queue the flow and take its answer away.
    master.commands.add("replay.client", desk.replay)
    master.commands.add("replay.client.file", desk.replay_file)
    views.addons(master)
    last = views.LastCalls(master.view, lambda _: True)
    master.addons.register(last)
    others = [one for one in master.addons.chain if _name(one) not in _SENDERS]
    master.addons.chain = [desk, last, *others]
    desk.flows = flows(limits()[1])
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, master.shutdown)
    await master.run()


class Desk:
    """The addon that brings the flows, and keeps it so that nothing is sent."""

    name = "llm_passthrough_desk"

    def __init__(self, log: Log | None) -> None:
        self.flows: list[http.HTTPFlow] = []
        self._log = log

    def load(self, loader: Loader) -> None:
        """Options of ours that are about looking."""
        for option in options.OWN:
            if option[0] in (VIEW_FLOWS, VIEW_BYTES):
                loader.add_option(*option)

    def configure(self, updated: set[str]) -> None:
        """Refuse, at run time too, what would open a port or be unsafe."""
        if faults := options.unsafe(ctx.options) + _serving(ctx.options):
            raise exceptions.OptionsError("; ".join(faults))

    def running(self) -> None:
        """Say where to look, and bring what there is to see."""
        master: Any = ctx.master
        # Past mitmproxy's hooks, which would see a thousand old calls as new ones, and take
        # milliseconds for each.
        master.view.add(self.flows)
        self.flows = []
        calls = pages.install(master, self._log_now) if self._log else None
        print(f"mitmweb: {master.web_url}", flush=True)
        if calls:
            print(f"calls: {calls}", flush=True)

    def server_connect(self, data: ServerConnectionHookData) -> None:
        """The last door: whatever wants to connect may not."""
        data.server.error = _NOTHING_IS_SENT

    def replay(self, flows: Sequence[flow.Flow]) -> None:
        """Refused: there are no keys here."""
        raise APIError(403, _NOTHING_IS_SENT)

    def replay_file(self, path: mitmproxy_types.Path) -> None:
        """Refused: there are no keys here."""
        raise APIError(403, _NOTHING_IS_SENT)

    def _log_now(self) -> Log:
        assert self._log is not None
        return self._log


def _serving(opts: Any) -> list[str]:
    return ["mitmproxy option server must be false: this is no gateway"] if opts.server else []


def _name(addon: Any) -> str:
    return str(getattr(addon, "name", type(addon).__name__.lower()))


def _free_port() -> int:
    """The first port for mitmweb that nobody has."""
    for port in _PORTS:
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    return _PORTS.start
