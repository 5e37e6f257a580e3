"""The parts of a gateway, made from the configuration: the only place where they meet it.

Everything that can be wrong is found here, before the first request.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from llm_passthrough.clients import Clients, Door, is_local
from llm_passthrough.config import Config, Network, ProviderEntry, RouteEntry
from llm_passthrough.errors import ConfigError, Findings
from llm_passthrough.forward import Forward, named
from llm_passthrough.hosts import Hosts
from llm_passthrough.identities import Identities
from llm_passthrough.keyring import Key, KeyRing
from llm_passthrough.keys import Keys, name_of
from llm_passthrough.providers import PROVIDERS, Base, Provider, generic
from llm_passthrough.redact import Redactor
from llm_passthrough.retention import prune_jsonl
from llm_passthrough.routes import Route, Routes, Upstream
from llm_passthrough.seal import plain
from llm_passthrough.settings import USUAL_KEYS, text
from llm_passthrough.sinks.console import ConsoleSink
from llm_passthrough.sinks.jsonl import Jsonl
from llm_passthrough.sinks.sqlite import Sqlite
from llm_passthrough.sinks.writer import Chore, Sink, Writer
from llm_passthrough.wire import CREDENTIALS

_PREFIXES = {
    "openai": "/openai_passthrough",
    "anthropic": "/anthropic_passthrough",
    "azure": "/azure_passthrough",
    "genai": "/genai_passthrough",
}
_BEHIND = {"genai": ("gemini", "vertex")}
_RESERVED = frozenset({"/health"})
_VARIABLES = {name: " or ".join(names) for name, names in USUAL_KEYS.items()}
_VARIABLES["azure"] += " and AZURE_OPENAI_ENDPOINT"
# They frame or route a message: a second one would say something else than ours.
_NOT_FREE = frozenset(
    "host content-length transfer-encoding connection upgrade te trailer expect".split()
)


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
        self._before = {up.provider.name: up for route in table for up in route.upstreams}
        self._findings = Findings()
        known = tuple(key for upstream in self._before.values() for key in upstream.ring.keys)
        self._keys = Keys(env, self._findings, known)
        self._identities = Identities(env, self._findings)

    def build(self) -> Parts:
        """All parts. Raises ConfigError with a line for each fault."""
        config = self._config
        self._check_listen()
        table = self._table()
        clients = self._identities.of(config.clients)
        if faults := self._findings.faults:
            raise ConfigError(*(f"{self._name}: {fault}" for fault in faults))
        secrets = (*self._keys.secrets, *self._identities.secrets)
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
        )

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
            upstreams = tuple(map(self._upstream, _BEHIND.get(name, (name,))))
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
            yield f"{place}.prefix", self._own_route(place, name, entry)

    def _upstream(self, name: str) -> Upstream:
        entry = self._config.providers.entry(name)
        place = f"providers.{name}"
        provider = PROVIDERS[name]
        keys = self._keys.of(place, name, entry.keys)
        ring = KeyRing(name, keys, f"set {_VARIABLES[name]}, or add a key under {place}.keys")
        network = entry.network_config
        url = network.base_url or provider.base_url
        upstream = replace(
            self._assembled(place, provider, ring, network),
            base=self._base(f"{place}.network_config.base_url", url, network) if url else None,
            endpoints=self._endpoints(place, entry),
            forward=entry.client_credentials == "forward",
        )
        return self._remembering(upstream)

    def _remembering(self, upstream: Upstream) -> Upstream:
        """The upstream, which knows what was heard of the keys that stay, and stay where they
        were."""
        if (old := self._before.get(upstream.provider.name)) is not None:
            for key in upstream.ring.keys:
                stays = any(key is known for known in old.ring.keys)
                moved = _base_of(old, key) != _base_of(upstream, key)
                if stays and not moved and (state := old.ring.states.get(key.name)):
                    upstream.ring.states[key.name] = state
        return upstream

    def _own_route(self, place: str, name: str, entry: RouteEntry) -> Route:
        header, network = entry.auth.header, entry.network_config
        if _spelt(header) in _NOT_FREE:
            self._findings.fault(
                f"{place}.auth.header", f"{header} cannot carry a key; name another"
            )
        if network.base_url:
            self._findings.fault(
                f"{place}.network_config.base_url", "write it as the route's upstream"
            )
        provider = generic(name, entry.upstream, entry.dialect, header, entry.auth.form)
        keys = self._keys.of(place, name, entry.keys)
        ring = KeyRing(name, keys, f"add a key under {place}.keys")
        upstream = replace(
            self._assembled(place, provider, ring, network),
            base=self._base(f"{place}.upstream", entry.upstream, network),
            # For an API that asks for no key, such as a local server.
            keyless=not entry.keys,
        )
        return Route(entry.prefix, (self._remembering(upstream),))

    def _assembled(
        self, place: str, provider: Provider, ring: KeyRing, network: Network
    ) -> Upstream:
        timeouts = self._config.timeouts
        return Upstream(
            provider,
            ring,
            None,
            network.default_request_timeout_in_seconds or timeouts.first_byte,
            network.stream_idle_timeout_in_seconds or timeouts.idle,
            extra_headers=self._extra_headers(f"{place}.network_config.extra_headers", network),
        )

    def _endpoints(self, place: str, entry: ProviderEntry) -> dict[str, Base]:
        """The base URL of each key that has its own, by the key's name."""
        endpoints: dict[str, Base] = {}
        for number, key in enumerate(entry.keys):
            url = key.azure_key_config.endpoint if key.azure_key_config else None
            where = f"{place}.keys[{number}].azure_key_config.endpoint"
            if key.enabled and url and (base := self._base(where, url, entry.network_config)):
                endpoints[name_of(key, number)] = base
        return endpoints

    def _base(self, place: str, url: str, network: Network) -> Base | None:
        try:
            base = Base.parse(text(url, self._env))
        except ValueError as error:
            self._findings.fault(place, str(error))
            return None
        local = is_local(base.origin.host)
        if base.origin.scheme == "http" and not network.allow_http and not local:
            self._findings.fault(
                place, "http:// would send the key in clear; use https://, or set allow_http"
            )
            return None
        listen = self._config.listen
        if local and base.origin.port in (listen.port, listen.web_port):
            self._findings.fault(place, "this is the gateway's own address; name the provider's")
            return None
        return base

    def _extra_headers(self, place: str, network: Network) -> tuple[tuple[bytes, bytes], ...]:
        for name in network.extra_headers:
            if _spelt(name).encode() in CREDENTIALS:
                self._findings.fault(place, f"{name} carries a credential; put it under keys")
            elif _spelt(name) in _NOT_FREE:
                self._findings.fault(place, f"{name} belongs to the connection; remove it")
        return tuple((n.encode(), v.encode()) for n, v in network.extra_headers.items())


