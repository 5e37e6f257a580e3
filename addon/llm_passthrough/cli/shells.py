"""Variables as the lines of a shell, or of a .env file, that set them."""

import re
import shlex
from collections.abc import Callable, Mapping
from enum import StrEnum


class Shell(StrEnum):
    """Whose lines."""

    bash = "bash"
    fish = "fish"
    powershell = "powershell"
    dotenv = "dotenv"


def lines(shell: Shell, values: Mapping[str, str | None]) -> list[str]:
    """A line for each variable; None removes it, which a .env file cannot say."""
    set_, remove, quoted = _FORMS[shell]
    form = {True: remove, False: set_}
    return [
        form[value is None].format(name=name, value=quoted(value or ""))
        for name, value in values.items()
        if form[value is None]
    ]


def _fish(value: str) -> str:
    """https://fishshell.com/docs/current/language.html#quotes"""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _powershell(value: str) -> str:
    """It takes typographic quotes for quotes too (about_Quoting_Rules; its CharTraits.cs)."""
    return "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", value) + "'"


def _dotenv(value: str) -> str:
    """Bare where it can be: `docker run --env-file` takes quotes for a part of the value.

    Between single quotes most readers take everything as it stands.
    """
    if value == value.strip() and not set(value) & set("'\"`#$\\"):
        return value
    if "'" not in value:
        return f"'{value}'"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


type _Form = tuple[str, str, Callable[[str], str]]
_FORMS: Mapping[Shell, _Form] = {
    Shell.bash: ("export {name}={value}", "unset {name}", shlex.quote),
    Shell.fish: ("set -gx {name} {value}", "set -e {name}", _fish),
    Shell.powershell: (
        "$env:{name} = {value}",
        "Remove-Item -ErrorAction Ignore Env:{name}",
        _powershell,
    ),
    Shell.dotenv: ("{name}={value}", "", _dotenv),
}
