"""The configuration file: its models, and how a fault in it is told.

The names below `providers` are those of Bifrost's config.json, so that its part loads as it is.
A fault is one line with its place and its mend; a value is never quoted, it may be a secret.
"""

import difflib
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.tokens import AliasToken, TagToken

from llm_passthrough import bifrost
from llm_passthrough.errors import ConfigError
from llm_passthrough.settings import is_reference, others_can_read, usual_providers

_MAX_FILE = 1 << 20
_MAX_ALIASES = 64
_MAX_FAULTS = 20
# An unknown name that does not look like an option's may be a secret that slipped.
_NAME = re.compile(r"[A-Za-z_.$-]{1,32}")


def _fits(pattern: str, words: str) -> AfterValidator:
    """Text that a pattern fits as a whole; `words` say what is right."""
    fits = re.compile(pattern).fullmatch

    def check(text: str) -> str:
        if fits(text) is None:
            raise ValueError(words)
        return text

    return AfterValidator(check)


type Seconds = Annotated[float, Field(gt=0, le=86_400)]
type Bytes = Annotated[int, Field(ge=0, le=1 << 40)]
type Capture = Literal["none", "usage", "full"]
type Prefix = Annotated[
    str,
    _fits(
        r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+",
        "must be a path of letters, digits, '-' and '_' without a last slash, such as /my_api",
    ),
]
type HeaderName = Annotated[
    str,
    _fits(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", "must be a header name without spaces, such as X-Team"),
]
type HeaderValue = Annotated[str, _fits(r"[ -~]*", "must be printable ASCII on one line")]
type FilePath = Annotated[
    str, _fits(r"[^\x00-\x1f\x7f\ud800-\udfff]+", "must be the path of a file")
]
type KeyName = Annotated[
    str,
    _fits(r"[!-~]([ -~]{0,62}[!-~])?", "must be 1 to 64 printable ASCII characters"),
]
type RouteName = Annotated[
    str,
    _fits(
        r"[a-z][a-z0-9_-]{0,31}",
        "must begin with a small letter; then small letters, digits, '-' and '_', 32 at most",
    ),
]
type HostName = Annotated[
    str,
    _fits(
        r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?",
        "must be a host name without scheme and port, such as gateway.local",
    ),
]
type WebOrigin = Annotated[
    str,
    _fits(
        r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?",
        "must be one origin in small letters without a path, such as http://localhost:3000",
    ),
]


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
    name: RouteName | None = None
    keys: tuple[KeyEntry, ...] = ()
    auth: Auth = Auth()
    dialect: Literal["openai", "anthropic", "google"] = "openai"
    network_config: Network = Network()


class Listen(Section):
    """Where the gateway listens, and as whom it lets itself be addressed."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    web_port: Annotated[int, Field(ge=0, le=65_535)] = 8081
    allowed_hosts: tuple[HostName, ...] = ()
    allowed_origins: tuple[WebOrigin, ...] = ()


class Log(Section):
    """What is recorded, and where."""

    path: FilePath = "~/.llm-passthrough/records.jsonl"
    capture: Capture = "full"
    body_limit: Bytes = 1 << 20
    rotate_bytes: Annotated[int, Field(ge=4096)] = 100 << 20
    rotate_hours: Annotated[float, Field(gt=0, le=87_600)] = 24.0
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


def load(path: Path | None, env: Mapping[str, str]) -> tuple[Config, list[str]]:
    """The configuration and its warnings; without a file, the usual variables make it.

    Raises ConfigError whose lines name the file, the place and the mend.
    """
    if path is None:
        return parse({"providers": usual_providers(env)}, "environment")
    source = _source(path)
    config, warnings = parse(_yaml(path, source), str(path), source)
    if _holds_secrets(config) and others_can_read(path):
        warnings.append(f"{path}: other users can read it and it holds keys; chmod 600 it")
    return config, warnings


def parse(document: object, name: str, source: str = "") -> tuple[Config, list[str]]:
    """A parsed document made into a Config; `name` (and the line) stands before each fault."""
    if not isinstance(document, dict):
        raise ConfigError(f"{name}: the file must be a mapping of options, such as `providers:`")
    document, ignored = bifrost.without(document, frozenset(Config.model_fields))
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise ConfigError(*_lines(error, name, source)) from None
    if ignored:
        return config, [f"{name}: not used by this gateway: {', '.join(ignored)}"]
    return config, []


def _source(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > _MAX_FILE:
        raise ConfigError(f"{path}: larger than {_MAX_FILE} bytes; is this the right file?")
    try:
        source = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from None
    if not source.strip():
        raise ConfigError(f"{path}:1: the file is empty; see gateway.example.yaml")
    return source


class _Constructor(SafeConstructor):
    """YAML's safe types but for dates: no option is one, and api_version looks like one."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def _yaml(path: Path, source: str) -> object:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        _check_tokens(path, yaml, source)
        return yaml.load(StringIO(source))
    except DuplicateKeyError as error:
        mark = error.problem_mark or error.context_mark
        name = _name_at(source, mark.index)
        raise ConfigError(
            f"{path}:{mark.line + 1}: {name} stands twice in this part; keep one"
        ) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(
            f"{path}:{mark.line + 1}:{mark.column + 1}: not valid YAML: {_yaml_problem(error)}"
        ) from None
    except ReaderError as error:
        line = source.count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}:{line}: a control character; remove it") from None
    except RecursionError:
        raise ConfigError(f"{path}:1: not valid YAML: nested too deeply") from None
    except (YAMLError, ValueError):
        raise ConfigError(f"{path}:1: not valid YAML") from None


