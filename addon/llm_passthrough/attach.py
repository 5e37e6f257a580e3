"""Puts the gateway into a running mitmproxy, whichever way that was started.

The gateway stands first in mitmproxy's own list of addons, not below a script: it sees a request
before anything that shows or saves it, and it stays when mitmproxy reloads or drops the script.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader

from llm_passthrough import (
    canary,
    descriptors,
    layer,
    options,
    pages,
    said,
    shutdown,
    spent,
    startup,
    transport,
    views,
)
from llm_passthrough.allowance import Memory
from llm_passthrough.build import Parts, build, writer_of
from llm_passthrough.bus import Bus
from llm_passthrough.clients import is_local, is_loopback
from llm_passthrough.errors import ConfigError
from llm_passthrough.gateway import Gateway
from llm_passthrough.guard import where
from llm_passthrough.intake import Reader
from llm_passthrough.reloading import Reloading
from llm_passthrough.sinks.writer import SWITCH_INTERVAL
from llm_passthrough.startup import Startup
from llm_passthrough.terminal import Terminal
from llm_passthrough.workers import seat as seats
from llm_passthrough.workers.channel import AGAIN, CUT, DRAIN, LOST, RELOAD
from llm_passthrough.workers.pool import Pool
from llm_passthrough.workers.port import BACKLOG
from llm_passthrough.workers.seat import Seat
from llm_passthrough.workers.share import Share, life_of

_LOG = logging.getLogger(__name__)
_EXIT_CONFIG = 2


def attach(
    master: Any,
    env: Mapping[str, str] = os.environ,
    *,
    early: bool = False,
    seat: Seat | None = None,
) -> None:
    """Make the gateway part of `master`; a second call leaves the first one's gateway alone.

    `early`: mitmweb has not opened its page yet, so that the configuration may say where.
    `seat`: this is one worker of several.
    Ends the process with exit code 2, after one line a fault, when the configuration is wrong.
    """
    if master.addons.get(Life.name) is not None:
        return
    life = _attended(master, Life(env, seat))
    with _faults_end():
        gateway = life.start(master, early)
    first = (gateway, gateway.egress, gateway.talks, *life.views)
    last = gateway.resumption  # behind the addon that makes the TLS connections
    for addon in (*first, last):
        master.addons.register(addon)
    # A new list: mitmproxy may be walking over the old one.
    master.addons.chain = [life, *first, *master.addons.chain, last]


def rehearse(master: Any, env: Mapping[str, str] = os.environ) -> "tuple[Life, Parts]":
    """All that a start checks, and nothing that stays: for the parent of workers.

    `master` runs nothing. Ends the process as `attach` does.
    """
    life = _attended(master, Life(env))
    with _faults_end():
        return life, life.prepare(master, early=True)


def _attended(master: Any, life: "Life") -> "Life":
    said.install()
    said.attend()
    master.addons.register(life)
    return life


@contextlib.contextmanager
def _faults_end() -> Iterator[None]:
    """What is wrong ends the process, after one line a fault."""
    try:
        yield
    except ConfigError as error:
        for line in error.lines:
            print(f"llm-passthrough: {line}", file=sys.stderr)
        raise SystemExit(_EXIT_CONFIG) from None
    except canary.SelfTestError as error:
        print(f"llm-passthrough: {error}", file=sys.stderr)
        raise SystemExit(_EXIT_CONFIG) from None
    except Exception as error:  # noqa: BLE001 - a proxy without its gateway must not go on
        print(f"llm-passthrough: cannot start: {where(error)}", file=sys.stderr)
        raise SystemExit(_EXIT_CONFIG) from None


class Life:
    """The addon that starts and ends a gateway, and keeps mitmproxy's options safe."""

    name = "llm_passthrough"

    def __init__(self, env: Mapping[str, str], seat: Seat | None = None) -> None:
        self._env = env
        self._seat = seat
        self._share: Share | None = None
        self._bus: Bus | None = None
        self._cut = asyncio.Event()
        self._begun: Startup | None = None
        self._gateway: Gateway | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._terminal = Terminal()

    def load(self, loader: Loader) -> None:
        """Our own options of mitmproxy."""
        for option in options.OWN:
            loader.add_option(*option)

    def prepare(self, master: Any, early: bool = False) -> Parts:
        """Read the configuration, make its parts, put the seams in and check them.

        Raises ConfigError and SelfTestError.
        """
        if faults := options.unsafe(master.options):
            raise ConfigError(*faults)
        transport.install()
        self._begun = begun = startup.read(master.options, self._env, early=early)
        parts = build(begun.settings, self._env, master.options.passthrough_config or "environment")
        said.knows(parts.redactor)
        master.options.update(**options.forced(master.options))
        canary.sing(master, partial(layer.install, begun.settings.limits))
        if self._seat is None:  # a worker's parent has said so
            for warning in (*begun.warnings, *parts.warnings):
                _LOG.warning("%s", warning)
        return parts

    def start(self, master: Any, early: bool = False) -> Gateway:
        """Make the gateway, set mitmproxy's options. Raises ConfigError and SelfTestError."""
        parts, seat = self.prepare(master, early), self._seat
        assert self._begun is not None
        settings = parts.config
        shown = self._terminal.shown(master, settings.console)
        self.views = views.addons(master)
        past = partial(spent.before, settings.log)
        shared = seat is not None or parts.share is not None
        pool = Pool(life_of(seat), past, seat.began if seat else None) if shared else None
        allowance = pool or Memory(past)
        number = 1 if seat is None else seat.number
        writer = writer_of(parts, shown, *self.views[:1], spent.Meter(allowance), worker=number)
        writer.start()
        sys.setswitchinterval(SWITCH_INTERVAL)
        if getattr(master.options, "flow_detail", 0) == 1:
            master.options.update(flow_detail=0)  # our own line says it
        self._gateway = gateway = Gateway(parts, writer, allowance=allowance)
        Reader.terms = gateway.connections
        gateway.connections.room = room = descriptors.connections()
        if room is not None and room < settings.limits.connections and number == 1:
            text = "limits.connections: open files are enough for %d only; see ulimit -n"
            _LOG.warning(text, room)
        self.reloading = Reloading(gateway, self._begun.file, self._begun.asked, self._env)
        if pool is not None:
            self._share = Share(seat, gateway, pool)
            self._bus = self._share.connect(parts, number)
        if seat is not None:
            transport.listen_on(seat.sockets, BACKLOG, one_by_one=seat.turns)
        else:  # before the port is open: who is served may hang up
            # Windows has no such signal, and only a main thread gets one.
            with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError):
                loop = asyncio.get_running_loop()
                loop.add_signal_handler(signal.SIGHUP, self.reloading.reload)
        return gateway

    def configure(self, updated: set[str]) -> None:
        """Refuse, at run time too, what would make the gateway unsafe."""
        if self._gateway is None:
            return
        faults = options.unsafe(ctx.options) + options.unforced(ctx.options, updated)
        if faults:
            raise exceptions.OptionsError("; ".join(faults))

    async def running(self) -> None:
        """The port is open: take it back to loopback if need be, begin to serve."""
        assert self._gateway is not None
        assert self._begun is not None
        await self._listen_as_configured()
        if self._begun.demo is not None:
            await self._begun.demo.start()
        gateway = self._gateway
        if self._seat is not None:
            await self._seat.join(self._told)
        parts = (self.reloading, self._share, self._bus)
        lives = [gateway.watch(), *(part.follow() for part in parts if part is not None)]
        self._tasks = [asyncio.create_task(life) for life in lives]
        if any(client.limits.budgeted for client in gateway.parts.clients.all):
            gateway.allowance.prepare()
        calls_url = pages.install(ctx.master, lambda: gateway.parts.config.log)
        if self._seat is None:
            self.greet(gateway.parts, _addresses(), calls_url)

    def greet(
        self,
        parts: Parts,
        addresses: list[tuple[str, int]],
        calls_url: str | None = None,
        workers: int = 1,
    ) -> None:
        """Say where to connect."""
        demo = self._begun is not None and self._begun.demo is not None
        self._terminal.greet(ctx.master, parts, addresses, demo, calls_url, workers)

    def _told(self, line: bytes) -> None:
        """In a worker: the parent says something, or is gone."""
        assert self._share is not None
        if line.startswith(b"{"):
            self._share.hear(line)
        elif line == AGAIN:
            self._share.again()
        elif line.startswith(LOST):
            self._share.forget(int(line.removeprefix(LOST)))
        elif line == RELOAD:
            self.reloading.reload()
        elif line in (DRAIN, CUT, seats.GONE):
            if line == CUT:
                self._cut.set()
            ctx.master.shutdown()

    async def done(self) -> None:
        """The end: what is open may end, or is told as it stands; what is queued is written."""
        if self._gateway is not None:
            if self._seat is None:
                shutdown.on_signals(self._cut.set)  # who cannot wait says so again
            server = ctx.master.addons.get("proxyserver")
            await shutdown.drain(self._gateway, server, self._cut)
        for task in self._tasks:
            task.cancel()
        if self._gateway is not None:
            self._gateway.finish_all()
            await asyncio.to_thread(self._gateway.writer.close)
        if self._begun is not None and self._begun.demo is not None:
            await self._begun.demo.stop()

    async def _listen_as_configured(self) -> None:
        """A script is loaded after mitmproxy has begun to open its port, on all interfaces."""
        server = ctx.master.addons.get("proxyserver")
        wanted = (ctx.options.listen_host, ctx.options.listen_port)
        if any(not _is_wanted(addr, wanted) for addr in server.listen_addrs()):
            await server.servers.update([])
            if not await server.setup_servers():
                raise SystemExit(1)
        beyond = any(not is_loopback(addr[0]) for addr in server.listen_addrs())
        assert self._gateway is not None
        if beyond and not self._gateway.parts.clients.required:
            print("llm-passthrough: listening beyond loopback is refused", file=sys.stderr)
            raise SystemExit(_EXIT_CONFIG)


def _addresses() -> list[tuple[str, int]]:
    return [addr[:2] for addr in ctx.master.addons.get("proxyserver").listen_addrs()]


def _is_wanted(addr: Any, wanted: tuple[str, int]) -> bool:
    host, port = addr[:2]
    there = is_loopback(host) if is_local(wanted[0]) else host == wanted[0]
    return there and wanted[1] in (0, port)
