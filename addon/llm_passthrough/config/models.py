"""The options of the configuration file: what there is, its types and its defaults.

The names below `providers` are those of Bifrost's config.json, so that its part loads as it is.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from llm_passthrough.config.words import (
    Bytes,
    Capture,
    ClientName,
    FilePath,
    HeaderName,
    HeaderValue,
    HostName,
    KeyName,
    Moment,
    Money,
    PerMinute,
    Prefix,
    Rate,
    RouteName,
    Seconds,
    Section,
    WebOrigin,
)


class AzureKey(Section):
    """What belongs to one Azure OpenAI resource.

    With a client id, secret and tenant the key is an Entra ID application; without these and
    without a value it is whatever identity this machine has.
    """

    endpoint: str | None = None
    api_version: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    tenant_id: str | None = None
    scopes: tuple[str, ...] = ()


class VertexKey(Section):
    """What belongs to one Google Cloud project.

    `auth_credentials` is the content of a Google credentials file; without these and without a
    value the key is the application default credentials.
    """

    project_id: str | None = None
    region: str | None = None
    auth_credentials: str | None = None
    credential: Literal["auto", "api_key", "oauth_token"] = "auto"


class KeyEntry(Section):
    """One credential: its value is a reference (env.NAME, ${NAME}, file:PATH) or plain."""

    name: KeyName | None = None
    value: str | None = None
    models: tuple[str, ...] = ("*",)
    blacklisted_models: tuple[str, ...] = ()
    weight: Annotated[float, Field(ge=0, le=1_000_000)] = 1.0
    enabled: bool = True
    organization: HeaderValue | None = None
    project: HeaderValue | None = None
    azure_key_config: AzureKey | None = None
    vertex_key_config: VertexKey | None = None


class Network(Section):
    """How a provider is reached."""

    base_url: str | None = None
    allow_http: bool = False
    extra_headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    default_request_timeout_in_seconds: Seconds | None = None
    stream_idle_timeout_in_seconds: Seconds | None = None


class ProviderEntry(Section):
    """One of the five providers."""

    keys: tuple[KeyEntry, ...] = ()
    network_config: Network = Network()
    client_credentials: Literal["strip", "forward"] = "strip"


class Providers(Section):
    """The five providers that this gateway knows by name."""

    openai: ProviderEntry = ProviderEntry()
    anthropic: ProviderEntry = ProviderEntry()
    azure: ProviderEntry = ProviderEntry()
    gemini: ProviderEntry = ProviderEntry()
    vertex: ProviderEntry = ProviderEntry()

    def entry(self, name: str) -> ProviderEntry:
        """The entry of a provider by its name."""
        entry: ProviderEntry = getattr(self, name)
        return entry

    @field_validator("azure")
    @classmethod
    def _azure_never_forwards(cls, entry: ProviderEntry) -> ProviderEntry:
        if entry.client_credentials == "forward":
            raise ValueError("client_credentials: forward is refused for azure; remove it")
        return entry


class Auth(Section):
    """How a route of the configuration sends its key."""

    header: HeaderName = "Authorization"
    form: HeaderValue = "Bearer {key}"

    @field_validator("form")
    @classmethod
    def _has_place(cls, form: str) -> str:
        if form.count("{key}") != 1:
            raise ValueError("must contain {key} exactly once")
        return form


class RouteEntry(Section):
    """A route of your own: a prefix in front of any HTTP API."""

    prefix: Prefix
    upstream: str
    name: RouteName | None = None
    keys: tuple[KeyEntry, ...] = ()
    auth: Auth = Auth()
    dialect: Literal["openai", "anthropic", "google"] = "openai"
    network_config: Network = Network()


class Listen(Section):
    """Where the gateway listens, in how many processes, and as whom it lets itself be addressed."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    web_port: Annotated[int, Field(ge=0, le=65_535)] = 8081
    workers: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = 1
    allowed_hosts: tuple[HostName, ...] = ()
    allowed_origins: tuple[WebOrigin, ...] = ()


class Forward(Section):
    """What clients reach that know this gateway as their proxy (HTTP_PROXY, HTTPS_PROXY).

    `other` is for hosts that no route stands for; by default they are tunnelled, and blocked
    where clients have to name themselves.
    """

    other: Literal["block", "tunnel", "inspect"] | None = None
    plain_http: Literal["refuse", "upgrade"] = "refuse"
    allow_private: tuple[HostName, ...] = ()


