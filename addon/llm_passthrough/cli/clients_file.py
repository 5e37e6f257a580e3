"""Changes the clients of a configuration file in place: its comments, order and mode stay.

The new text is checked as a start would check it before it takes the place of the old one, in one
step, so that a running gateway reads the one or the other.
"""

import contextlib
import hashlib
import io
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.util import load_yaml_guess_indent

from llm_passthrough import config
from llm_passthrough.clients import is_local
from llm_passthrough.config.reading import document_of, source_of
from llm_passthrough.config.words import moment
from llm_passthrough.errors import ConfigError

type Change = Callable[[list[Any]], None]

_WIDE = 1 << 16
_MARK = "llmp_"  # by which scanners, and people, know what leaked
_BYTES = 32


class NoChangeError(Exception):
    """What was asked for cannot be done: one line, no value."""


def new_token() -> tuple[str, str]:
    """A token that nobody guesses, and what the file holds of it."""
    token = _MARK + secrets.token_urlsafe(_BYTES)
    return token, f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"


def change(path: Path, how: Change) -> config.Config:
    """Change the list of clients; the configuration as it is now.

    Raises ConfigError where the file is wrong, or would be; it then stays as it was. References
    are not resolved: the gateway's environment may be another one.
    """
    path = path.resolve()
    before = source_of(path)
    text = _changed(path, before, how)
    settings, _ = config.parse(document_of(path, text), str(path), text)
    if not settings.clients and not is_local(settings.listen.host):
        raise ConfigError(f"{path}: without clients only loopback may be listened on (listen.host)")
    if source_of(path) != before:
        raise ConfigError(f"{path}: somebody else changed it meanwhile; try again")
    _replace(path, text)
    return settings


def find(clients: list[Any], name: str) -> Any:
    """The entry of a client. Raises NoChangeError."""
    for client in clients:
        if client.get("name") == name:
            return client
    names = ", ".join(str(client.get("name")) for client in clients) or "none"
    raise NoChangeError(f"no client has this name; there are: {names}")


def add(name: str, hashed: str, expires: str | None) -> Change:
    """A new client with one token. Raises NoChangeError for a name that is taken."""

    def how(clients: list[Any]) -> None:
        if any(client.get("name") == name for client in clients):
            raise NoChangeError("a client has this name; `clients rotate` makes it another token")
        token = hashed if expires is None else {"value": hashed, "expires": expires}
        clients.append({"name": name, "tokens": [token]})

    return how


def rotate(name: str, hashed: str, last_day: date | None) -> Change:
    """One more token for a client; the others end with that day, if there is one."""

    def how(clients: list[Any]) -> None:
        tokens = find(clients, name)["tokens"]
        if last_day is not None:
            tokens[:] = [_ending(token, last_day) for token in tokens]
        tokens.append(hashed)

    return how


def drop_old(name: str) -> Change:
    """The newest token of a client alone stays."""

    def how(clients: list[Any]) -> None:
        tokens = find(clients, name)["tokens"]
        del tokens[:-1]

    return how


def remove(name: str) -> Change:
    """A client is no more."""

    def how(clients: list[Any]) -> None:
        clients.remove(find(clients, name))

    return how


def _ending(token: Any, last_day: date) -> dict[str, Any]:
    """A token that ends with that day, or before, as it did."""
    entry = dict(token) if isinstance(token, Mapping) else {"value": token}
    ends = [last_day.isoformat()]
    if entry.get("expires") is not None:
        ends.append(str(entry["expires"]))
    return entry | {"expires": min(ends, key=moment)}


def _changed(path: Path, source: str, how: Change) -> str:
    """The text with other clients: JSON stays JSON, YAML keeps its comments."""
    config.parse(document_of(path, source), str(path), source)  # what is wrong already is told
    with contextlib.suppress(ValueError):
        document = json.loads(source)
        how(document.setdefault("clients", []))
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    lines = source.replace("\r\n", "\n")
    _, indent, offset = load_yaml_guess_indent(io.StringIO(lines))
    yaml = YAML(typ="rt")
    yaml.preserve_quotes, yaml.width = True, _WIDE
    yaml.indent(mapping=2, sequence=indent or 4, offset=2 if offset is None else offset)
    document = yaml.load(lines)
    how(document.setdefault("clients", []))
    if not document["clients"]:
        del document["clients"]
    out = io.StringIO()
    yaml.dump(document, out)
    text = out.getvalue()
    return text.replace("\n", "\r\n") if "\r\n" in source else text


def _replace(path: Path, text: str) -> None:
    """Write a file anew in one step, with the mode and the owner that it had."""
    status = path.stat()
    try:
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fchmod(file.fileno(), status.st_mode & 0o7777)
                with contextlib.suppress(OSError):
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
                os.fsync(file.fileno())
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
