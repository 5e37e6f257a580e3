"""What a command finds in its environment so that it calls the gateway: tables and a function.

Programs take a base URL from a variable, or a proxy, or neither; both ways are opened, so that a
program needs no change. What each of them obeys was measured with the programs themselves.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePath
from types import MappingProxyType
from urllib.parse import quote

PLACEHOLDER = "llm-passthrough-placeholder"
PREFIXES: Mapping[str, str] = MappingProxyType(
    {
        "openai": "/openai_passthrough",
        "anthropic": "/anthropic_passthrough",
        "azure": "/azure_passthrough",
        "genai": "/genai_passthrough",
    }
)
# Variable: the route's family, and what its clients want behind the prefix.
BASE_URLS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "OPENAI_BASE_URL": ("openai", "/v1"),
        "OPENAI_API_BASE": ("openai", "/v1"),  # older OpenAI SDKs, LiteLLM, aider
        "ANTHROPIC_BASE_URL": ("anthropic", ""),
        "ANTHROPIC_API_BASE": ("anthropic", ""),  # LiteLLM, aider
        "ANTHROPIC_FOUNDRY_BASE_URL": ("azure", "/anthropic"),
        "ANTHROPIC_VERTEX_BASE_URL": ("genai", "/v1"),
        "AZURE_OPENAI_ENDPOINT": ("azure", ""),
        "AZURE_API_BASE": ("azure", ""),  # LiteLLM, aider
        "GOOGLE_GEMINI_BASE_URL": ("genai", ""),
        "GOOGLE_VERTEX_BASE_URL": ("genai", ""),
        "GEMINI_API_BASE": ("genai", "/v1beta"),  # LiteLLM puts no version in
    }
)
# Without any key SDKs do not start: these hold a placeholder, whether they were set or not.
_KEYS = {
    "OPENAI_API_KEY": "openai",
    "ANTHROPIC_API_KEY": "anthropic",
    "AZURE_OPENAI_API_KEY": "azure",
    "AZURE_API_KEY": "azure",
    "GEMINI_API_KEY": "gemini",
    "GOOGLE_API_KEY": "gemini",
}
# These do so where they were set: elsewhere they would change what a program does.
_OTHER_KEYS = {
    "OPENAI_ADMIN_KEY": "openai",
    "CODEX_API_KEY": "openai",
    "ANTHROPIC_AUTH_TOKEN": "anthropic",
    "ANTHROPIC_FOUNDRY_API_KEY": "azure",
    "AZURE_OPENAI_AD_TOKEN": "azure",
    "VERTEX_API_KEY": "vertex",
}
# aiohttp asks for a proxy of ws and wss apart
# (https://docs.aiohttp.org/en/stable/client_advanced.html#proxy-support).
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# What these name is trusted instead of the system's roots.
REPLACING_ROOTS = (
    "SSL_CERT_FILE",  # OpenSSL: Python, Ruby, .NET on Linux; Go; Rust
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "CODEX_CA_CERTIFICATE",
)
# These do so for fewer programs: they are changed where they are set.
REPLACING_ROOTS_TOO = (
    "NIX_SSL_CERT_FILE",
    "PIP_CERT",
    "HTTPLIB2_CA_CERTS",
    "CARGO_HTTP_CAINFO",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
)
# What these name is trusted beside the roots that are built in.
ADDING_ROOTS = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
_TRUST_STORE = "-Djavax.net.ssl.trustStore="

type Variables = dict[str, str | None]
"""Names and values; None: the variable is to be removed."""


class Mode(StrEnum):
    """How a command is brought to the gateway."""

    base_url = "base-url"
    proxy = "proxy"
    both = "both"


@dataclass(frozen=True, slots=True)
class Reach:
    """How a gateway is reached; `token` is what its client says in the place of a key."""

    host: str
    port: int
    prefixes: Mapping[str, str] = PREFIXES
    token: str = field(default=PLACEHOLDER, repr=False)

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def base(self, family: str, suffix: str = "") -> str:
        """The base URL of a family of routes."""
        return f"http://{self.authority}{self.prefixes[family]}{suffix}"

    @property
    def proxy(self) -> str:
        """The URL of the gateway as a proxy; a real token goes there as the user's name."""
        user = "" if self.token == PLACEHOLDER else f"{quote(self.token, safe='')}:@"
        return f"http://{user}{self.authority}"


@dataclass(frozen=True, slots=True)
class Trust:
    """Files for TLS: our CA alone, it with the system's roots, and that for Java.

    `named` are the files for variables that named roots of their own.
    """

    ca: Path
    bundle: Path
    truststore: Path
    named: Mapping[str, Path] = field(default_factory=dict)


