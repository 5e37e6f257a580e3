"""Starts mitmproxy with the gateway in it: in this process, or in several that share a port."""

import asyncio
import logging
import signal
from dataclasses import dataclass, field
from typing import Literal

import typer
from mitmproxy import exceptions
from mitmproxy.addons.termlog import TermLogHandler
from mitmproxy.log import ALERT
from mitmproxy.master import Master
from mitmproxy.options import Options

from llm_passthrough import lean, said
from llm_passthrough.attach import Life, attach, rehearse
from llm_passthrough.build import Parts
from llm_passthrough.options import OWN
from llm_passthrough.shutdown import on_signals
from llm_passthrough.workers.port import PortError, reserve
from llm_passthrough.workers.seat import Seat


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be started: `values` are options of ours, `late` of mitmproxy, `settings`
    NAME=VALUE."""

    kind: Literal["serve", "web"]
    values: dict[str, object]
    settings: list[str]
    late: dict[str, object] = field(default_factory=dict)


def launch(wish: Wish, workers: int = 1) -> None:
    """Run until stopped.

    Ends with exit code 2 for what is wrong in the options, 1 when the port cannot be had.
    """
    try:
        if workers > 1:
            _several(wish, workers)
        else:
            asyncio.run(_main(wish))
    except (exceptions.OptionsError, PortError) as error:
        typer.echo(f"llm-passthrough: {error}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"llm-passthrough: {error.strerror or error}", err=True)
        raise typer.Exit(1) from None


async def _main(wish: Wish, seat: Seat | None = None) -> None:
    master = _made(wish)
    attach(master, early=True, seat=seat)
    if seat is None:
        on_signals(master.shutdown)
    else:  # to one worker alone; another one takes its place
        on_signals(master.shutdown, (signal.SIGTERM,))
    if hasattr(signal, "SIGPIPE"):  # not on Windows
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    await master.run()


def _made(wish: Wish, *, runs: bool = True) -> Master:
    """What runs, with its options; one that does not run is the same, but for its scripts."""
    # A configuration that was read again is told at the level of mitmproxy's alerts.
    logging.getLogger().setLevel(logging.INFO if wish.kind == "web" else ALERT)
    for noisy in ("tornado", "asyncio", "hpack"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    options = Options()
    named = {setting.partition("=")[0] for setting in wish.settings}
    master = master_of(wish.kind, options, named)
    options.update(termlog_verbosity="alert", **wish.late)
    settings = [one for one in wish.settings if runs or not one.startswith("scripts=")]
    options.set(*settings, defer=True)
    # Options of an addon that is not there yet wait for it.
    options.update_defer(**wish.values)
    return master


def _several(wish: Wish, workers: int) -> None:
    """Check all, then fork: the parent waits for its workers, each of which serves."""
    from llm_passthrough.workers.parent import Parent  # Windows has not the signals for it

    life, parts = asyncio.run(_rehearsed(wish))
    _keep_one_handler()
    listen = parts.config.listen
    place = reserve(listen.host, listen.port)

    def greet() -> None:
        life.greet(parts, place.addresses, workers=workers)

    outcome = Parent(place, workers, greet).run()
    if not isinstance(outcome, Seat):
        raise typer.Exit(outcome)
    logging.getLogger().handlers.clear()  # the worker's mitmproxy brings its own
    said.begin(f"worker {outcome.number}: ")
    wish.values["listen_port"] = place.number
    asyncio.run(_main(wish, outcome))


async def _rehearsed(wish: Wish) -> tuple[Life, Parts]:
    """All that can be wrong is said; scripts run in the workers alone."""
    master = _made(wish, runs=False)
    if master.options.mode != ["regular"]:
        raise exceptions.OptionsError("mode: workers share one port; leave --set mode out")
    return rehearse(master)


def _keep_one_handler() -> None:
    """The loop that mitmproxy's others tell has ended; the terminal's needs none."""
    root = logging.getLogger()
    root.handlers = [one for one in root.handlers if isinstance(one, TermLogHandler)]


def master_of(kind: Literal["serve", "web"], options: Options, named: set[str]) -> Master:
    """What runs: a lean one, unless there is a page, or an option is set that only others have."""
    if kind == "web":
        from mitmproxy.tools.web.master import WebMaster  # a tenth of the start of who has no page

        return WebMaster(options)
    if named <= lean.offered() | {name for name, *_ in OWN} and lean.changed() is None:
        lean.install()
        return lean.Lean(options)
    from mitmproxy.tools.dump import DumpMaster

    master = DumpMaster(options, with_dumper=False)
    lean.hasten(master)
    return master
