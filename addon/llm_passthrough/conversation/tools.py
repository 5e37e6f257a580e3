"""The tools that a request offers: their names, what they are for, their parameters."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llm_passthrough.conversation.values import Json, as_dict, as_list

# Gemini lists its functions inside one tool.
_DECLARED = ("functionDeclarations", "function_declarations")
_SCHEMAS = (
    "parameters", "input_schema", "inputSchema", "parametersJsonSchema", "parameters_json_schema",
    "parameter_definitions",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool; a parameter that may be left out ends in a question mark."""

    name: str
    description: str = ""
    parameters: tuple[str, ...] = ()


def tools(asked: Any) -> list[Tool]:
    """What a request (its JSON) offers, in every format that is known here."""
    asked = as_dict(asked)
    offered = as_list(asked.get("tools")) or as_list(as_dict(asked.get("toolConfig")).get("tools"))
    offered = offered or as_list(asked.get("functions"))
    return [_tool(one) for tool in offered for one in _inner(as_dict(tool))]


def _inner(tool: Json) -> Iterator[Json]:
    """OpenAI's tool of type `function`, Gemini's declarations, Converse's `toolSpec`."""
    declared = next((as_list(tool[name]) for name in _DECLARED if tool.get(name)), None)
    if declared is not None:
        yield from map(as_dict, declared)
        return
    named = (as_dict(tool.get(name)) for name in ("function", "custom", "toolSpec"))
    yield next((inner for inner in named if inner), tool)


def _tool(tool: Json) -> Tool:
    name = tool.get("name") or tool.get("type") or next(iter(tool), "?")
    told = tool.get("description")
    return Tool(str(name), told if isinstance(told, str) else "", tuple(_parameters(tool)))


def _parameters(tool: Json) -> Iterator[str]:
    schema = next((as_dict(tool[name]) for name in _SCHEMAS if tool.get(name)), {})
    schema = as_dict(schema.get("json")) or schema
    required = as_list(schema.get("required"))
    for name in as_dict(schema.get("properties")) or _cohere(schema):
        yield f"{name}?" if "required" in schema and name not in required else name


def _cohere(schema: Json) -> Json:
    """Cohere's first version has no schema, but the parameters themselves."""
    return {} if "type" in schema else schema
