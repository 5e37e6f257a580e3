"""`llm-passthrough serve` and `web`: start mitmproxy with the gateway in it."""

import asyncio
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from mitmproxy import exceptions
from mitmproxy.options import Options
from mitmproxy.tools.dump import DumpMaster
from mitmproxy.tools.web.master import WebMaster

from llm_passthrough.attach import attach

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="The configuration file (YAML).")
]
Port = Annotated[int | None, typer.Option(help="The gateway's port (default 8080).")]
WebPort = Annotated[int | None, typer.Option(help="mitmweb's port (default 8081).")]
Host = Annotated[str | None, typer.Option(help="The address to listen on (default 127.0.0.1).")]
Demo = Annotated[bool, typer.Option("--demo", help="Use the built-in demo provider; no keys.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="An option of mitmproxy, NAME=VALUE.")]
Browser = Annotated[bool, typer.Option("--open/--no-open", help="Open a browser on mitmweb.")]


def serve(
    config: ConfigFile = None,
    port: Port = None,
    host: Host = None,
    demo: Demo = False,
    set_: Set = None,
) -> None:
    """Run the gateway alone, without a user interface."""

    def make(options: Options) -> DumpMaster:
        return DumpMaster(options, with_dumper=False)

    options = _options(config, port, host, demo)
    _run(make, options, set_ or [], {}, logging.WARNING)


def web(
    config: ConfigFile = None,
    port: Port = None,
    web_port: WebPort = None,
    host: Host = None,
    demo: Demo = False,
    browser: Browser = False,
    set_: Set = None,
) -> None:
    """Run the gateway with mitmweb, to look at the exchanges in a browser."""
    options = _options(config, port, host, demo)
    late: dict[str, object] = {"web_open_browser": browser}
    if web_port is not None:
        late["web_port"] = web_port
    _run(WebMaster, options, set_ or [], late, logging.INFO)


def _options(
    config: Path | None, port: int | None, host: str | None, demo: bool
) -> dict[str, object]:
    options: dict[str, object] = {"passthrough_demo": demo}
    if host is not None:
        options["listen_host"] = host
    if config is not None:
        options["passthrough_config"] = str(config)
    if port is not None:
        options["listen_port"] = port
    return options


def _run(
    make: Callable[[Options], Any],
    values: dict[str, object],
    settings: list[str],
    late: dict[str, object],
    level: int,
) -> None:
    try:
        asyncio.run(_main(make, values, settings, late, level))
    except exceptions.OptionsError as error:
        typer.echo(f"llm-passthrough: {error}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"llm-passthrough: {error.strerror or error}", err=True)
        raise typer.Exit(1) from None


async def _main(
    make: Callable[[Options], Any],
    values: dict[str, object],
    settings: list[str],
    late: dict[str, object],
    level: int,
) -> None:
    logging.getLogger().setLevel(level)
    for noisy in ("tornado", "asyncio", "hpack"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    options = Options()
    master = make(options)
    options.update(termlog_verbosity="warn", **late)
    options.set(*settings, defer=True)
    # Options of an addon that is not there yet wait for it.
    options.update_defer(**values)
    attach(master)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, master.shutdown)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    await master.run()
