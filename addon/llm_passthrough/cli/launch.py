"""Starts mitmproxy with the gateway in it."""

import asyncio
import logging
import signal
from typing import Literal

import typer
from mitmproxy import exceptions, version
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.tools.dump import DumpMaster
from mitmproxy.tools.web.master import WebMaster

from llm_passthrough import lean
from llm_passthrough.attach import attach
from llm_passthrough.options import OWN
from llm_passthrough.shutdown import on_signals

_LOG = logging.getLogger(__name__)


def launch(
    kind: Literal["serve", "web"],
    values: dict[str, object],
    settings: list[str],
    late: dict[str, object],
) -> None:
    """Run until stopped: `values` are options of ours, `late` of mitmproxy, `settings` NAME=VALUE.

    Ends with exit code 2 for what is wrong in the options, 1 when the port cannot be had.
    """
    try:
        asyncio.run(_main(kind, values, settings, late))
    except exceptions.OptionsError as error:
        typer.echo(f"llm-passthrough: {error}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"llm-passthrough: {error.strerror or error}", err=True)
        raise typer.Exit(1) from None


async def _main(
    kind: Literal["serve", "web"],
    values: dict[str, object],
    settings: list[str],
    late: dict[str, object],
) -> None:
    logging.getLogger().setLevel(logging.INFO if kind == "web" else logging.WARNING)
    for noisy in ("tornado", "asyncio", "hpack"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    options = Options()
    master = master_of(kind, options, {setting.partition("=")[0] for setting in settings})
    options.update(termlog_verbosity="warn", **late)
    options.set(*settings, defer=True)
    # Options of an addon that is not there yet wait for it.
    options.update_defer(**values)
    attach(master, early=True)
    on_signals(master.shutdown)
    if hasattr(signal, "SIGPIPE"):  # not on Windows
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    await master.run()


def master_of(kind: Literal["serve", "web"], options: Options, named: set[str]) -> Master:
    """What runs: a lean one, unless there is a page, or an option is set that only others have."""
    if kind == "web":
        return WebMaster(options)
    if named <= lean.offered() | {name for name, *_ in OWN}:
        changed = lean.changed()
        if changed is None:
            lean.install()
            return lean.Lean(options)
        _LOG.warning(
            "mitmproxy %s is not one that `serve` knows (%s): it does the same, with more time",
            version.VERSION,
            changed,
        )
    return DumpMaster(options, with_dumper=False)
