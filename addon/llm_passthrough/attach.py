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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader
from mitmproxy.log import ALERT
from rich.console import Console

from llm_passthrough import banner, config, layer, options, pages, views
from llm_passthrough.build import Parts, build, writer_of
from llm_passthrough.clients import is_local, is_loopback
from llm_passthrough.demo import DemoProvider
from llm_passthrough.errors import ConfigError
from llm_passthrough.gateway import Gateway
from llm_passthrough.guard import where
from llm_passthrough.sinks.writer import SWITCH_INTERVAL

_LOG = logging.getLogger(__name__)
_EXIT_CONFIG = 2
_LOOK_EVERY = 1.0
"""Seconds between two looks at the configuration file."""


def attach(master: Any, env: Mapping[str, str] = os.environ) -> None:
    """Make the gateway part of `master`; a second call leaves the first one's gateway alone.

    Ends the process with exit code 2, after one line a fault, when the configuration is wrong.
    """
    if master.addons.get(Life.name) is not None:
        return
    life = Life(env)
    master.addons.register(life)
    try:
        gateway = life.start(master)
    except ConfigError as error:
        for line in error.lines:
            print(f"llm-passthrough: {line}", file=sys.stderr)
        raise SystemExit(_EXIT_CONFIG) from None
    except Exception as error:  # noqa: BLE001 - a proxy without its gateway must not go on
        print(f"llm-passthrough: cannot start: {where(error)}", file=sys.stderr)
        raise SystemExit(_EXIT_CONFIG) from None
    first = (gateway, gateway.egress, *life.views)
    for addon in first:
        master.addons.register(addon)
    # A new list: mitmproxy may be walking over the old one.
    master.addons.chain = [life, *first, *master.addons.chain]


class Life:
    """The addon that starts and ends a gateway, and keeps mitmproxy's options safe."""

    name = "llm_passthrough"

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._demo: DemoProvider | None = None
        self._gateway: Gateway | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._file: Path | None = None
        self._asked: tuple[object, ...] = ()
        self._console = Console(highlight=False)

    def load(self, loader: Loader) -> None:
        """Our own options of mitmproxy."""
        for option in options.OWN:
            loader.add_option(*option)

    def start(self, master: Any) -> Gateway:
        """Read the configuration, make all parts, set mitmproxy's options. Raises ConfigError."""
        if faults := options.unsafe(master.options):
            raise ConfigError(*faults)
        settings, warnings = self._configuration(master.options)
        parts = build(settings, self._env, master.options.passthrough_config or "environment")
        layer.install(settings.limits.request_buffer)
        shown = self._console if self._shows(master, settings.console) else None
        self.views = views.addons(master)
        writer = writer_of(parts, shown, *self.views[:1])
        writer.start()
        sys.setswitchinterval(SWITCH_INTERVAL)
        master.options.update(**options.FORCED)
        if getattr(master.options, "flow_detail", 0) == 1:
            master.options.update(flow_detail=0)  # our own line says it
        for warning in (*warnings, *parts.warnings):
            _LOG.warning("%s", warning)
        self._gateway = Gateway(parts, writer)
        return self._gateway

    def reload(self) -> bool:
        """Read the configuration again and swap all parts at once; whether it was done.

        What is wrong is said, and everything stays as it was. Open exchanges end as they began.
        """
        gateway = self._gateway
        assert gateway is not None
        try:
            settings, warnings = config.load(self._file, self._env)
            asked, settings = settings, _as_running(settings, gateway.parts.config)
            parts = build(settings, self._env, str(self._file), gateway.parts)
        except ConfigError as error:
            return _unchanged(*error.lines)
        except Exception as error:  # noqa: BLE001 - its text may hold a secret; the old one goes on
            return _unchanged(where(error))
        if asked.log != settings.log:
            warnings = [*warnings, "log: takes effect at the next start, but for what is captured"]
        before, self._asked = self._asked, _ports(asked)
        if before != self._asked:
            warnings = [*warnings, "listen: host and ports take effect at the next start"]
        for warning in (*warnings, *parts.warnings):
            _LOG.warning("%s", warning)
        layer.install(settings.limits.request_buffer)
        gateway.swap(parts)
        _LOG.log(ALERT, "the configuration was read again")
        return True

    async def _follow(self) -> None:
        """Reload when the file changes."""
        if self._file is None:
            return
        seen = _stamp(self._file)
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            now = _stamp(self._file)
            if now is not None and now != seen:
                seen = now
                self.reload()

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
        await self._listen_as_configured()
        if self._demo is not None:
            await self._demo.start()
        self._tasks = [
            asyncio.create_task(self._gateway.watch()),
            asyncio.create_task(self._follow()),
        ]
        # Without a file a terminal that hangs up must not end the gateway either.
        again = self.reload if self._file is not None else _nothing_to_reload
        with contextlib.suppress(NotImplementedError, RuntimeError):  # not on Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, again)
        gateway = self._gateway
        calls_url = pages.install(ctx.master, lambda: gateway.parts.config.log)
        self._greet(gateway.parts, calls_url)

    def _greet(self, parts: Parts, calls_url: str | None) -> None:
        """Say where to connect: to a person with mitmweb's address and token, to a log without."""
        demo, addresses = self._demo is not None, _addresses()
        web_url = getattr(ctx.master, "web_url", None)
        if self._shows(ctx.master, parts.config.console):
            lines = banner.lines(parts, addresses, demo, web_url)
            lines += [("", f"calls: {calls_url}")] if calls_url else []
            self._console.print(banner.panel(lines))
            return
        _LOG.info("%s", "; ".join(text for _, text in banner.lines(parts, addresses, demo)))
        if web_url is not None:
            print(f"mitmweb: {web_url}\ncalls: {calls_url}", flush=True)

    async def done(self) -> None:
        """The end: what is open is told as it stands, what is queued is written."""
        for task in self._tasks:
            task.cancel()
        if self._gateway is not None:
            self._gateway.finish_all()
            await asyncio.to_thread(self._gateway.writer.close)
        if self._demo is not None:
            await self._demo.stop()

    def _configuration(self, opts: Any) -> tuple[config.Config, list[str]]:
        name = opts.passthrough_config or self._env.get("LLM_PASSTHROUGH_CONFIG", "")
        path = Path(name).expanduser() if name else None
        if opts.passthrough_demo:
            self._demo = DemoProvider(keys=frozenset(_DEMO_KEYS.values()))
            settings, warnings = _demo_config(self._demo.bind()), list[str]()
        else:
            settings, warnings = config.load(path, self._env)
            self._file, self._asked = path, _ports(settings)
        listen: dict[str, object] = {}
        if opts.listen_host:
            listen["host"] = opts.listen_host
        if opts.listen_port is not None:
            listen["port"] = opts.listen_port
        if getattr(opts, "web_port", None) not in (None, 8081):
            listen["web_port"] = opts.web_port
        listening = settings.listen.model_copy(update=listen)
        opts.update(listen_host=listening.host, listen_port=listening.port)
        return settings.model_copy(update={"listen": listening}), warnings

    def _shows(self, master: Any, wish: str = "auto") -> bool:
        """Whether lines may be printed: to a terminal that no full-screen program uses."""
        if type(master).__name__ == "ConsoleMaster":
            return False
        return wish == "on" or (wish == "auto" and self._console.is_terminal)

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


