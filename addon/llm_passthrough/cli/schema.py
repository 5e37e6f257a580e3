"""`llm-passthrough schema`: the published JSON Schemas."""

import json
from typing import Annotated, Literal

import typer

from llm_passthrough.config import Config
from llm_passthrough.record import schema_text

What = Annotated[Literal["record", "config"], typer.Argument(help="Which schema.")]


def schema(what: What) -> None:
    """Print the JSON Schema of a record, or of the configuration file."""
    if what == "record":
        typer.echo(schema_text(), nl=False)
    else:
        typer.echo(json.dumps(Config.model_json_schema(), indent=2))
