"""Secret references and the usual environment variables: where values come from.

A reference is `env.NAME`, `${NAME}`, `file:PATH` or the plain value. No function here ever
puts a value into an error: it names the variable or the file, and what would be right.
"""

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

_ENV = re.compile(r"env\.([A-Za-z_][A-Za-z0-9_]*)|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# A misspelt reference would go to the provider as if it were the key.
_ALMOST = ("env.", "env:", "$")
# RFC 9110 5.5 allows more in a header value; no provider's key uses it, an attacker would.
_KEY = re.compile(r"[!-~]+")
_PLACEHOLDERS = frozenset(
    "changeme change-me your-api-key your_api_key xxx todo llm-passthrough-placeholder".split()
)


class SettingError(ValueError):
    """A reference that cannot be resolved; the text names it and holds no value."""


def text(reference: str, env: Mapping[str, str]) -> str:
    """The text behind a reference. Raises SettingError that names the variable or file."""
    if match := _ENV.fullmatch(reference):
        name = match[1] or match[2]
        value = env.get(name, "")
        if not value:
            raise SettingError(f"the environment variable {name} is not set, or empty; set it")
        return value
    if reference.startswith(_ALMOST):
        raise SettingError("names no environment variable; write env.NAME or ${NAME}")
    if reference.startswith("file:"):
        return _file(reference.removeprefix("file:"))
    return reference


def secret(reference: str, env: Mapping[str, str]) -> SecretStr:
    """A credential behind a reference, checked so that it cannot break a header.

    Raises SettingError for what is unset, empty, a placeholder, or not printable ASCII
    without white space (a line break would end the header and begin another).
    """
    value = text(reference, env)
    where = _origin(reference)
    if not value:
        raise SettingError(f"{where} is empty; give a key")
    if value.lower() in _PLACEHOLDERS:
        raise SettingError(f"{where} is a placeholder; give a real key")
    if not _KEY.fullmatch(value):
        raise SettingError(
            f"{where} has white space, a line break or a non-ASCII character; "
            "a key is printable ASCII without spaces"
        )
    return SecretStr(value)


def is_reference(value: str) -> bool:
    """Whether a value says where a secret is instead of being one."""
    return value.startswith("file:") or _ENV.fullmatch(value) is not None


def readable_by_others(reference: str) -> str | None:
    """The path behind a `file:` reference when other users of this machine can read it."""
    if not reference.startswith("file:"):
        return None
    path = Path(reference.removeprefix("file:")).expanduser()
    return str(path) if others_can_read(path) else None


def others_can_read(path: Path) -> bool:
    """Whether a file is readable by its group or by everybody."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return bool(mode & (stat.S_IRGRP | stat.S_IROTH))


def _origin(reference: str) -> str:
    if match := _ENV.fullmatch(reference):
        return f"the environment variable {match[1] or match[2]}"
    if reference.startswith("file:"):
        return f"the file {reference.removeprefix('file:')}"
    return "the value"


def _file(name: str) -> str:
    path = Path(name).expanduser()
    try:
        # The one line break that editors and `echo` put at the end is no part of the key.
        return path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise SettingError(f"cannot read the file {path}: {reason}") from None


# The usual variables, one key each (first name that is set wins).
USUAL_KEYS: dict[str, tuple[str, ...]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "azure": ("AZURE_OPENAI_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "vertex": ("VERTEX_API_KEY",),
}


def usual_providers(env: Mapping[str, str]) -> dict[str, object]:
    """The `providers` part of a configuration that the usual variables amount to."""
    providers: dict[str, object] = {}
    for provider, names in USUAL_KEYS.items():
        name = next((name for name in names if env.get(name)), None)
        if name is not None:
            providers[provider] = {"keys": [{"name": name, "value": f"env.{name}"}]}
    _add_azure(providers, env)
    _add_vertex(providers, env)
    return {provider: entry for provider, entry in providers.items() if entry}


def _add_azure(providers: dict[str, Any], env: Mapping[str, str]) -> None:
    """The endpoint, without which there is no key; with it alone, the machine's identity."""
    if not env.get("AZURE_OPENAI_ENDPOINT"):
        providers.pop("azure", None)
        return
    config = _references(env, endpoint="AZURE_OPENAI_ENDPOINT", api_version="OPENAI_API_VERSION")
    entry = providers.setdefault("azure", {"keys": [{"name": "entra"}]})
    if "value" not in entry["keys"][0] and not env.get("AZURE_TENANT_ID"):
        providers.pop("azure")  # an endpoint alone does not say that its identity is to be used
        return
    entry["keys"][0]["azure_key_config"] = config


def _add_vertex(providers: dict[str, Any], env: Mapping[str, str]) -> None:
    """Project and location; with both, and no express key, the default credentials."""
    config = _references(env, project_id="GOOGLE_CLOUD_PROJECT", region="GOOGLE_CLOUD_LOCATION")
    if "vertex" not in providers and len(config) == 2:
        providers["vertex"] = {"keys": [{"name": "google"}]}
    if "vertex" in providers and config:
        providers["vertex"]["keys"][0]["vertex_key_config"] = config


def _references(env: Mapping[str, str], **options: str) -> dict[str, str]:
    return {option: f"env.{name}" for option, name in options.items() if env.get(name)}
