"""The parts of a gateway, made from the configuration: the only place where they meet it.

Everything that can be wrong is found here, before the first request.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console

from llm_passthrough import bus
from llm_passthrough.clients import Clients, Door, is_local
from llm_passthrough.config import Config
from llm_passthrough.errors import ConfigError, Findings
from llm_passthrough.forward import Forward, named
from llm_passthrough.hosts import Hosts
from llm_passthrough.identities import Identities, Known
from llm_passthrough.keys import name_of
from llm_passthrough.providers import PROVIDERS
from llm_passthrough.redact import Redactor
from llm_passthrough.retention import path_of, prune_jsonl
from llm_passthrough.routes import Route, Routes
from llm_passthrough.seal import plain
from llm_passthrough.settings import SettingError, readable_by_others
from llm_passthrough.sinks.console import ConsoleSink
from llm_passthrough.sinks.jsonl import Jsonl
from llm_passthrough.sinks.sqlite import Sqlite
from llm_passthrough.sinks.writer import Chore, Sink, Writer
from llm_passthrough.upstreams import Upstreams

_PREFIXES = {
    "openai": "/openai_passthrough",
    "anthropic": "/anthropic_passthrough",
    "azure": "/azure_passthrough",
    "genai": "/genai_passthrough",
}
_BEHIND = {"genai": ("gemini", "vertex")}
_RESERVED = frozenset({"/health"})


@dataclass(frozen=True, slots=True)
class Parts:
    """What a gateway works with; made anew as a whole when the configuration changes."""

    config: Config
    routes: Routes
    door: Door
    redactor: Redactor
    hosts: Hosts
    forward: Forward
    clients: Clients
    warnings: tuple[str, ...] = ()
    share: SecretStr | None = None
    """Where Redis is, by which machines tell each other; its password stands in it."""

    @property
    def own_ports(self) -> frozenset[int]:
        """The ports on which we answer ourselves."""
        return frozenset({self.config.listen.port, self.config.listen.web_port})


class Builder:
    """Collects the faults of one configuration while its parts are made."""

    def __init__(
        self, config: Config, env: Mapping[str, str], name: str, old: Parts | None = None
    ) -> None:
        self._config = config
        self._env = env
        self._name = name
        self._old = old
        table = old.routes.table if old else ()
        before = [upstream for route in table for upstream in route.upstreams]
        self._findings = Findings()
        self._upstreams = Upstreams(config, env, self._findings, before)
        self._identities = Identities(env, self._findings)

    def build(self) -> Parts:
        """All parts. Raises ConfigError with a line for each fault."""
        config = self._config
        self._check_listen()
        table = self._table()
        clients = self._identities.of(config.clients, self._known(table), config.log)
        share, hidden = self._share(config.share.redis)
        if faults := self._findings.faults:
            raise ConfigError(*(f"{self._name}: {fault}" for fault in faults))
        secrets = (*self._upstreams.keys.secrets, *self._identities.secrets, *hidden)
        return Parts(
            config,
            Routes.of(tuple(table)),
            Door.of(
                (config.listen.host, *config.listen.allowed_hosts), config.listen.allowed_origins
            ),
            # What is open still holds the secrets of the configuration before.
            Redactor(plain(secrets), self._old.redactor if self._old else None),
            Hosts.of(table),
            self._forward(),
            clients,
            tuple(f"{self._name}: {warning}" for warning in self._findings.warnings),
            share,
        )

    def _share(self, reference: str | None) -> tuple[SecretStr | None, list[SecretStr]]:
        """Where Redis is, and what of it is a secret."""
        place = "share.redis"
        if reference is None:
            return None, []
        if not bus.installed():
            self._findings.fault(place, bus.MISSING)
        if path := readable_by_others(reference):
            self._findings.warn(place, f"other users can read {path}; chmod 600 it")
        try:
            return bus.url_of(reference, self._env)
        except SettingError as error:
            self._findings.fault(place, str(error))
            return None, []

    def _known(self, table: Iterable[Route]) -> Known:
        """What the rules for a client may name; a key that is switched off has a name too."""
        providers = [*PROVIDERS, *(up.provider.name for route in table for up in route.upstreams)]
        entries = [self._config.providers.entry(name).keys for name in PROVIDERS]
        entries += [route.keys for route in self._config.routes]
        keys = {name_of(key, number) for some in entries for number, key in enumerate(some)}
        return Known({route.prefix for route in table}, frozenset(providers), keys)

    def _check_listen(self) -> None:
        if not self._config.clients and not is_local(self._config.listen.host):
            self._findings.fault(
                "listen.host",
                "only loopback (127.0.0.1, ::1) without clients: "
                "whoever reaches the port would use your keys; configure clients with tokens",
            )

    def _forward(self) -> Forward:
        forward = self._config.forward
        other = forward.other or ("block" if self._config.clients else "tunnel")
        return Forward(other, forward.plain_http, frozenset(map(named, forward.allow_private)))

    def _table(self) -> list[Route]:
        """All routes; each prefix and each provider's name stands for one thing."""
        table: list[Route] = []
        prefixes = set(_RESERVED)
        for place, route in (*self._provider_routes(), *self._own_routes()):
            if route.prefix in prefixes:
                self._findings.fault(place, f"the prefix {route.prefix} is taken; choose another")
            prefixes.add(route.prefix)
            table.append(route)
        return table

    def _provider_routes(self) -> Iterator[tuple[str, Route]]:
        aliases = self._config.prefixes
        for name, prefix in _PREFIXES.items():
            more: tuple[str, ...] = getattr(aliases, name)
            prefixes = more if aliases.replace and more else (prefix, *more)
            upstreams = tuple(map(self._upstreams.of_provider, _BEHIND.get(name, (name,))))
            yield from ((f"prefixes.{name}", Route(prefix, upstreams)) for prefix in prefixes)

    def _own_routes(self) -> Iterator[tuple[str, Route]]:
        names = set(PROVIDERS)
        for number, entry in enumerate(self._config.routes):
            place = f"routes[{number}]"
            name = entry.name or entry.prefix.strip("/").replace("/", "-").lower()
            if name in names:
                self._findings.fault(
                    f"{place}.name", f"the name {name} is taken; give another name"
                )
            names.add(name)
            upstream = self._upstreams.of_route(place, name, entry)
            yield f"{place}.prefix", Route(entry.prefix, (upstream,))


