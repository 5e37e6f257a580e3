"""A Bifrost config.json: its `providers` part loads, what has no meaning here is one warning."""

import copy
import json
from typing import Any

import pytest
from llm_passthrough import config
from llm_passthrough.errors import ConfigError

# As Bifrost's own documentation writes it, with every part that only Bifrost knows.
FILE: dict[str, Any] = {
    "$schema": "https://www.getbifrost.ai/schema",
    "client": {"enable_logging": True, "initial_pool_size": 300},
    "encryption_key": "env.BIFROST_ENCRYPTION_KEY",
    "governance": {"virtual_keys": []},
    "mcp": {"client_configs": []},
    "some_later_part": {"a": 1},
    "providers": {
        "openai": {
            "keys": [
                {
                    "name": "OpenAI Production Key",
                    "value": "env.OPENAI_API_KEY",
                    "models": ["*"],
                    "blacklisted_models": ["gpt-3*"],
                    "weight": 1,
                    "use_for_batch_api": True,
                    "aliases": {"fast": "gpt-4o-mini"},
                }
            ],
            "network_config": {
                "default_request_timeout_in_seconds": 30,
                "stream_idle_timeout_in_seconds": 60,
                "extra_headers": {"X-Organization-ID": "org-123"},
                "max_retries": 1,
                "retry_backoff_initial": 500,
                "insecure_skip_verify": True,
            },
            "concurrency_and_buffer_size": {"concurrency": 3, "buffer_size": 10},
            "send_back_raw_response": True,
        },
        "azure": {
            "keys": [
                {
                    "name": "azure",
                    "value": "env.AZURE_API_KEY",
                    "models": ["gpt-4o"],
                    "weight": 0.5,
                    "azure_key_config": {
                        "endpoint": "env.AZURE_ENDPOINT",
                        "api_version": "2024-10-21",
                        "deployments": {"gpt-4o": "gpt-4o-prod"},
                    },
                }
            ]
        },
        "bedrock": {"keys": [{"value": "x", "bedrock_key_config": {"region": "us-east-1"}}]},
        "my-own": {"custom_provider_config": {"base_provider_type": "openai"}, "keys": []},
    },
}
IGNORED = [
    "$schema",
    "client",
    "encryption_key",
    "governance",
    "mcp",
    "some_later_part",
    "providers.openai.concurrency_and_buffer_size",
    "providers.openai.send_back_raw_response",
    "providers.openai.network_config.max_retries",
    "providers.openai.network_config.retry_backoff_initial",
    "providers.openai.network_config.insecure_skip_verify",
    "providers.openai.keys[0].use_for_batch_api",
    "providers.openai.keys[0].aliases",
    "providers.azure.keys[0].azure_key_config.deployments",
    "providers.bedrock",
    "providers.my-own",
]


def test_a_bifrost_file_loads_with_one_warning_that_names_what_is_not_used() -> None:
    before = copy.deepcopy(FILE)
    loaded, warnings = config.parse(FILE, "config.json")
    assert warnings == [f"config.json: not used by this gateway: {', '.join(IGNORED)}"]
    assert before == FILE, "the document is left as it was"
    openai = loaded.providers.openai
    assert openai.keys[0].name == "OpenAI Production Key"
    assert openai.keys[0].blacklisted_models == ("gpt-3*",)
    assert openai.network_config.default_request_timeout_in_seconds == 30
    assert openai.network_config.extra_headers == {"X-Organization-ID": "org-123"}
    azure = loaded.providers.azure.keys[0].azure_key_config
    assert azure is not None
    assert (azure.endpoint, azure.api_version) == ("env.AZURE_ENDPOINT", "2024-10-21")


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        pytest.param(
            {"some_later_part": {}}, "some_later_part: unknown option", id="no Bifrost file"
        ),
        pytest.param(
            {"$schema": "bifrost", "listen": {"prot": 1}},
            "listen.prot: unknown option; did you mean port?",
            id="a part of ours is checked all the same",
        ),
        pytest.param(
            {"$schema": "bifrost", 1: 2}, "the file: an option's name is text", id="no text"
        ),
        pytest.param(
            {"providers": {"opneai": {}}},
            "providers.opneai: unknown option; did you mean openai?",
            id="misspelt provider",
        ),
        pytest.param({"providers": []}, "providers: must be a mapping", id="no mapping"),
        pytest.param(
            {"providers": {"openai": []}}, "providers.openai: must be a mapping", id="provider"
        ),
        pytest.param(
            {"providers": {"openai": {"keys": {"value": "x"}}}},
            "providers.openai.keys: must be a list",
            id="keys",
        ),
        pytest.param(
            {"providers": {"openai": {"keys": ["x"]}}},
            "providers.openai.keys[0]: must be a mapping",
            id="key",
        ),
        pytest.param(
            {"providers": {"openai": {"network_config": "x"}}},
            "providers.openai.network_config: must be a mapping",
            id="network",
        ),
    ],
)
def test_what_is_no_part_of_bifrost_is_still_a_fault(document: object, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(document, "file")
    (line,) = caught.value.lines
    assert line.startswith(f"file: {fault}")


def test_a_bifrost_file_is_json_and_so_it_is_yaml(tmp_path: Any) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FILE, indent=2))
    assert config.load(path, {})[0] == config.parse(FILE, "")[0]
