"""docs/threats.md says for each threat which test shows that it is met: it says so truly.

A test says which threats it is about in its docstring (`A17: ...`) or in the ids of its cases
(`A01-userinfo`), there or in a table of its module.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "threats.md"
_ROW = re.compile(r"^\| ([A-L]\d\d) \| (.+?) \| (.+?) \|$", re.M)
_SHOWN = re.compile(r"`([\w/]+\.py)::(\w+)`")
_ID = re.compile(r"(?<![\w/-])([A-L]\d\d)(?!\w)")
_LEAD = re.compile(r"(?:[A-L]\d\d(?:, | and |: |\.|$| ))+")


@cache
def rows() -> dict[str, set[tuple[str, str]]]:
    """The threats of the table, each with the tests that are named."""
    return {
        match[1]: set(_SHOWN.findall(match[3]))
        for match in _ROW.finditer(TABLE.read_text(encoding="utf-8"))
    }


@cache
def said() -> dict[str, set[tuple[str, str]]]:
    """The threats that tests say they are about."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if not _ID.search(text):  # most say nothing: these need no reading
            continue
        module = ast.parse(text)
        tables = dict(_tables(module))
        for node in module.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for ident in _of(node, tables):
                    found[ident].add((str(path.relative_to(ROOT)), node.name))
    return found


def _tables(module: ast.Module) -> Iterator[tuple[str, set[str]]]:
    """The module's tables, each with the ids that begin a text in it."""
    for node in module.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, _texts(node)


def _texts(node: ast.AST) -> set[str]:
    texts = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
    return {m[1] for t in texts if isinstance(t, str) and (m := re.match(r"([A-L]\d\d)[-: ]", t))}


def _of(node: ast.FunctionDef | ast.AsyncFunctionDef, tables: dict[str, set[str]]) -> set[str]:
    if not node.name.startswith("test_"):
        return set()
    lead = _LEAD.match(ast.get_docstring(node) or "")
    found = set(_ID.findall(lead[0])) if lead else set()
    for decorator in node.decorator_list:
        found |= _texts(decorator)
        for name in (n.id for n in ast.walk(decorator) if isinstance(n, ast.Name)):
            found |= tables.get(name, set())
    return found


def test_each_threat_has_its_row_and_each_row_a_test() -> None:
    table = rows()
    assert len(table) > 120
    assert list(table) == sorted(table)
    assert not [ident for ident, tests in table.items() if not tests]


@pytest.mark.parametrize("ident", sorted(rows()))
def test_the_tests_that_are_named_are_there_and_about_it(ident: str) -> None:
    missing = rows()[ident] - said().get(ident, set())
    assert not missing, f"these do not say that they are about {ident}: {missing}"


def test_what_tests_are_about_is_in_the_table() -> None:
    unknown = set(said()) - set(rows())
    assert not unknown, f"docs/threats.md has no row for {', '.join(sorted(unknown))}"
