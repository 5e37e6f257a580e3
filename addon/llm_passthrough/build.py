"""The parts of a gateway, made from the configuration: the only place where they meet it.

Everything that can be wrong is found here, before the first request.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr

from llm_passthrough import wire
from llm_passthrough.clients import Door, is_loopback
from llm_passthrough.config import (
    AzureKey,
    Config,
    KeyEntry,
    Network,
    ProviderEntry,
    RouteEntry,
    VertexKey,
)
from llm_passthrough.errors import ConfigError
from llm_passthrough.keyring import Key, KeyRing
from llm_passthrough.providers import PROVIDERS, Base, Origin, Provider, generic
from llm_passthrough.providers.google import is_project, is_region
from llm_passthrough.redact import SHORTEST, Redactor
from llm_passthrough.routes import Route, Routes, Upstream
from llm_passthrough.settings import USUAL_KEYS, SettingError, readable_by_others, secret, text

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
# The options of a key that only some providers know.
_BELONGS = {
    "azure_key_config": ("azure",),
    "vertex_key_config": ("vertex",),
    "organization": ("openai",),
    "project": ("openai", "vertex"),
}
_SUCH_AS = {
    "api_version": "2025-04-01-preview",
    "project_id": "my-project-1",
    "region": "us-central1 or global",
}
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
    warnings: tuple[str, ...] = ()


class Builder:
    """Collects the faults of one configuration while its parts are made."""

    def __init__(self, config: Config, env: Mapping[str, str], name: str) -> None:
        self._config = config
        self._env = env
        self._name = name
        self._faults: list[str] = []
        self.warnings: list[str] = []
        self.secrets: list[SecretStr] = []

    def build(self) -> Parts:
        """All parts. Raises ConfigError with a line for each fault."""
        config = self._config
        self._check_listen()
        table = self._table()
        if self._faults:
            raise ConfigError(*(f"{self._name}: {fault}" for fault in self._faults))
        return Parts(
            config,
            Routes.of(tuple(table)),
            Door.of(
                (config.listen.host, *config.listen.allowed_hosts), config.listen.allowed_origins
            ),
            Redactor(wire.plain(self.secrets)),
            tuple(f"{self._name}: {warning}" for warning in self.warnings),
        )

    def _fault(self, place: str, text: str) -> None:
        self._faults.append(f"{place}: {text}")

    def _check_listen(self) -> None:
        host = self._config.listen.host
        if host != "localhost" and not is_loopback(host):
            self._fault(
                "listen.host",
                "only loopback (127.0.0.1, ::1) while no client tokens can be configured: "
                "whoever reaches the port would use your keys",
            )

    def _table(self) -> list[Route]:
        """All routes; each prefix and each provider's name stands for one thing."""
        table: list[Route] = []
        prefixes = set(_RESERVED)
        for place, route in (*self._provider_routes(), *self._own_routes()):
            if route.prefix in prefixes:
                self._fault(place, f"the prefix {route.prefix} is taken; choose another")
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
                self._fault(f"{place}.name", f"the name {name} is taken; give another name")
            names.add(name)
            yield f"{place}.prefix", self._own_route(place, name, entry)

    def _upstream(self, name: str) -> Upstream:
        entry = self._config.providers.entry(name)
        place = f"providers.{name}"
        provider = PROVIDERS[name]
        keys = self._keys(place, name, entry.keys)
        ring = KeyRing(name, keys, f"set {_VARIABLES[name]}, or add a key under {place}.keys")
        url = entry.network_config.base_url or provider.base_url
        upstream = self._assembled(place, provider, ring, entry.network_config)
        return replace(
            upstream,
            base=url and self._base(f"{place}.network_config.base_url", url, entry.network_config),
            endpoints=self._endpoints(place, entry),
            forward=entry.client_credentials == "forward",
        )

    def _own_route(self, place: str, name: str, entry: RouteEntry) -> Route:
        header, network = entry.auth.header, entry.network_config
        if _spelt(header) in _NOT_FREE:
            self._fault(f"{place}.auth.header", f"{header} cannot carry a key; name another")
        if network.base_url:
            self._fault(f"{place}.network_config.base_url", "write it as the route's upstream")
        provider = generic(name, entry.upstream, entry.dialect, header, entry.auth.form)
        ring = KeyRing(name, self._keys(place, name, entry.keys), f"add a key under {place}.keys")
        upstream = replace(
            self._assembled(place, provider, ring, network),
            base=self._base(f"{place}.upstream", entry.upstream, network),
            # For an API that asks for no key, such as a local server.
            keyless=not entry.keys,
        )
        return Route(entry.prefix, (upstream,))

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
                endpoints[_name(key, number)] = base
        return endpoints

    def _base(self, place: str, url: str, network: Network) -> Base | None:
        try:
            base = Base.parse(text(url, self._env))
        except ValueError as error:
            self._fault(place, str(error))
            return None
        if base.origin.scheme == "http" and not network.allow_http and not _is_local(base.origin):
            self._fault(
                place, "http:// would send the key in clear; use https://, or set allow_http"
            )
            return None
        listen = self._config.listen
        if _is_local(base.origin) and base.origin.port in (listen.port, listen.web_port):
            self._fault(place, "this is the gateway's own address; name the provider's")
            return None
        return base

    def _extra_headers(self, place: str, network: Network) -> tuple[tuple[bytes, bytes], ...]:
        for name in network.extra_headers:
            if _spelt(name).encode() in wire.CREDENTIALS:
                self._fault(place, f"{name} carries a credential; put it under keys")
            elif _spelt(name) in _NOT_FREE:
                self._fault(place, f"{name} belongs to the connection; remove it")
        return tuple((n.encode(), v.encode()) for n, v in network.extra_headers.items())

    def _keys(self, place: str, provider: str, entries: tuple[KeyEntry, ...]) -> tuple[Key, ...]:
        keys: list[Key] = []
        for number, entry in enumerate(entries):
            if not entry.enabled or entry.models == ():
                continue
            name, where = _name(entry, number), f"{place}.keys[{number}]"
            if any(key.name == name for key in keys):
                self._fault(f"{where}.name", "taken by another key; choose another")
            self._check_belongs(where, provider, entry)
            key = self._key(where, provider, name, entry)
            if key is not None:
                keys.append(key)
        return tuple(keys)

    def _check_belongs(self, place: str, provider: str, entry: KeyEntry) -> None:
        for option, owners in _BELONGS.items():
            if getattr(entry, option) is not None and provider not in owners:
                self._fault(f"{place}.{option}", f"is for {' and '.join(owners)} only; remove it")

    def _key(self, place: str, provider: str, name: str, entry: KeyEntry) -> Key | None:
        if entry.value is None:
            variable = USUAL_KEYS.get(provider, ("NAME",))[0]
            self._fault(f"{place}.value", f"is missing; such as env.{variable} or file:PATH")
            return None
        try:
            value = secret(entry.value, self._env)
        except SettingError as error:
            self._fault(f"{place}.value", str(error))
            return None
        self.secrets.append(value)
        self._warn_about(place, entry.value, value)
        azure, vertex = entry.azure_key_config or AzureKey(), entry.vertex_key_config or VertexKey()
        at_azure, at_vertex = f"{place}.azure_key_config", f"{place}.vertex_key_config"
        return Key(
            name,
            provider,
            value,
            entry.weight,
            entry.models,
            entry.blacklisted_models,
            bearer=provider == "vertex" and self._is_token(vertex, value),
            api_version=self._text(f"{at_azure}.api_version", azure.api_version, _is_version),
            project=self._text(f"{at_vertex}.project_id", vertex.project_id, is_project),
            region=self._text(f"{at_vertex}.region", vertex.region, is_region),
            account_headers=_account(provider, entry),
        )

    def _text(self, place: str, reference: str | None, fits: Callable[[str], bool]) -> str | None:
        if reference is None:
            return None
        try:
            value = text(reference, self._env)
        except SettingError as error:
            self._fault(place, str(error))
            return None
        if not fits(value):
            self._fault(place, f"is none; such as {_SUCH_AS[place.rpartition('.')[2]]}")
            return None
        return value

    def _warn_about(self, place: str, reference: str, value: SecretStr) -> None:
        if path := readable_by_others(reference):
            self.warnings.append(f"{place}.value: other users can read {path}; chmod 600 it")
        if len(wire.plain([value])[0]) < SHORTEST:
            self.warnings.append(
                f"{place}.value: shorter than {SHORTEST} characters, "
                "so that it is not looked for in recorded bodies"
            )

    def _is_token(self, vertex: VertexKey, value: SecretStr) -> bool:
        if vertex.credential == "auto":
            return wire.plain([value])[0].startswith("ya29.")
        return vertex.credential == "oauth_token"


def build(config: Config, env: Mapping[str, str], name: str) -> Parts:
    """The parts for a configuration; `name` stands before each fault. Raises ConfigError."""
    return Builder(config, env, name).build()


def log_path(config: Config) -> Path:
    """Where the records go."""
    return Path(config.log.path).expanduser()


def _account(provider: str, entry: KeyEntry) -> tuple[tuple[bytes, bytes], ...]:
    """The headers that name the key's own account."""
    names = {
        "openai": (
            (b"OpenAI-Organization", entry.organization),
            (b"OpenAI-Project", entry.project),
        ),
        "vertex": ((b"x-goog-user-project", entry.project),),
    }
    return tuple((n, value.encode()) for n, value in names.get(provider, ()) if value)


def _is_local(origin: Origin) -> bool:
    return origin.host == "localhost" or is_loopback(origin.host)


def _name(entry: KeyEntry, number: int) -> str:
    return entry.name or f"key-{number + 1}"


def _is_version(value: str) -> bool:
    return value.isascii() and value.replace("-", "").isalnum()


def _spelt(header: str) -> str:
    """A header's name as a lenient server would read it."""
    return header.lower().replace("_", "-")
