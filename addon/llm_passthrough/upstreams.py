"""Where requests go and with which keys: the upstreams, made from the configuration."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from llm_passthrough.clients import is_local
from llm_passthrough.config import Config, Network, ProviderEntry, RouteEntry
from llm_passthrough.errors import Findings
from llm_passthrough.keyring import Key, KeyRing
from llm_passthrough.keys import Keys, name_of
from llm_passthrough.providers import PROVIDERS, Base, Provider, generic
from llm_passthrough.routes import Upstream
from llm_passthrough.settings import USUAL_KEYS, text
from llm_passthrough.wire import CREDENTIALS

_VARIABLES = {name: " or ".join(names) for name, names in USUAL_KEYS.items()}
_VARIABLES["azure"] += " and AZURE_OPENAI_ENDPOINT"
# They frame or route a message: a second one would say something else than ours.
_NOT_FREE = frozenset(
    "host content-length transfer-encoding connection upgrade te trailer expect".split()
)


class Upstreams:
    """Makes them; `before` are those of the configuration that this one takes the place of."""

    def __init__(
        self,
        config: Config,
        env: Mapping[str, str],
        findings: Findings,
        before: Iterable[Upstream] = (),
    ) -> None:
        self._config = config
        self._env = env
        self._findings = findings
        self._before = {upstream.provider.name: upstream for upstream in before}
        known = tuple(key for upstream in self._before.values() for key in upstream.ring.keys)
        self.keys = Keys(env, findings, known)

    def of_provider(self, name: str) -> Upstream:
        """The upstream of one of the five providers."""
        entry = self._config.providers.entry(name)
        place = f"providers.{name}"
        provider = PROVIDERS[name]
        keys = self.keys.of(place, name, entry.keys)
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
        """The upstream, which knows what is heard of the keys that stay, and stay where they
        were: also what answers to requests say that are still under way."""
        if (old := self._before.get(upstream.provider.name)) is not None:
            for key in upstream.ring.keys:
                stays = any(key is known for known in old.ring.keys)
                moved = _base_of(old, key) != _base_of(upstream, key)
                if stays and not moved:
                    upstream.ring.share(old.ring, key)
        return upstream

    def of_route(self, place: str, name: str, entry: RouteEntry) -> Upstream:
        """The upstream of a route of the configuration."""
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
        keys = self.keys.of(place, name, entry.keys)
        ring = KeyRing(name, keys, f"add a key under {place}.keys")
        upstream = replace(
            self._assembled(place, provider, ring, network),
            base=self._base(f"{place}.upstream", entry.upstream, network),
            # For an API that asks for no key, such as a local server.
            keyless=not entry.keys,
        )
        return self._remembering(upstream)

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
            token=timeouts.token,
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


def _base_of(upstream: Upstream, key: Key) -> Base | None:
    return upstream.endpoints.get(key.name, upstream.base)


def _spelt(header: str) -> str:
    """A header's name as a lenient server would read it."""
    return header.lower().replace("_", "-")
