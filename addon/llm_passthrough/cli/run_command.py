"""`llm-passthrough run`: a command that needs no change to call the gateway, nor any key."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from llm_passthrough import foreground
from llm_passthrough.cli import summary
from llm_passthrough.cli.child import Child, StartError
from llm_passthrough.cli.options import ConfigFile, Demo, Set
from llm_passthrough.cli.running import NoGatewayError, Running, running, settled
from llm_passthrough.cli.surroundings import (
    Confdir,
    ModeOption,
    Settings,
    elsewhere,
    fail,
    merged,
    say,
    settings,
    trusted,
)
from llm_passthrough.cli.variables import Mode, arguments
from llm_passthrough.ledger import LedgerError

Command = Annotated[list[str], typer.Argument(metavar="COMMAND", show_default=False)]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65_535, help="The gateway's port (default 8080; 0: any free one)."),
]
Quiet = Annotated[bool, typer.Option("--no-summary", help="Print no summary at the end.")]


def run(
    command: Command,
    config: ConfigFile = None,
    mode: ModeOption = Mode.both,
    port: Port = None,
    demo: Demo = False,
    no_summary: Quiet = False,
    confdir: Confdir = None,
    set_: Set = None,
) -> None:
    """Run a command so that it calls the gateway: with base URLs, a proxy, and no real key.

    A gateway is started for as long as the command runs; one that runs already is joined.
    """
    if demo and config:
        fail("--demo takes no --config")
    env = dict(os.environ)
    asked = settings(config, env, port, demo)
    _find(command[0], env)
    asked, joined = _placed(asked, alone=demo or config is not None)
    changes = asked.variables(mode, trusted(mode, confdir, set_, env), env)
    ours = _gateway(asked, config, demo, [*(set_ or ()), *_set_confdir(confdir)])
    if joined is None and mode is not Mode.proxy and not demo:
        for warning in elsewhere(asked, env):
            say(warning)
    began = time.time()
    with contextlib.nullcontext() if joined else ours:
        try:
            code = foreground.run(arguments(command, mode, asked.reach), merged(env, changes))
        except foreground.CommandError as error:
            fail(str(error), error.code)
    if not no_summary:
        with contextlib.suppress(OSError):  # the terminal may be gone
            _tell(asked, began, joined)
    raise typer.Exit(code)


def _find(program: str, env: Mapping[str, str]) -> None:
    """End as a shell does where there is no such command: before a gateway is started for it."""
    try:
        foreground.find(program, env.get("PATH"))
    except foreground.CommandError as error:
        fail(str(error), error.code)


def _placed(asked: Settings, alone: bool) -> tuple[Settings, Running | None]:
    """The settings with a port, and the gateway that is there already.

    `alone`: the command wants a gateway that is not like any other.
    """
    reach = asked.reach
    if not reach.port:
        return replace(asked, reach=replace(reach, port=_free_port(reach.host))), None
    try:
        joined = running(reach.host, reach.port)
    except NoGatewayError as error:
        fail(str(error))
    if joined is None:
        return asked, None
    if alone:
        fail(
            f"a gateway runs already on {reach.authority}, and --demo and --config are not its "
            "options; leave them out to join it, or give another --port"
        )
    return replace(asked, reach=replace(reach, prefixes=joined.prefixes)), joined


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


def _set_confdir(confdir: Path | None) -> list[str]:
    return [f"confdir={confdir}"] if confdir else []


@contextlib.contextmanager
def _gateway(asked: Settings, config: Path | None, demo: bool, set_: list[str]) -> Iterator[None]:
    """A gateway of our own. Ends with exit code 2, and what it said, when it does not start."""
    reach = asked.reach
    options = ["--port", str(reach.port), "--workers", "1", *(["--demo"] if demo else [])]
    options += ["--config", str(config)] if config else []
    options += [word for setting in set_ for word in ("--set", setting)]
    try:
        child = Child(options, asked.records.with_name(f"gateway-{reach.port}.log"))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    try:
        child.wait_ready(reach.host, reach.port)
        yield
        if child.ended is not None:
            say(f"the gateway ended before the command; what it said is in {child.log}")
    except KeyboardInterrupt:  # while it starts: later, signals are the command's
        raise typer.Exit(128 + signal.SIGINT) from None
    except StartError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    finally:
        child.stop()


def _tell(asked: Settings, began: float, joined: Running | None) -> None:
    """The summary of what was called since the command began."""
    try:
        # What a joined gateway writes is written a moment later; ours has ended.
        written = settled(asked.reach.host, asked.reach.port) if joined else None
        rows = summary.rows_since(asked.records, began)
    except LedgerError as error:
        say(str(error))
        return
    heading = "llm-passthrough: calls of this command"
    if joined:
        heading = "llm-passthrough: all calls of the gateway since the command began"
        if written is not None and written > joined.written and not rows:
            say("the gateway that was joined writes its records elsewhere: no summary")
    summary.show(rows, heading)
