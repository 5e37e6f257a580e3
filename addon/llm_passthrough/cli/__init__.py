"""The `llm-passthrough` command. Each subcommand is imported when it is asked for."""

import os
import sys
from functools import cache
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from llm_passthrough import __version__

# Name of the command: its module, and what there is the command (a function or an app).
_COMMANDS = {
    "serve": ("run", "serve"),
    "web": ("run", "web"),
    "run": ("run_command", "run"),
    "env": ("env", "env"),
    "check": ("check", "check"),
    "explain": ("explain", "explain"),
    "schema": ("schema", "schema"),
    "open": ("open", "open_"),
    "replay": ("replay", "replay"),
    "logs": ("logs", "app"),
    "ca": ("ca", "app"),
    "clients": ("clients", "app"),
}
# What stands behind the command is the command's, options included.
_SETTINGS: dict[str, dict[str, object]] = {"run": {"allow_interspersed_args": False}}


class Commands(TyperGroup):
    """The commands; only the one that is asked for costs its imports."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, name: str) -> Any:
        """The command of that name, or None."""
        return _command(name) if name in _COMMANDS else None


@cache
def _command(name: str) -> Any:
    """Made once: reading its options off its function takes longer than most commands do."""
    module, attribute = _COMMANDS[name]
    found: Any = getattr(import_module(f"{__name__}.{module}"), attribute)
    if isinstance(found, typer.Typer):
        command = get_command(found)
    else:
        alone = typer.Typer(add_completion=False)
        alone.command(context_settings=_SETTINGS.get(name))(found)
        command = get_command(alone)
    command.name = name
    return command


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback of ours could show a value
    help="A gateway for LLM APIs that you can see through.",
)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and end."),
) -> None:
    if version:
        print(f"llm-passthrough {__version__}")
        raise typer.Exit


def main() -> None:
    """The entry point of the command."""
    _stand_in()
    app()


def _stand_in() -> None:
    """Have all standard streams: without one mitmproxy does not start, and the next socket that is
    opened gets its number, and whatever is printed to that."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - as long as we run
