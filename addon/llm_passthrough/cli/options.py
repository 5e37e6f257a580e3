"""Options that several commands have. This costs a command no import that it does not need."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="The configuration file (YAML).")
]
Demo = Annotated[bool, typer.Option("--demo", help="Use the built-in demo provider; no keys.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="An option of mitmproxy, NAME=VALUE.")]
