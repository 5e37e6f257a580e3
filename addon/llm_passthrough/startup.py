"""What a gateway is started with: a configuration from the file, the demo or the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_passthrough import config
from llm_passthrough.config.models import Listen
from llm_passthrough.demo import DemoProvider

_TOO_LATE = (
    "listen.web_port: mitmweb opened its page before it read this file; give it --web-port too, "
    "or start it by `llm-passthrough web`"
)
_ONE_PROCESS = "listen.workers: this is one process; `llm-passthrough serve` alone starts several"
_DEMO_KEYS = {
    name: f"demo-key-of-{name}" for name in ("openai", "anthropic", "azure", "gemini", "vertex")
}


@dataclass(frozen=True, slots=True)
class Startup:
    """A configuration as asked for, and what it came from: a file, or a demo provider."""

    asked: config.Config
    settings: config.Config
    """What holds: mitmproxy's own options for host and port go before the file's."""
    warnings: list[str]
    file: Path | None = None
    demo: DemoProvider | None = None


def read(opts: Any, env: Mapping[str, str], *, early: bool = False) -> Startup:
    """The configuration that mitmproxy's options name; sets its host and ports.

    `early`: mitmproxy has not opened its page yet. Raises ConfigError.
    """
    name = opts.passthrough_config or env.get("LLM_PASSTHROUGH_CONFIG", "")
    file = Path(name).expanduser() if name else None
    demo = None
    if opts.passthrough_demo:
        file, demo = None, DemoProvider(keys=frozenset(_DEMO_KEYS.values()))
        asked, warnings = _of_demo(demo.bind()), list[str]()
    else:
        asked, warnings = config.load(file, env)
    settings = asked.model_copy(update={"listen": _listening(opts, asked.listen, early)})
    opts.update(listen_host=settings.listen.host, listen_port=settings.listen.port)
    if hasattr(opts, "web_port"):
        if early:
            opts.update(web_port=settings.listen.web_port)
        elif asked.listen.web_port not in (opts.web_port, Listen().web_port):
            warnings = [*warnings, _TOO_LATE]
    if asked.listen.workers != 1 and (not early or hasattr(opts, "web_port")):
        warnings = [*warnings, _ONE_PROCESS]
    return Startup(asked, settings, warnings, file, demo)


def _listening(opts: Any, listen: Listen, early: bool) -> Listen:
    wished: dict[str, object] = {}
    if opts.listen_host:
        wished["host"] = opts.listen_host
    if opts.listen_port is not None:
        wished["port"] = opts.listen_port
    if hasattr(opts, "web_port") and (not early or opts.has_changed("web_port")):
        wished["web_port"] = opts.web_port
    return listen.model_copy(update=wished)


def _of_demo(port: int) -> config.Config:
    """The configuration of a gateway in front of the demo provider."""
    url = f"http://127.0.0.1:{port}"
    providers: dict[str, object] = {}
    for name, value in _DEMO_KEYS.items():
        key: dict[str, object] = {"name": "demo", "value": value}
        if name == "azure":
            key["azure_key_config"] = {"endpoint": url}
        providers[name] = {"keys": [key], "network_config": {"base_url": url}}
    log = {"path": "~/.llm-passthrough/demo/records.jsonl"}
    return config.parse({"providers": providers, "log": log}, "demo")[0]
