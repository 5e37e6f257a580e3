"""How a fault of an option is told: its line, its place, and what would be right.

A value is never shown, it may be a secret.
"""

import difflib
import re
from io import StringIO
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, SequenceNode

_MAX_FAULTS = 20
# An unknown name that does not look like an option's may be a secret that slipped.
_NAME = re.compile(r"[A-Za-z_.$-]{1,32}")

type Model = type[BaseModel]


def lines(error: ValidationError, model: Model, name: str, source: str) -> list[str]:
    """A line for each fault behind `name`; `source` is the text that did not fit the model."""
    root = YAML(typ="safe", pure=True).compose(StringIO(source)) if source else None
    faults = error.errors(include_url=False)
    told = [
        f"{name}{_line(root, fault['loc'])}: {_place(fault)}: {_mend(fault, model)}"
        for fault in faults[:_MAX_FAULTS]
    ]
    if len(faults) > _MAX_FAULTS:
        told.append(f"{name}: and {len(faults) - _MAX_FAULTS} more faults")
    return told


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


def _mend(fault: Any, model: Model) -> str:
    if _is_unknown(fault):
        *parents, name = fault["loc"]
        if not _NAME.fullmatch(name):
            return "unknown option, not shown here as it may be a secret"
        near = difflib.get_close_matches(name, sorted(_options(model, parents)), 1)
        return "unknown option" + (f"; did you mean {near[0]}?" if near else "")
    if fault["input"] is None and fault["type"] != "invalid_key":
        return "is empty; give it a value, or remove it"
    message: str = fault["msg"].removeprefix("Value error, ")
    return _MENDS.get(fault["type"], message.replace("Input should", "must"))


def _is_unknown(fault: Any) -> bool:
    return bool(fault["type"] == "extra_forbidden")


def _options(model: Model, parents: list[int | str]) -> set[str]:
    """The names of the options that may stand at a place of the file."""
    inner: Model | None = model
    for part in parents:
        if isinstance(part, int):
            continue
        field = inner.model_fields.get(part) if inner else None
        inner = section_of(field.annotation) if field else None
    return set(inner.model_fields) if inner else set()


def section_of(annotation: Any) -> Model | None:
    """The model inside an annotation such as `tuple[KeyEntry, ...]` or `AzureKey | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := section_of(arg))), None)