def variables(
    mode: Mode,
    reach: Reach,
    trust: Trust | None,
    env: Mapping[str, str],
    secrets: Iterable[str] = (),
    forwarded: Iterable[str] = (),
) -> Variables:
    """The variables that differ from `env` for a command that is to call the gateway.

    `secrets` are more variables whose values it must not see; the keys of `forwarded` providers
    it keeps, since the gateway passes them on. `trust` is needed but for the mode base-url.
    """
    out = _keys(reach, env, secrets, frozenset(forwarded))
    if mode is not Mode.proxy:
        out |= _base_urls(reach, env)
    if mode is not Mode.base_url:
        assert trust is not None
        out |= _proxies(reach) | _bypass(env) | _trust(trust)
        out["JAVA_TOOL_OPTIONS"] = _java(reach, trust, env)
    elif any(env.get(name) or env.get(name.lower()) for name in _PROXIES):
        # httpx and others ask a proxy for localhost too.
        out |= _bypass(env)
    return out


def arguments(command: list[str], mode: Mode, reach: Reach) -> list[str]:
    """A command with the options of a program that reads its base URL from no variable."""
    options = _PROGRAMS.get(PurePath(command[0]).stem)
    if options is None or mode is Mode.proxy:
        return command
    return [command[0], *options(reach), *command[1:]]


# Codex takes no OPENAI_BASE_URL; what its user gives behind this wins.
_PROGRAMS: Mapping[str, Callable[[Reach], list[str]]] = {
    "codex": lambda reach: ["-c", f'openai_base_url="{reach.base("openai", "/v1")}"'],
}


def _keys(
    reach: Reach, env: Mapping[str, str], secrets: Iterable[str], forwarded: frozenset[str]
) -> Variables:
    known = _KEYS | _OTHER_KEYS
    there = {name for name in (*_OTHER_KEYS, *secrets) if env.get(name)}
    return {
        name: reach.token
        for name in dict.fromkeys((*_KEYS, *sorted(there)))
        if known.get(name) not in forwarded
    }


def _base_urls(reach: Reach, env: Mapping[str, str]) -> Variables:
    out: Variables = {name: reach.base(*place) for name, place in BASE_URLS.items()}
    if "ANTHROPIC_FOUNDRY_RESOURCE" in env:  # its SDKs refuse it beside a base URL
        out["ANTHROPIC_FOUNDRY_RESOURCE"] = None
    if "CLAUDE_CODE_USE_VERTEX" in env:  # the gateway signs; else a Google login is asked for
        out["CLAUDE_CODE_SKIP_VERTEX_AUTH"] = "1"
    return out


def _proxies(reach: Reach) -> Variables:
    out: Variables = _spelt(dict.fromkeys(_PROXIES, reach.proxy))
    out["NODE_USE_ENV_PROXY"] = "1"  # Node.js 24 and later; before, it knows no proxy
    return out


def _bypass(env: Mapping[str, str]) -> Variables:
    return _spelt({"NO_PROXY": ",".join(_direct(env))})


def _direct(env: Mapping[str, str]) -> list[str]:
    """Hosts that are asked without a proxy; `*` would be all, and the gateway would see none."""
    named = f"{env.get('NO_PROXY', '')},{env.get('no_proxy', '')}".split(",")
    hosts = (host.strip() for host in named)
    return list(dict.fromkeys([*(host for host in hosts if host not in ("", "*")), *_LOOPBACK]))


def _spelt(values: Mapping[str, str]) -> Variables:
    """In both spellings: curl reads http_proxy in small letters only, others in capitals only."""
    return {name: v for big, v in values.items() for name in (big, big.lower())}


def _trust(trust: Trust) -> Variables:
    files = dict.fromkeys(REPLACING_ROOTS, trust.bundle) | dict.fromkeys(ADDING_ROOTS, trust.ca)
    return {name: str(path) for name, path in (files | dict(trust.named)).items()}


def _java(reach: Reach, trust: Trust, env: Mapping[str, str]) -> str:
    """Java's options behind those that are there; it reads no proxy variable.

    https://docs.oracle.com/en/java/javase/21/docs/api/java.base/java/net/doc-files/net-properties.html
    """
    direct = "|".join(map(_java_host, _direct(env)))
    proxy = [
        f"-D{scheme}.proxy{what}={value}"
        for scheme in ("http", "https")
        for what, value in (("Host", reach.host), ("Port", reach.port))
    ]
    proxy.append(f"-Dhttp.nonProxyHosts={direct}")
    store = [f"{_TRUST_STORE}{trust.truststore}", "-Djavax.net.ssl.trustStoreType=PKCS12"]
    ours: tuple[str, ...] = (" ".join(map(_java_word, store)), " ".join(map(_java_word, proxy)))
    theirs = env.get("JAVA_TOOL_OPTIONS", "")
    for words in ours:  # from a run around this one
        theirs = theirs.replace(words, "")
    # A store of theirs stays: it cannot be merged, since it may need a password.
    ours = ours[1:] if _TRUST_STORE in theirs else ours
    return " ".join(filter(None, (theirs.strip(), *ours)))


def _java_host(host: str) -> str:
    if host.startswith("."):
        return f"*{host}"
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _java_word(word: str) -> str:
    """An option for JAVA_TOOL_OPTIONS: a space parts two of them unless it is quoted."""
    if not any(character.isspace() or character in "\"'" for character in word):
        return word
    return '"' + word.replace('"', '"\'"\'"') + '"'
