"""The parts that a configuration makes, for a command to look at."""

import os
from pathlib import Path

import typer

from llm_passthrough import config
from llm_passthrough.build import Parts, build
from llm_passthrough.errors import ConfigError


def parts_of(path: Path | None) -> Parts:
    """The parts of a configuration, or of the environment; ends with exit code 2 on a fault."""
    named = os.environ.get("LLM_PASSTHROUGH_CONFIG", "")
    file = path or (Path(named).expanduser() if named else None)
    try:
        settings, warnings = config.load(file, os.environ)
        parts = build(settings, os.environ, str(file or "environment"))
    except ConfigError as error:
        for line in error.lines:
            typer.echo(f"llm-passthrough: {line}", err=True)
        raise typer.Exit(2) from None
    for warning in (*warnings, *parts.warnings):
        typer.echo(f"llm-passthrough: warning: {warning}", err=True)
    return parts
