"""`llm-passthrough env`: the variables of `run`, as the lines of a shell."""

import os
import sys
from typing import Annotated

import typer

from llm_passthrough.cli.options import ConfigFile, Set
from llm_passthrough.cli.shells import Shell, lines
from llm_passthrough.cli.surroundings import Confdir, ModeOption, fail, settings, trusted
from llm_passthrough.cli.variables import Mode

ShellOption = Annotated[
    Shell, typer.Option("--shell", help="Whose lines; bash's are for zsh and sh too.")
]
Port = Annotated[int | None, typer.Option(min=1, help="The gateway's port (default 8080).")]


def env(
    config: ConfigFile = None,
    mode: ModeOption = Mode.both,
    port: Port = None,
    shell: ShellOption = Shell.bash,
    confdir: Confdir = None,
    set_: Set = None,
) -> None:
    """Print the variables that `run` sets, for a gateway that you start yourself."""
    here = dict(os.environ)
    asked = settings(config, here, port, demo=False)
    if not asked.reach.port:
        fail("listen.port is 0: name the gateway's --port")
    files = trusted(mode, confdir, set_, here)
    text = "".join(f"{line}\n" for line in lines(shell, asked.variables(mode, files, here)))
    sys.stdout.flush()
    # A path may hold bytes that are no text.
    sys.stdout.buffer.write(os.fsencode(text))
    sys.stdout.buffer.flush()
