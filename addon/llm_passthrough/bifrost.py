"""What a Bifrost config.json says to Bifrost alone: taken out, and named for one warning.

Only what does not change which key is used, or how, is left out. The names are those of
https://www.getbifrost.ai/schema; a file that names that schema may hold newer parts too.
"""

from typing import Any

_PARTS = frozenset(
    "$schema encryption_key client framework mcp vector_store config_store logs_store "
    "governance plugins auth_config cluster_config saml_config scim_config load_balancer_config "
    "guardrails_config audit_logs websocket server version source_of_truth env_label".split()
)
_PROVIDERS = frozenset(
    "bedrock bedrock_mantle cerebras cohere deepgram deepseek elevenlabs fireworks groq "
    "huggingface mistral nebius ollama opencode-go opencode-zen openrouter parasail perplexity "
    "replicate runware runway sarvam sgl vllm xai".split()
)
_PROVIDER_OPTIONS = frozenset(
    "concurrency_and_buffer_size proxy_config send_back_raw_request send_back_raw_response "
    "custom_provider_config pricing_overrides store_raw_request_response openai_config "
    "status description".split()
)
_NETWORK_OPTIONS = frozenset(
    "max_retries retry_backoff_initial retry_backoff_max retry_backoff_initial_ms "
    "retry_backoff_max_ms insecure_skip_verify ca_cert_pem enforce_http2 max_conns_per_host "
    "keep_alive_timeout_in_seconds beta_header_overrides allow_private_network".split()
)
_KEY_OPTIONS = frozenset("id aliases use_for_batch_api description status".split())
_KEY_CONFIG_OPTIONS = frozenset("deployments project_number force_single_region".split())

type Section = dict[Any, Any]


def without(document: Section, ours: frozenset[str]) -> tuple[Section, list[str]]:
    """The document without the parts that have no meaning here, and the places of these.

    `ours` are the names of the parts that have one.
    """
    ignored: list[str] = []
    names = _PARTS
    declared = "bifrost" in str(document.get("$schema", ""))
    if declared:
        names |= {part for part in document if isinstance(part, str)} - ours
    document = _drop("", document, names, ignored)
    providers = document.get("providers")
    if isinstance(providers, dict):
        document["providers"] = _providers(providers, ignored)
    return document, ignored


def _providers(providers: Section, ignored: list[str]) -> Section:
    kept = {}
    for name, entry in providers.items():
        custom = isinstance(entry, dict) and "custom_provider_config" in entry
        if name in _PROVIDERS or custom:
            ignored.append(f"providers.{name}")
        else:
            kept[name] = _provider(f"providers.{name}", entry, ignored)
    return kept


def _provider(place: str, entry: object, ignored: list[str]) -> object:
    if not isinstance(entry, dict):
        return entry
    entry = _drop(f"{place}.", entry, _PROVIDER_OPTIONS, ignored)
    _inside(place, entry, "network_config", _NETWORK_OPTIONS, ignored)
    if isinstance(keys := entry.get("keys"), list):
        entry["keys"] = [_key(f"{place}.keys[{i}]", key, ignored) for i, key in enumerate(keys)]
    return entry


def _key(place: str, key: object, ignored: list[str]) -> object:
    if not isinstance(key, dict):
        return key
    key = _drop(f"{place}.", key, _KEY_OPTIONS, ignored)
    for name in ("azure_key_config", "vertex_key_config"):
        _inside(place, key, name, _KEY_CONFIG_OPTIONS, ignored)
    return key


def _inside(
    place: str, section: Section, name: str, names: frozenset[str], ignored: list[str]
) -> None:
    if isinstance(inner := section.get(name), dict):
        section[name] = _drop(f"{place}.{name}.", inner, names, ignored)


def _drop(place: str, section: Section, names: frozenset[str], ignored: list[str]) -> Section:
    ignored.extend(f"{place}{name}" for name in section if name in names)
    return {name: value for name, value in section.items() if name not in names}
