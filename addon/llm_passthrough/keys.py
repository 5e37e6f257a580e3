"""The keys of a configuration: looked up, checked, and what is wrong with them.

Every secret passes through here once, at start; from then on it is sealed.
"""

from collections.abc import Callable, Mapping

from pydantic import SecretStr

from llm_passthrough.config import AzureKey, KeyEntry, VertexKey
from llm_passthrough.errors import Findings
from llm_passthrough.keyring import Key
from llm_passthrough.providers.google import is_project, is_region
from llm_passthrough.redact import SHORTEST
from llm_passthrough.settings import USUAL_KEYS, SettingError, readable_by_others, secret, text
from llm_passthrough.tokens import TokenSource, azure_entra, google
from llm_passthrough.tokens.cache import Fetch

# The options of a key that only some providers know.
_BELONGS = {
    "azure_key_config": ("azure",),
    "vertex_key_config": ("vertex",),
    "organization": ("openai",),
    "project": ("openai", "vertex"),
}
_GOOGLE_SECRETS = ("private_key", "refresh_token", "client_secret")
_SUCH_AS = {
    "api_version": "2025-04-01-preview",
    "project_id": "my-project-1",
    "region": "us-central1 or global",
}


class Keys:
    """Makes keys; `secrets` are all that it has seen, `old` are keys that may stay."""

    def __init__(
        self, env: Mapping[str, str], findings: Findings, old: tuple[Key, ...] = ()
    ) -> None:
        self._env = env
        self._old = old
        self._findings = findings
        self.secrets: list[SecretStr] = []

    def of(self, place: str, provider: str, entries: tuple[KeyEntry, ...]) -> tuple[Key, ...]:
        """The keys of a provider that are turned on and of use."""
        keys: list[Key] = []
        for number, entry in enumerate(entries):
            if not entry.enabled or entry.models == ():
                continue
            name, where = name_of(entry, number), f"{place}.keys[{number}]"
            if any(key.name == name for key in keys):
                self._findings.fault(f"{where}.name", "taken by another key; choose another")
            self._check_belongs(where, provider, entry)
            key = self._key(where, provider, name, entry)
            if key is not None:
                keys.append(key)
        return tuple(keys)

    def _check_belongs(self, place: str, provider: str, entry: KeyEntry) -> None:
        for option, owners in _BELONGS.items():
            if getattr(entry, option) is not None and provider not in owners:
                self._findings.fault(
                    f"{place}.{option}", f"is for {' and '.join(owners)} only; remove it"
                )

    def _key(self, place: str, provider: str, name: str, entry: KeyEntry) -> Key | None:
        secret, token = self._secret(place, provider, name, entry)
        if secret is None and token is None:
            return None
        azure, vertex = entry.azure_key_config or AzureKey(), entry.vertex_key_config or VertexKey()
        at_azure, at_vertex = f"{place}.azure_key_config", f"{place}.vertex_key_config"
        oauth = provider == "vertex" and (token or self._is_oauth(vertex, entry.value or ""))
        key = Key(
            name,
            provider,
            secret,
            entry.weight,
            entry.models,
            entry.blacklisted_models,
            bearer=bool(oauth) or (provider == "azure" and token is not None),
            api_version=self._text(f"{at_azure}.api_version", azure.api_version, _is_version),
            project=self._text(f"{at_vertex}.project_id", vertex.project_id, is_project),
            region=self._text(f"{at_vertex}.region", vertex.region, is_region),
            account_headers=_account(provider, entry),
            token=token,
        )
        # A key that stays keeps its token, and the ring what was heard of it.
        return next((old for old in self._old if old == key), key)

    def _secret(
        self, place: str, provider: str, name: str, entry: KeyEntry
    ) -> tuple[SecretStr | None, TokenSource | None]:
        """A key's secret, or where its tokens come from; neither when something is wrong."""
        azure, vertex = entry.azure_key_config or AzureKey(), entry.vertex_key_config or VertexKey()
        if provider == "azure" and (not entry.value or azure.client_id or azure.client_secret):
            return None, self._entra(f"{place}.azure_key_config", name, azure)
        if provider == "vertex" and (not entry.value or vertex.auth_credentials):
            return None, self._google(f"{place}.vertex_key_config", name, vertex)
        if entry.value is None:
            variable = USUAL_KEYS.get(provider, ("NAME",))[0]
            self._findings.fault(
                f"{place}.value", f"is missing; such as env.{variable} or file:PATH"
            )
            return None, None
        value = self._resolved(f"{place}.value", entry.value, secret)
        if value is not None:
            self.secrets.append(value)
            self._warn_about(place, entry.value, value)
        return value, None

    def _entra(self, place: str, name: str, azure: AzureKey) -> TokenSource | None:
        if not azure_entra.installed():
            self._findings.fault(place, azure_entra.MISSING)
            return None
        scopes, label = azure.scopes or (azure_entra.SCOPE,), f"azure/{name}"
        own = [azure.tenant_id, azure.client_id, azure.client_secret]
        if not any(own):
            fetch = self._checked(place, lambda: azure_entra.default_chain(scopes))
            return fetch and TokenSource(label, fetch, scopes)
        tenant = self._resolved(f"{place}.tenant_id", azure.tenant_id or "", text)
        client = self._resolved(f"{place}.client_id", azure.client_id or "", text)
        value = self._resolved(f"{place}.client_secret", azure.client_secret or "", secret)
        if tenant is None or client is None or value is None:
            return None
        self.secrets.append(value)
        self._warn_of_readers(f"{place}.client_secret", azure.client_secret or "")
        fetch = self._checked(
            place, lambda: azure_entra.service_principal(tenant, client, value, scopes)
        )
        return fetch and TokenSource(label, fetch, (tenant, client, value, scopes))

    def _google(self, place: str, name: str, vertex: VertexKey) -> TokenSource | None:
        if not google.installed():
            self._findings.fault(place, google.MISSING)
            return None
        label = f"vertex/{name}"
        if not vertex.auth_credentials:
            return TokenSource(label, google.default_credentials(), "default")
        where = f"{place}.auth_credentials"
        content = self._resolved(where, vertex.auth_credentials, text)
        if content is None:
            return None
        self._warn_of_readers(where, vertex.auth_credentials)
        credentials = SecretStr(content)
        fetch = self._checked(where, lambda: google.from_info(credentials))
        if fetch is None:
            return None
        info = google.check(credentials)
        self.secrets.extend(SecretStr(info[part]) for part in _GOOGLE_SECRETS if info.get(part))
        return TokenSource(label, fetch, credentials)

    def _checked(self, place: str, make: Callable[[], Fetch]) -> Fetch | None:
        try:
            return make()
        except ValueError as error:
            self._findings.fault(place, str(error))
            return None

    def _resolved[T](
        self, place: str, reference: str, read: Callable[[str, Mapping[str, str]], T]
    ) -> T | None:
        try:
            return read(reference, self._env)
        except SettingError as error:
            self._findings.fault(place, str(error))
            return None

    def _text(self, place: str, reference: str | None, fits: Callable[[str], bool]) -> str | None:
        value = None if reference is None else self._resolved(place, reference, text)
        if value is not None and not fits(value):
            self._findings.fault(
                place, f"is not valid; such as {_SUCH_AS[place.rpartition('.')[2]]}"
            )
            return None
        return value

    def _warn_about(self, place: str, reference: str, value: SecretStr) -> None:
        self._warn_of_readers(f"{place}.value", reference)
        if len(value) < SHORTEST:
            self._findings.warn(
                f"{place}.value",
                f"shorter than {SHORTEST} characters, "
                "so that it is not looked for in recorded bodies",
            )

    def _warn_of_readers(self, place: str, reference: str) -> None:
        if path := readable_by_others(reference):
            self._findings.warn(place, f"other users can read {path}; chmod 600 it")

    def _is_oauth(self, vertex: VertexKey, reference: str) -> bool:
        if vertex.credential == "auto":
            return text(reference, self._env).startswith("ya29.")
        return vertex.credential == "oauth_token"


def name_of(entry: KeyEntry, number: int) -> str:
    """A key's name: its own, or one by its place."""
    return entry.name or f"key-{number + 1}"


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


def _is_version(value: str) -> bool:
    return value.isascii() and value.replace("-", "").isalnum()
