"""The parts of a gateway, made from the configuration: the only place where they meet it.

Everything that can be wrong is found here, before the first request.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from llm_passthrough import wire
from llm_passthrough.clients import Door, is_loopback
from llm_passthrough.config import Config, KeyEntry, Network, RouteEntry
from llm_passthrough.errors import ConfigError
from llm_passthrough.keyring import Key, KeyRing
from llm_passthrough.providers import PROVIDERS, Base, Origin, Provider, generic
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
        table = [*self._provider_routes(), *(self._own_route(i) for i in self._route_numbers())]
        self._check_prefixes(table)
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

    def _route_numbers(self) -> range:
        return range(len(self._config.routes))

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

    def _check_prefixes(self, table: list[Route]) -> None:
        seen: set[str] = set(_RESERVED)
        for route in table:
            if route.prefix in seen:
                self._fault("routes", f"the prefix {route.prefix} is taken; choose another")
            seen.add(route.prefix)

    def _provider_routes(self) -> Iterator[Route]:
        aliases = self._config.prefixes
        for name, prefix in _PREFIXES.items():
            more: tuple[str, ...] = getattr(aliases, name)
            prefixes = more if aliases.replace and more else (prefix, *more)
            upstreams = tuple(map(self._upstream, _BEHIND.get(name, (name,))))
            yield from (Route(prefix, upstreams) for prefix in prefixes)

    def _upstream(self, name: str) -> Upstream:
        entry = self._config.providers.entry(name)
        place = f"providers.{name}"
        provider = PROVIDERS[name]
        keys = self._keys(place, name, entry.keys)
        endpoints = {
            key.name: base
            for key in keys
            if key.endpoint
            and (base := self._base(f"{place}.keys", key.endpoint, entry.network_config))
        }
        variables = " or ".join(USUAL_KEYS[name])
        if name == "azure":
            variables += " and AZURE_OPENAI_ENDPOINT"
        mend = f"set {variables}, or add a key under providers.{name}.keys"
        ring = KeyRing(name, keys, mend)
        forward = entry.client_credentials == "forward"
        return self._assembled(place, provider, ring, entry.network_config, forward, endpoints)

    def _own_route(self, number: int) -> Route:
        entry: RouteEntry = self._config.routes[number]
        place = f"routes[{number}]"
        name = entry.name or entry.prefix.strip("/").replace("/", "-").lower()
        provider = generic(name, entry.upstream, entry.dialect, entry.auth.header, entry.auth.form)
        keys = self._keys(place, name, entry.keys)
        ring = KeyRing(name, keys, f"add a key under {place}.keys")
        network = entry.network_config
        # A route without keys is for an API that asks for none, such as a local server.
        return Route(entry.prefix, (self._assembled(place, provider, ring, network, not keys, {}),))

    def _assembled(
        self,
        place: str,
        provider: Provider,
        ring: KeyRing,
        network: Network,
        forward: bool,
        endpoints: Mapping[str, Base],
    ) -> Upstream:
        url = network.base_url or provider.base_url
        base = self._base(f"{place}.network_config.base_url", url, network) if url else None
        timeouts = self._config.timeouts
        return Upstream(
            provider,
            ring,
            base,
            network.default_request_timeout_in_seconds or timeouts.first_byte,
            network.stream_idle_timeout_in_seconds or timeouts.idle,
            forward,
            self._extra_headers(place, network),
            endpoints,
        )

    def _base(self, place: str, url: str, network: Network) -> Base | None:
        try:
            base = Base.parse(text(url, self._env))
        except ValueError as error:
            self._fault(place, str(error))
            return None
        if base.origin.scheme == "http" and not network.allow_http and not _is_local(base.origin):
            self._fault(place, "http:// would send the key in clear; use https://, or allow_http")
            return None
        listen = self._config.listen
        if _is_local(base.origin) and base.origin.port in (listen.port, listen.web_port):
            self._fault(place, "this is the gateway's own address; name the provider's")
            return None
        return base

    def _extra_headers(self, place: str, network: Network) -> tuple[tuple[bytes, bytes], ...]:
        for name in network.extra_headers:
            if name.lower().encode() in wire.CREDENTIALS:
                self._fault(
                    f"{place}.network_config.extra_headers",
                    f"{name} carries a credential; put it under keys",
                )
        return tuple((n.encode(), v.encode()) for n, v in network.extra_headers.items())

    def _keys(self, place: str, provider: str, entries: tuple[KeyEntry, ...]) -> tuple[Key, ...]:
        keys: list[Key] = []
        for number, entry in enumerate(entries):
            if not entry.enabled or entry.models == ():
                continue
            name = entry.name or f"key-{number + 1}"
            if any(key.name == name for key in keys):
                self._fault(f"{place}.keys[{number}].name", "taken by another key; choose another")
            key = self._key(f"{place}.keys[{number}]", provider, name, entry)
            if key is not None:
                keys.append(key)
        return tuple(keys)

    def _key(self, place: str, provider: str, name: str, entry: KeyEntry) -> Key | None:
        if entry.value is None:
            self._fault(f"{place}.value", "is missing; such as env.OPENAI_API_KEY or file:PATH")
            return None
        try:
            value = secret(entry.value, self._env)
        except SettingError as error:
            self._fault(f"{place}.value", str(error))
            return None
        self.secrets.append(value)
        self._warn_about(place, entry.value, value)
        azure, vertex = entry.azure_key_config, entry.vertex_key_config
        return Key(
            name,
            provider,
            value,
            entry.weight,
            entry.models,
            entry.blacklisted_models,
            bearer=provider == "vertex" and self._is_token(entry, value),
            endpoint=azure.endpoint if azure else None,
            api_version=self._text(place, azure.api_version if azure else None),
            project=self._text(place, vertex.project_id if vertex else None),
            region=self._text(place, vertex.region if vertex else None),
            account_headers=_account(provider, entry),
        )

    def _text(self, place: str, reference: str | None) -> str | None:
        if reference is None:
            return None
        try:
            value = text(reference, self._env)
        except SettingError as error:
            self._fault(place, str(error))
            return None
        if not _is_plain(value):
            self._fault(place, "an option has characters that no URL takes as they are")
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

    def _is_token(self, entry: KeyEntry, value: SecretStr) -> bool:
        kind = entry.vertex_key_config.credential if entry.vertex_key_config else "auto"
        if kind == "auto":
            return wire.plain([value])[0].startswith("ya29.")
        return kind == "oauth_token"


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


def _is_plain(value: str) -> bool:
    return value.isascii() and all(c.isalnum() or c in "-._:" for c in value)