def build(config: Config, env: Mapping[str, str], name: str, old: Parts | None = None) -> Parts:
    """The parts for a configuration; `name` stands before each fault. Raises ConfigError.

    With the `old` parts, keys that stay the same keep their tokens and their rest.
    """
    return Builder(config, env, name, old).build()


def log_path(config: Config) -> Path:
    """Where the records go."""
    return Path(config.log.path).expanduser()


def writer_of(parts: Parts, console: Console | None, *more: Sink) -> Writer:
    """A writer to the configured files, to `console` if there is one, and to `more` sinks.

    Raises ConfigError when a file cannot be had.
    """
    log, path = parts.config.log, log_path(parts.config)
    age = None if log.keep_days is None else log.keep_days * 86_400
    sinks: list[Sink] = [Jsonl(path, log.rotate_bytes, log.rotate_hours * 3600)]
    chores: list[Chore] = []
    if age is not None or log.keep_bytes is not None:
        chores.append(("jsonl", partial(_prune, path, age, log.keep_bytes)))
    if log.sqlite is not None:
        database = Sqlite(Path(log.sqlite).expanduser())
        sinks.append(database)
        if chores:
            chores.append(("sqlite", lambda: database.prune(age, log.keep_bytes, time.time())))
    if console is not None:
        sinks.append(ConsoleSink(console))
    sinks.extend(more)
    return Writer(sinks, parts.redactor, log.queue, prices=parts.config.prices, chores=chores)


def _prune(path: Path, age: float | None, most: int | None) -> object:
    return prune_jsonl(path.parent, path.stem, age, most, time.time(), path.suffix)


def _base_of(upstream: Upstream, key: Key) -> Base | None:
    return upstream.endpoints.get(key.name, upstream.base)


def _spelt(header: str) -> str:
    """A header's name as a lenient server would read it."""
    return header.lower().replace("_", "-")
