"""How many processes `serve` is to start: by its option, else by the configuration file."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import typer

from llm_passthrough import config
from llm_passthrough.errors import ConfigError
from llm_passthrough.workers import MOST

_NUMBERS = f"a number from 1 to {MOST}, or auto (as many as there are processors)"


def count(wish: str | None, file: Path | None, demo: bool, env: Mapping[str, str]) -> int:
    """How many; ends with exit code 2 where that cannot be."""
    asked: object = wish if wish is not None else (1 if demo else _configured(file, env))
    if asked == "auto":
        number = processors()
    elif re.fullmatch("[0-9]{1,3}", str(asked)) and 1 <= int(str(asked)) <= MOST:
        number = int(str(asked))
    else:
        _refuse(f"must be {_NUMBERS}")
    if number > 1 and demo:
        _refuse("the demo provider runs in one process; leave --demo out, or this")
    if number > 1 and not hasattr(os, "fork"):
        _refuse("this system cannot fork a process; start several gateways on several ports")
    return number


def refuse_with_mitmweb() -> NoReturn:
    """mitmweb has the flows of its own process alone."""
    _refuse(
        "mitmweb shows the calls of one process; `llm-passthrough serve --workers N` goes without "
        "it, and `llm-passthrough open` shows what was recorded"
    )


def processors() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        found = len(os.sched_getaffinity(0))
    else:
        found = os.cpu_count() or 1
    return min(found, MOST)


def _configured(file: Path | None, env: Mapping[str, str]) -> object:
    named = env.get("LLM_PASSTHROUGH_CONFIG", "")
    path = file or (Path(named).expanduser() if named else None)
    try:
        # Few files say it, and to read one twice takes a moment.
        if path is None or b"workers" not in path.expanduser().read_bytes():
            return 1
        return config.load(path.expanduser(), env)[0].listen.workers
    except (OSError, ConfigError):
        return 1  # the start says what is wrong with it


def _refuse(why: str) -> NoReturn:
    typer.echo(f"llm-passthrough: --workers: {why}", err=True)
    raise typer.Exit(2)
