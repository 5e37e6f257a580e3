"""The configuration file: its models, and how a fault in it is told.

The names below `providers` are those of Bifrost's config.json, so that its part loads as it is.
A fault is one line with its place and its mend; a value is never quoted, it may be a secret.
"""

import difflib
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode
from ruamel.yaml.tokens import AliasToken

from llm_passthrough.errors import ConfigError
from llm_passthrough.settings import usual_providers

_MAX_FILE = 1 << 20
_MAX_ALIASES = 64

type Seconds = Annotated[float, Field(gt=0, le=86_400)]
type Bytes = Annotated[int, Field(ge=0, le=1 << 40)]
type Capture = Literal["none", "usage", "full"]
type Prefix = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*$")]
type HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
type HeaderValue = Annotated[str, Field(pattern=r"^[ -~]*$")]


class Section(BaseModel):
    """A part of the file: unknown options are faults, inputs never stand in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class AzureKey(Section):
    """What belongs to one Azure OpenAI resource."""

    endpoint: str | None = None
    api_version: str | None = None


class VertexKey(Section):
    """What belongs to one Google Cloud project."""

    project_id: str | None = None
    region: str | None = None
    credential: Literal["auto", "api_key", "oauth_token"] = "auto"


class KeyEntry(Section):
    """One credential: its value is a reference (env.NAME, ${NAME}, file:PATH) or plain."""

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    value: str | None = None
    models: tuple[str, ...] = ("*",)
    blacklisted_models: tuple[str, ...] = ()
    weight: Annotated[float, Field(ge=0)] = 1.0
    enabled: bool = True
    organization: HeaderValue | None = None
    project: HeaderValue | None = None
    azure_key_config: AzureKey | None = None
    vertex_key_config: VertexKey | None = None


class Network(Section):
    """How a provider is reached."""

    base_url: str | None = None
    allow_http: bool = False
    extra_headers: dict[HeaderName, HeaderValue] = {}
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
    name: str | None = Field(None, pattern=r"^[a-z][a-z0-9_-]{0,31}$")
    keys: tuple[KeyEntry, ...] = ()
    auth: Auth = Auth()
    dialect: Literal["openai", "anthropic", "google"] = "openai"
    network_config: Network = Network()


class Listen(Section):
    """Where the gateway listens, and as whom it lets itself be addressed."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    web_port: Annotated[int, Field(ge=0, le=65_535)] = 8081
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()


class Log(Section):
    """What is recorded, and where."""

    path: str = "~/.llm-passthrough/records.jsonl"
    capture: Capture = "full"
    body_limit: Bytes = 1 << 20
    rotate_bytes: Annotated[int, Field(ge=4096)] = 100 << 20
    rotate_hours: Annotated[float, Field(gt=0)] = 24.0
    queue: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    required: bool = False


class Timeouts(Section):
    """How long the gateway waits for a provider; in seconds."""

    connect: Seconds = 10.0
    first_byte: Seconds = 600.0
    idle: Seconds = 300.0


class Limits(Section):
    """Sizes, in bytes."""

    request_buffer: Bytes = 8 << 20
    response_buffer: Bytes = 1 << 20


class Aliases(Section):
    """Other names for the four prefixes; the old ones stop when `replace` says so."""

    openai: tuple[Prefix, ...] = ()
    anthropic: tuple[Prefix, ...] = ()
    azure: tuple[Prefix, ...] = ()
    genai: tuple[Prefix, ...] = ()
    replace: bool = False


class Config(Section):
    """The whole file."""

    listen: Listen = Listen()
    providers: Providers = Providers()
    prefixes: Aliases = Aliases()
    routes: tuple[RouteEntry, ...] = ()
    log: Log = Log()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    console: Literal["auto", "on", "off"] = "auto"


# The other top-level parts of a Bifrost config.json: named in one warning, never an error.
_BIFROST_PARTS = frozenset(
    "$schema encryption_key client framework mcp vector_store config_store logs_store "
    "governance plugins auth_config cluster_config saml_config load_balancer_config "
    "guardrails_config audit_logs websocket".split()
)
_BIFROST_PROVIDERS = frozenset(
    "bedrock cerebras cohere elevenlabs groq huggingface mistral nebius ollama openrouter "
    "parasail perplexity replicate sgl vllm xai".split()
)
_BIFROST_PROVIDER_OPTIONS = frozenset(
    "concurrency_and_buffer_size proxy_config send_back_raw_request "
    "send_back_raw_response custom_provider_config pricing_overrides "
    "store_raw_request_response".split()
)
_BIFROST_NETWORK_OPTIONS = frozenset(
    "max_retries retry_backoff_initial retry_backoff_max retry_backoff_initial_ms "
    "retry_backoff_max_ms insecure_skip_verify ca_cert_pem".split()
)


def load(path: Path | None, env: Mapping[str, str]) -> tuple[Config, list[str]]:
    """The configuration and its warnings; without a file, the usual variables make it.

    Raises ConfigError whose lines name the file, the place and the mend.
    """
    if path is None:
        return parse({"providers": usual_providers(env)}, "environment")
    source = _source(path)
    return parse(_yaml(path, source), str(path), source)