def _check_tokens(path: Path, yaml: YAML, source: str) -> None:
    """Refuse what could grow or make objects, before anything is built from it."""
    aliases = 0
    for token in yaml.scan(StringIO(source)):
        line = token.start_mark.line + 1
        if isinstance(token, TagToken):
            raise ConfigError(f"{path}:{line}: a tag (such as !!python); remove it")
        aliases += isinstance(token, AliasToken)
        if aliases > _MAX_ALIASES:
            raise ConfigError(f"{path}:{line}: more than {_MAX_ALIASES} aliases; write them out")


# What ruamel says, by its beginning, and what helps.
_YAML_MENDS = {
    "found undefined alias": "an alias (*name) without its anchor; put the text in quotes",
    "but found another document": "a second document begins here (---); keep one",
    "mapping values are not allowed": "a ':' where none may stand; put the text in quotes",
    "found unknown escape": "an unknown escape after a backslash; use single quotes",
    "found unexpected end of stream": "the text in quotes that began above has no end",
}


def _yaml_problem(error: MarkedYAMLError) -> str:
    # What stands in quotes in ruamel's texts may be a value; a tab is the one that helps.
    problem = str(error.problem or error.context or "see this line")
    if "'\\t'" in problem:
        return "a tab; indent with spaces"
    if problem.startswith("found character"):
        return "a character that begins no plain text; put the text in quotes"
    mend = next((mend for said, mend in _YAML_MENDS.items() if problem.startswith(said)), None)
    return mend or re.split(r"['\"]", problem)[0].strip()


def _name_at(source: str, index: int) -> str:
    found = _NAME.match(source, index + (source[index] in "\"'"))
    return found[0].rstrip(".") if found else "an option"


def _lines(error: ValidationError, name: str, source: str) -> list[str]:
    root = YAML(typ="safe", pure=True).compose(StringIO(source)) if source else None
    faults = error.errors(include_url=False)
    lines = [
        f"{name}{_line(root, fault['loc'])}: {_place(fault)}: {_mend(fault)}"
        for fault in faults[:_MAX_FAULTS]
    ]
    if len(faults) > _MAX_FAULTS:
        lines.append(f"{name}: and {len(faults) - _MAX_FAULTS} more faults")
    return lines


def _line(root: Any, loc: tuple[int | str, ...]) -> str:
    """`:LINE` of the deepest node of the YAML tree that `loc` names; nothing without a tree."""
    if root is None:
        return ""
    node, line = root, root.start_mark.line
    for part in loc:
        if isinstance(node, MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == part), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line, pair[1]
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
    return f":{line + 1}"


def _place(fault: Any) -> str:
    """Where a fault is, such as `providers.openai.keys[0].name`."""
    loc = [part for part in fault["loc"] if part != "[key]"]
    if fault["type"] == "invalid_key" or (_is_unknown(fault) and not _NAME.fullmatch(loc[-1])):
        loc = loc[:-1]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return place.lstrip(".") or "the file"


_MENDS = {
    "missing": "is missing",
    "string_type": "must be text; put it in quotes",
    "tuple_type": "must be a list, such as [a, b]",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of options",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "invalid_key": "an option's name is text; put it in quotes",
}


def _mend(fault: Any) -> str:
    if _is_unknown(fault):
        *parents, name = fault["loc"]
        if not _NAME.fullmatch(name):
            return "unknown option, not shown here as it may be a secret"
        near = difflib.get_close_matches(name, sorted(_options(tuple(parents))), 1)
        return "unknown option" + (f"; did you mean {near[0]}?" if near else "")
    if fault["input"] is None and fault["type"] != "invalid_key":
        return "is empty; give it a value, or remove it"
    message: str = fault["msg"].removeprefix("Value error, ")
    return _MENDS.get(fault["type"], message.replace("Input should", "must"))


def _is_unknown(fault: Any) -> bool:
    return bool(fault["type"] == "extra_forbidden")


def _holds_secrets(config: Config) -> bool:
    providers = [config.providers.entry(name) for name in Providers.model_fields]
    keys = [key for entry in (*providers, *config.routes) for key in entry.keys]
    return any(key.value and not is_reference(key.value) for key in keys)


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