_DEMO_KEYS = {
    name: f"demo-key-of-{name}" for name in ("openai", "anthropic", "azure", "gemini", "vertex")
}


def _demo_config(port: int) -> config.Config:
    """The configuration of a gateway in front of the demo provider."""
    url = f"http://127.0.0.1:{port}"
    providers: dict[str, object] = {}
    for name, value in _DEMO_KEYS.items():
        key: dict[str, object] = {"name": "demo", "value": value}
        if name == "azure":
            key["azure_key_config"] = {"endpoint": url}
        providers[name] = {"keys": [key], "network_config": {"base_url": url}}
    log = {"path": "~/.llm-passthrough/demo/records.jsonl"}
    return config.parse({"providers": providers, "log": log}, "demo")[0]


# What a reload cannot change: the sockets and the files are open.
_SOCKETS = ("host", "port", "web_port")
_AT_ONCE = ("capture", "body_limit", "required")


def _ports(settings: config.Config) -> tuple[object, ...]:
    return tuple(getattr(settings.listen, name) for name in _SOCKETS)


def _as_running(new: config.Config, old: config.Config) -> config.Config:
    """The new configuration with the sockets and the files of the old one."""
    listen = {name: getattr(old.listen, name) for name in _SOCKETS}
    log = {name: getattr(new.log, name) for name in _AT_ONCE}
    return new.model_copy(
        update={
            "listen": new.listen.model_copy(update=listen),
            "log": old.log.model_copy(update=log),
        }
    )


def _unchanged(*lines: str) -> bool:
    """Say what is wrong with a configuration that was read again."""
    for line in lines:
        _LOG.error("%s", line)
    _LOG.error("the configuration was not changed; the gateway goes on with the old one")
    return False


def _nothing_to_reload() -> None:
    _LOG.warning("there is no configuration file to read again")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does: also when it is replaced by another one in one step."""
    try:
        status = path.stat()
    except OSError:
        return None  # an editor may be in the middle of replacing it
    return status.st_ino, status.st_mtime_ns, status.st_size


def _addresses() -> list[tuple[str, int]]:
    return [addr[:2] for addr in ctx.master.addons.get("proxyserver").listen_addrs()]


def _is_wanted(addr: Any, wanted: tuple[str, int]) -> bool:
    host, port = addr[:2]
    there = is_loopback(host) if is_local(wanted[0]) else host == wanted[0]
    return there and wanted[1] in (0, port)