def parse(document: object, name: str, source: str = "") -> tuple[Config, list[str]]:
    """A parsed document made into a Config; `name` (and the line) stands before each fault."""
    if not isinstance(document, dict):
        raise ConfigError(f"{name}: the file must be a mapping of options, such as `providers:`")
    document, ignored = _without_bifrost(document)
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise ConfigError(*_lines(error, name, source)) from None
    if ignored:
        return config, [f"{name}: not used by this gateway: {', '.join(ignored)}"]
    return config, []


def _source(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > _MAX_FILE:
        raise ConfigError(f"{path}: larger than {_MAX_FILE} bytes; is this the right file?")
    try:
        source = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None
    if not source.strip():
        raise ConfigError(f"{path}: the file is empty; see gateway.example.yaml")
    return source


def _yaml(path: Path, source: str) -> object:
    yaml = YAML(typ="safe", pure=True)
    try:
        tokens: Iterator[object] = yaml.scan(StringIO(source))
        if sum(isinstance(token, AliasToken) for token in tokens) > _MAX_ALIASES:
            raise ConfigError(f"{path}: more than {_MAX_ALIASES} aliases; write them out")
        return yaml.load(StringIO(source))
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError(f"{path}:{line}: this option stands here twice; keep one") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(f"{place}: not valid YAML: {_yaml_problem(error)}") from None
    except (YAMLError, RecursionError, ValueError):
        raise ConfigError(f"{path}: not valid YAML") from None


def _yaml_problem(error: MarkedYAMLError) -> str:
    # ruamel quotes tags and single characters only; anything else in quotes could be a value.
    problem = str(error.problem or error.context or "see this line")
    if "constructor for the tag" in problem:
        return "tags such as !!python are not allowed"
    return problem.split("'")[0].strip() + (" a tab" if "'\\t'" in problem else "")


def _without_bifrost(document: dict[Any, Any]) -> tuple[dict[Any, Any], list[str]]:
    """The document without the parts of a Bifrost file that have no meaning here, and these."""
    ignored = [str(part) for part in document if part in _BIFROST_PARTS]
    document = {part: value for part, value in document.items() if part not in _BIFROST_PARTS}
    providers = document.get("providers")
    if isinstance(providers, dict):
        kept = {}
        for name, entry in providers.items():
            if name in _BIFROST_PROVIDERS:
                ignored.append(f"providers.{name}")
                continue
            kept[name] = _provider_without_bifrost(f"providers.{name}", entry, ignored)
        document["providers"] = kept
    return document, ignored


def _provider_without_bifrost(place: str, entry: object, ignored: list[str]) -> object:
    if not isinstance(entry, dict):
        return entry
    entry = _drop(place, entry, _BIFROST_PROVIDER_OPTIONS, ignored)
    network = entry.get("network_config")
    if isinstance(network, dict):
        place = f"{place}.network_config"
        entry["network_config"] = _drop(place, network, _BIFROST_NETWORK_OPTIONS, ignored)
    return entry


def _drop(
    place: str, section: dict[Any, Any], names: frozenset[str], ignored: list[str]
) -> dict[Any, Any]:
    ignored.extend(f"{place}.{name}" for name in section if name in names)
    return {name: value for name, value in section.items() if name not in names}


def _lines(error: ValidationError, name: str, source: str) -> list[str]:
    root = YAML(typ="safe", pure=True).compose(StringIO(source)) if source else None
    return [
        f"{name}{_line(root, fault['loc'])}: {_place(fault['loc'])}: {_mend(fault)}"
        for fault in error.errors(include_url=False, include_input=False)
    ]


def _line(node: Any, loc: tuple[int | str, ...]) -> str:
    """`:LINE` of the deepest node of the YAML tree that `loc` names, or nothing."""
    line = ""
    for part in loc:
        if isinstance(node, MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == part), None)
            if pair is None:
                break
            line, node = f":{pair[0].start_mark.line + 1}", pair[1]
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = f":{node.start_mark.line + 1}"
    return line


def _place(loc: tuple[int | str, ...]) -> str:
    place = ""
    for part in loc:
        if part == "[key]":
            continue
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    return place.lstrip(".") or "the file"


def _mend(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        *parents, name = fault["loc"]
        near = difflib.get_close_matches(str(name), sorted(_options(tuple(parents))), 1)
        return "unknown option" + (f"; did you mean {near[0]}?" if near else "")
    message: str = fault["msg"].removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _options(parents: tuple[int | str, ...]) -> set[str]:
    """The names of the options that may stand at a place of the file."""
    model: Any = Config
    for part in parents:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if model else None
        model = _section(field.annotation) if field else None
    return set(model.model_fields) if model else set()


def _section(annotation: Any) -> Any:
    """The Section inside an annotation such as `tuple[KeyEntry, ...]` or `AzureKey | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _section(arg))), None)
