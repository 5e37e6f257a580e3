"""What `run` and `env` share: their options, and the variables that these amount to."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

import typer

from llm_passthrough import config
from llm_passthrough.cli.authority import AuthorityError, authority, folder_of
from llm_passthrough.cli.bundle import trust
from llm_passthrough.cli.variables import (
    BASE_URLS,
    PLACEHOLDER,
    PREFIXES,
    Mode,
    Reach,
    Trust,
    Variables,
    variables,
)
from llm_passthrough.clients import is_local
from llm_passthrough.errors import ConfigError
from llm_passthrough.providers import PROVIDERS, Base

ModeOption = Annotated[
    Mode, typer.Option("--mode", help="Set base URLs, a proxy with its CA, or both.")
]
Confdir = Annotated[
    Path | None, typer.Option(help="mitmproxy's folder with the CA (default ~/.mitmproxy).")
]
TOKEN = "LLM_PASSTHROUGH_TOKEN"  # noqa: S105 - a variable's name
_REFERENCE = re.compile(r"env\.(\w+)|\$\{(\w+)\}")
# The provider that a family's base URL stands for, where that is one with a host of its own.
_OF_FAMILY = {"openai": "openai", "anthropic": "anthropic"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a configuration says about its gateway's clients."""

    reach: Reach
    records: Path
    secrets: frozenset[str]
    """Variables that the configuration takes keys and tokens from."""
    forwarded: frozenset[str]
    """Providers that get the client's own credential."""
    hosts: Mapping[str, str]
    """Where providers are whose place the configuration does not name."""

    def variables(self, mode: Mode, trust: Trust | None, env: Mapping[str, str]) -> Variables:
        """The variables for a command."""
        return variables(mode, self.reach, trust, env, self.secrets, self.forwarded)


def say(line: str) -> None:
    """A line on stderr."""
    typer.echo(f"llm-passthrough: {line}", err=True)


def fail(line: str, code: int = 2) -> NoReturn:
    """End with a line on stderr."""
    say(line)
    raise typer.Exit(code)


def settings(file: Path | None, env: Mapping[str, str], port: int | None, demo: bool) -> Settings:
    """The settings of a configuration, or of the environment; ends with exit code 2 on a fault."""
    named = env.get("LLM_PASSTHROUGH_CONFIG", "")
    path = file or (Path(named).expanduser() if named else None)
    try:
        loaded = config.parse({}, "demo")[0] if demo else config.load(path, env)[0]
    except ConfigError as error:
        for line in error.lines:
            say(line)
        raise typer.Exit(2) from None
    token = env.get(TOKEN) or PLACEHOLDER
    if loaded.clients and token == PLACEHOLDER:
        fail(f"{path}: it has clients; set {TOKEN} to one's token")
    records = Path(loaded.log.path).expanduser()
    return Settings(
        Reach(
            loaded.listen.host,
            loaded.listen.port if port is None else port,
            {family: _prefix(loaded, family) for family in PREFIXES},
            token,
        ),
        records.parent / "demo" / records.name if demo else records,
        frozenset(_secrets(loaded)) - {TOKEN},
        frozenset(
            name for name in PROVIDERS if loaded.providers.entry(name).client_credentials != "strip"
        ),
        dict(_usual_hosts(loaded)),
    )


def trusted(
    mode: Mode, confdir: Path | None, set_: Iterable[str] | None, env: Mapping[str, str]
) -> Trust | None:
    """The files for TLS where the mode needs any; ends with exit code 2 where none can be had."""
    if mode is Mode.base_url:
        return None
    try:
        files, warnings = trust(authority(folder_of(confdir, set_ or ())), env)
    except AuthorityError as error:
        fail(str(error))
    for warning in warnings:
        say(f"warning: {warning}")
    return files


def elsewhere(asked: Settings, env: Mapping[str, str]) -> Iterator[str]:
    """A line for each base URL in `env` that is not what the gateway stands for.

    The key beside it would be sent to the usual host.
    """
    for name, (family, _) in BASE_URLS.items():
        provider = _OF_FAMILY.get(family)
        host = urlsplit(env.get(name, "")).hostname
        usual = asked.hosts.get(provider or "")
        if host and usual and host != usual and not is_local(host):
            yield (
                f"warning: {name} names {host}, but through the gateway the command calls {usual}; "
                f"to stay there, set providers.{provider}.network_config.base_url"
            )


def _usual_hosts(loaded: config.Config) -> Iterator[tuple[str, str]]:
    for name, provider in PROVIDERS.items():
        if provider.base_url and not loaded.providers.entry(name).network_config.base_url:
            yield name, Base.parse(provider.base_url).origin.host


def _prefix(loaded: config.Config, family: str) -> str:
    aliases: tuple[str, ...] = getattr(loaded.prefixes, family)
    return aliases[0] if loaded.prefixes.replace and aliases else PREFIXES[family]


def _secrets(loaded: config.Config) -> Iterator[str]:
    """The variables that credentials are taken from."""
    entries = [loaded.providers.entry(name) for name in PROVIDERS]
    keys = [key for entry in entries for key in entry.keys]
    keys += [key for route in loaded.routes for key in route.keys]
    references = [key.value for key in keys]
    references += [key.azure_key_config.client_secret for key in keys if key.azure_key_config]
    references += [key.vertex_key_config.auth_credentials for key in keys if key.vertex_key_config]
    references += [token.value for client in loaded.clients for token in client.tokens]
    for reference in references:
        if match := _REFERENCE.fullmatch(reference or ""):
            yield match[1] or match[2]


def merged(env: Mapping[str, str], changes: Variables) -> dict[str, str]:
    """An environment with variables set and removed."""
    kept = {name: value for name, value in env.items() if name not in changes}
    return kept | {name: value for name, value in changes.items() if value is not None}