def build(config: Config, env: Mapping[str, str], name: str, old: Parts | None = None) -> Parts:
    """The parts for a configuration; `name` stands before each fault. Raises ConfigError.

    With the `old` parts, keys that stay the same keep their tokens and their rest.
    """
    return Builder(config, env, name, old).build()


def log_path(config: Config) -> Path:
    """Where the records go."""
    return Path(config.log.path).expanduser()


def writer_of(parts: Parts, console: Console | None, *more: Sink, worker: int = 1) -> Writer:
    """A writer to the configured files, to `console` if there is one, and to `more` sinks.

    Each `worker` has a JSONL file of its own; the first one removes what is too old, of all.
    Raises ConfigError when a file cannot be had.
    """
    log, path = parts.config.log, log_path(parts.config)
    age = None if log.keep_days is None else log.keep_days * 86_400
    own = path_of(path, worker)
    sinks: list[Sink] = [Jsonl(own, log.rotate_bytes, log.rotate_hours * 3600)]
    chores: list[Chore] = []
    beside: dict[str, Callable[[], str]] = {}
    if worker == 1 and (age is not None or log.keep_bytes is not None):
        chores.append(("jsonl", partial(_prune, path, age, log.keep_bytes)))
    if log.sqlite is not None:
        database = Sqlite(Path(log.sqlite).expanduser(), log=own)
        sinks.append(database)
        beside["sqlite"] = database.state
        if chores:
            chores.append(("sqlite", lambda: database.prune(age, log.keep_bytes, time.time())))
    if console is not None:
        sinks.append(ConsoleSink(console))
    sinks.extend(more)
    return Writer(
        sinks,
        parts.redactor,
        log.queue,
        prices=parts.config.prices,
        chores=chores,
        refused_per_minute=log.refused_per_minute,
        beside=beside,
    )


def _prune(path: Path, age: float | None, most: int | None) -> object:
    return prune_jsonl(path.parent, path.stem, age, most, time.time(), path.suffix)
