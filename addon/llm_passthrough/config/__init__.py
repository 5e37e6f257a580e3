"""The configuration file: read, checked, and given as a Config with its warnings."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from llm_passthrough import bifrost
from llm_passthrough.config.faults import lines
from llm_passthrough.config.models import (
    AzureKey,
    ClientEntry,
    Config,
    KeyEntry,
    Limits,
    Log,
    Network,
    ProviderEntry,
    Providers,
    RouteEntry,
    Timeouts,
    VertexKey,
)
from llm_passthrough.config.reading import document_of, source_of
from llm_passthrough.errors import ConfigError
from llm_passthrough.settings import is_reference, others_can_read, usual_providers

__all__ = [
    "AzureKey",
    "ClientEntry",
    "Config",
    "KeyEntry",
    "Limits",
    "Log",
    "Network",
    "ProviderEntry",
    "RouteEntry",
    "Timeouts",
    "VertexKey",
    "load",
    "parse",
]


def load(path: Path | None, env: Mapping[str, str]) -> tuple[Config, list[str]]:
    """The configuration and its warnings; without a file, the usual variables make it.

    Raises ConfigError whose lines name the file, the place and the mend.
    """
    if path is None:
        return parse({"providers": usual_providers(env)}, "environment")
    source = source_of(path)
    config, warnings = parse(document_of(path, source), str(path), source)
    if _holds_secrets(config) and others_can_read(path):
        warnings.append(f"{path}: other users can read it and it holds keys; chmod 600 it")
    return config, warnings


def parse(document: object, name: str, source: str = "") -> tuple[Config, list[str]]:
    """A parsed document made into a Config; `name` (and the line) stands before each fault."""
    if not isinstance(document, dict):
        place = f"{name}:1" if source else name
        raise ConfigError(f"{place}: the file must be a mapping of options, such as `providers:`")
    document, ignored = bifrost.without(document, frozenset(Config.model_fields))
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise ConfigError(*lines(error, Config, name, source)) from None
    if ignored:
        return config, [f"{name}: not used by this gateway: {', '.join(ignored)}"]
    return config, []


def _holds_secrets(config: Config) -> bool:
    entries = [config.providers.entry(name) for name in Providers.model_fields]
    keys = [key for entry in entries for key in entry.keys]
    keys += [key for route in config.routes for key in route.keys]
    return any(key.value and not is_reference(key.value) for key in keys)
