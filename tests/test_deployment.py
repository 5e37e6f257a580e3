"""What docs/deployment.md tells to write can be read, and names what there is."""

import re
from pathlib import Path

import pytest
from llm_passthrough import config
from llm_passthrough.build import build
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
YAMLS = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)


def test_its_configuration_is_one_of_the_gateway() -> None:
    document = YAML(typ="safe").load(YAMLS[0])
    settings, warnings = config.parse(document, "docs")
    assert not warnings
    parts = build(settings, {"TEAM_TOKEN": "team-token-0123456789"}, "docs")
    assert parts.clients.required
    assert parts.config.shutdown.drain_seconds == 60


@pytest.mark.parametrize("text", YAMLS[1:], ids=["redis", "envoy", "envoy's cluster", "kubernetes"])
def test_the_yaml_of_others_is_yaml(text: str) -> None:
    assert YAML(typ="safe").load(text)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:log|limits|timeouts)\.\w+)`", TEXT))))
def test_an_option_that_it_names_is_there(name: str) -> None:
    section, option = name.split(".")
    assert hasattr(getattr(config.Config(), section), option)