class TokenEntry(Section):
    """A client's token: a reference, or sha256:HEX; `expires` is a day (its end, UTC) or a time."""

    value: str
    expires: Moment | None = None


class Budget(Section):
    """What a client may spend, in US dollars; days and months are those of UTC.

    `unpriced` is what a call counts whose price is not known.
    """

    daily: Money | None = None
    monthly: Money | None = None
    unpriced: Money = 0.0


Token = Annotated[TokenEntry, BeforeValidator(lambda v: {"value": v} if type(v) is str else v)]


class ClientEntry(Section):
    """Somebody who may call, known by any of his tokens, and what he may use."""

    name: ClientName
    tokens: Annotated[tuple[Token, ...], Field(min_length=1)]
    enabled: bool = True
    routes: tuple[str, ...] = ("*",)
    providers: tuple[str, ...] = ("*",)
    models: tuple[str, ...] = ("*",)
    blacklisted_models: tuple[str, ...] = ()
    keys: tuple[str, ...] = ("*",)
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    budget: Budget = Budget()
    capture: Capture | None = None


type Number = Annotated[int, Field(ge=1, le=1_000_000)]


class Log(Section):
    """What is recorded, and where."""

    path: FilePath = "~/.llm-passthrough/records.jsonl"
    capture: Capture = "full"
    body_limit: Bytes = 1 << 20
    rotate_bytes: Annotated[int, Field(ge=4096)] = 100 << 20
    rotate_hours: Annotated[float, Field(gt=0, le=87_600)] = 24.0
    keep_days: Annotated[float, Field(gt=0, le=36_500)] | None = None
    keep_bytes: Bytes | None = None
    sqlite: FilePath | None = None
    queue: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    required: bool = False
    refused_per_minute: Number = 1000


class Share(Section):
    """By what gateways on several machines tell each other: a URL, or a reference to one."""

    redis: str | None = None


class Timeouts(Section):
    """How long the gateway waits, for a provider and for a client; in seconds."""

    connect: Seconds = 10.0
    token: Seconds = 30.0
    first_byte: Seconds = 600.0
    idle: Seconds = 300.0
    total: Seconds | None = None
    request_head: Seconds = 30.0
    request_body: Seconds = 60.0
    keep_alive: Seconds = 600.0


class Shutdown(Section):
    """How the gateway ends; in seconds."""

    drain_seconds: Annotated[float, Field(ge=0, le=86_400)] = 5.0


class Limits(Section):
    """Sizes, in bytes, and numbers."""

    request_buffer: Bytes = 8 << 20
    response_buffer: Bytes = 1 << 20
    request_line: Annotated[int, Field(ge=64, le=1 << 20)] = 16 << 10
    request_head: Annotated[int, Field(ge=1024, le=1 << 20)] = 64 << 10
    request_headers: Annotated[int, Field(ge=16, le=10_000)] = 100
    request_body: Bytes = 4 << 30
    websocket_message: Annotated[int, Field(ge=1024, le=1 << 30)] = 32 << 20
    requests: Number = 1000
    requests_per_client: Number = 500
    connections: Number = 2000


class Aliases(Section):
    """Other names for the four prefixes; the old ones stop when `replace` says so."""

    openai: tuple[Prefix, ...] = ()
    anthropic: tuple[Prefix, ...] = ()
    azure: tuple[Prefix, ...] = ()
    genai: tuple[Prefix, ...] = ()
    replace: bool = False


type Price = dict[Rate, Annotated[float, Field(ge=0)]]


class Config(Section):
    """The whole file."""

    listen: Listen = Listen()
    clients: tuple[ClientEntry, ...] = ()
    forward: Forward = Forward()
    providers: Providers = Providers()
    prefixes: Aliases = Aliases()
    routes: tuple[RouteEntry, ...] = ()
    log: Log = Log()
    share: Share = Share()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    shutdown: Shutdown = Shutdown()
    console: Literal["auto", "on", "off"] = "auto"
    prices: dict[str, Price] = Field(default_factory=dict)
