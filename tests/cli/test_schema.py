"""`llm-passthrough schema`: the published schemas."""

import json
from pathlib import Path

import jsonschema
from llm_passthrough.cli import app
from llm_passthrough.record import schema_text
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]


def test_the_schema_of_a_record_is_printed_as_the_repository_holds_it() -> None:
    result = CliRunner().invoke(app, ["schema", "record"])
    assert result.exit_code == 0
    assert result.output == schema_text() == (ROOT / "record.schema.json").read_text()


def test_the_schema_of_the_configuration_is_printed() -> None:
    result = CliRunner().invoke(app, ["schema", "config"])
    assert result.exit_code == 0
    schema = json.loads(result.output)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert {"listen", "providers", "routes", "log"} <= set(schema["properties"])
    jsonschema.validate({"providers": {"openai": {"keys": [{"value": "env.X"}]}}}, schema)


def test_of_anything_else_there_is_no_schema() -> None:
    result = CliRunner().invoke(app, ["schema", "nonsense"])
    assert result.exit_code == 2
