"""The file as it is read: plain YAML of bounded size, from which nothing can grow or be made.

A fault is one line with its place and its mend; a value is never quoted, it may be a secret.
"""

import re
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.tokens import (
    AliasToken,
    BlockEndToken,
    BlockMappingStartToken,
    BlockSequenceStartToken,
    FlowMappingEndToken,
    FlowMappingStartToken,
    FlowSequenceEndToken,
    FlowSequenceStartToken,
    TagToken,
)

from llm_passthrough.errors import ConfigError

_MAX_FILE = 1 << 20
_MAX_ALIASES = 64
_MAX_DEPTH = 32
_OPENING = (
    BlockMappingStartToken,
    BlockSequenceStartToken,
    FlowMappingStartToken,
    FlowSequenceStartToken,
)
_CLOSING = (BlockEndToken, FlowMappingEndToken, FlowSequenceEndToken)
_NAME = re.compile(r"[A-Za-z_.$-]{1,32}")


def source_of(path: Path) -> str:
    """The text of a file. Raises ConfigError."""
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


def document_of(path: Path, source: str) -> object:
    """The document that a text is. Raises ConfigError, with the line."""
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
    except (YAMLError, ValueError):
        raise ConfigError(f"{path}:1: not valid YAML") from None


def _check_tokens(path: Path, yaml: YAML, source: str) -> None:
    """Refuse what could grow or make objects, before anything is built from it."""
    aliases = depth = 0
    for token in yaml.scan(StringIO(source)):
        line = token.start_mark.line + 1
        if isinstance(token, TagToken):
            raise ConfigError(f"{path}:{line}: a tag (such as !!python); remove it")
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > _MAX_DEPTH:
            raise ConfigError(f"{path}:{line}: nested too deeply")
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
    found = _NAME.match(source, index + source.startswith(("'", '"'), index))
    return found[0].rstrip(".") if found else "an option"
