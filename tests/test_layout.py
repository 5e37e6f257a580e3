"""The house rules that a reader of one file cannot see: directions, lengths, names, no secrets."""

import ast
import dataclasses
import inspect
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from llm_passthrough.attach import Life
from llm_passthrough.cli.desk import Desk
from llm_passthrough.egress import Egress
from llm_passthrough.gateway import Gateway
from llm_passthrough.layer import PassthroughSignHook
from llm_passthrough.resumption import Resumption
from llm_passthrough.talks import Talks
from llm_passthrough.views import LastCalls, Notes
from mitmproxy.hooks import all_hooks

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "addon" / "llm_passthrough"
NAME = "llm_passthrough"
LONGEST = 300

# A module or a shelf imports from the rows above its own only (a shelf from itself too).
LEVELS = (
    "errors said settings thin tee redact bodies splice retention rest bifrost shown demo decoy "
    "foreground",
    "usage asked sse config tokens forward policy",
    "record keyring dialects clients allowance bus connections descriptors leftovers",
    "providers failures prices listen columns conversation options modelnames tickets",
    "known lineage sidebyside",
    "recorder routes links keys wire ledger",
    "sinks seal http1 hosts identities resend upstreams spent cors flows heads",
    "intake verdict build status views transport framing turns",
    "uploads websocket exchange banner",
    "layer terminal",
    "lean",
    "replies keep tunnels endings pace",
    "admit guard answers crowd fairness",
    "deadlines egress reflow resumption talks",
    "sweep",
    "gateway web pages",
    "startup reloading proofs shutdown",
    "canary",
    "workers",
    "attach",
    "cli",
)
# What touches mitmproxy; all else is plain functions that need no proxy to be tested.
MITMPROXY = frozenset(
    "gateway guard reloading egress tunnels keep seal http1 heads intake uploads layer flows "
    "sweep websocket pace transport admit attach views web replies cli pages reflow canary decoy "
    "lean talks proofs resumption".split()
)
OPENS_SECRETS = frozenset({"wire", "seal", "tokens", "bus"})
# Methods of our addons that mitmproxy does not call; `load` it calls without a hook class.
HELPERS = {
    Gateway: {"refuse", "watch", "end_overdue", "finish_all", "swap"},
    Egress: {
        "allow",
        "destination",
        "withdraw",
        "hang_up",
        "has_unsent",
        "is_unread",
        "interrupt",
        "end_talk",
        "stalled",
        "close_late",
        "pause",
    },
    Talks: {"look"},
    Resumption: {"forget"},
    Life: {"start", "prepare", "greet"},
    Notes: {"write", "close", "own"},
    LastCalls: set(),
    Desk: {"replay", "replay_file"},
}
VAGUE = frozenset("utils util helpers helper manager managers common misc core base_utils".split())


def modules() -> dict[str, Path]:
    """The modules of the package by their dotted names below it; the package itself is ''."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix("__init__").removesuffix(".")] = path
    return found


MODULES = modules()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """As ast.walk, but in a third of the time; without `Load()`, `Store()` and `Del()`."""
    found: list[ast.AST] = [tree(path)]
    for node in found:  # it grows meanwhile
        for value in vars(node).values():
            if isinstance(value, list):
                found += [one for one in value if isinstance(one, ast.AST)]
            elif isinstance(value, ast.AST) and value._fields:
                found.append(value)
    return tuple(found)


def unit(module: str) -> str:
    """The row entry that a module belongs to: itself, or its shelf."""
    return module.partition(".")[0]


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Every dotted name that a file imports, those inside of functions too."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inside = path.relative_to(PACKAGE.parent).parts if node.level else ()
            start = (*inside[: len(inside) - node.level], *([node.module] if node.module else []))
            yield from (".".join((*start, alias.name)) for alias in node.names)


def own(path: Path) -> set[str]:
    """The modules of this package that a file imports."""
    found = set()
    for name in imported(path):
        if name == NAME or name.startswith(f"{NAME}."):
            below = name.removeprefix(NAME).removeprefix(".")
            while below not in MODULES:  # the name of a thing, not of a module
                below = below.rpartition(".")[0]
            found.add(below)
    return found


def level(name: str) -> int:
    return next(number for number, row in enumerate(LEVELS) if unit(name) in row.split())


# -- directions -------------------------------------------------------------------------------


def test_every_module_has_its_level() -> None:
    placed = [name for row in LEVELS for name in row.split()]
    assert len(placed) == len(set(placed)), "a name stands in two rows"
    missing = {unit(name) for name in MODULES if name} - set(placed)
    assert not missing, f"give these a row in LEVELS: {', '.join(sorted(missing))}"


def test_the_package_itself_imports_nothing() -> None:
    assert own(MODULES[""]) == set()


def test_imports_point_down() -> None:
    wrong = [
        f"{name} may not import {other}: same row or below it"
        for name, path in MODULES.items()
        for other in own(path)
        if other and unit(other) != unit(name) and level(other) >= level(name)
    ]
    assert not wrong


def test_no_module_comes_back_to_itself() -> None:
    arrows = {name: own(path) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name not in done:
            for other in sorted(arrows[name]):
                walk(other, (*way, name))
            done.add(name)

    for name in arrows:
        walk(name, ())


def test_only_the_seams_know_mitmproxy() -> None:
    knowing = {
        unit(name)
        for name, path in MODULES.items()
        if any(unit(other) == "mitmproxy" for other in imported(path))
    }
    assert knowing <= MITMPROXY


def test_only_what_sends_a_secret_opens_it() -> None:
    opening = {
        unit(name)
        for name, path in MODULES.items()
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and node.attr in ("get_secret_value", "_secret_value")
    }
    assert opening <= OPENS_SECRETS


def test_a_shelf_holds_modules_and_no_shelf() -> None:
    assert not [name for name in MODULES if name.count(".") > 1]


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [name for name in MODULES if VAGUE & set(name.split("."))]


# -- each module ------------------------------------------------------------------------------


def test_a_module_is_no_longer_than_one_can_keep_in_mind() -> None:
    bench = {f"bench.{path.stem}": path for path in (ROOT / "bench").glob("*.py")}
    lengths = {
        name: len(path.read_text(encoding="utf-8").splitlines())
        for name, path in (MODULES | bench).items()
    }
    long = {name: length for name, length in lengths.items() if length > LONGEST}
    assert not long, "look for the seam"


def _says_what_it_is(path: Path) -> bool:
    """Whether a file begins with a docstring that is a sentence, or is empty."""
    with path.open(encoding="utf-8") as file:
        line = file.readline()
    first = line.removeprefix('"""').rstrip().removesuffix('"""')
    sentence = len(first.split()) > 2 and (first.endswith((":", "?", ",")) or "." in first)
    return not line or (first != line.rstrip() and sentence)


def test_the_first_line_of_a_module_says_what_it_is() -> None:
    paths = [path for top in ("addon", "tests", "bench") for path in (ROOT / top).rglob("*.py")]
    silent = [path for path in paths if not _says_what_it_is(path)]
    assert not silent, "these have no docstring, or one that is no sentence"


_EVERYTHING = frozenset({"all", "Exception", "BaseException"})


def _caught(handler: ast.ExceptHandler) -> set[str]:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {kind.id for kind in kinds if isinstance(kind, ast.Name)} if handler.type else {"all"}


def _hides(node: ast.AST, lines: list[str]) -> bool:
    """Whether it catches everything without a reason beside it."""
    if isinstance(node, ast.ExceptHandler) and _caught(node) & _EVERYTHING:
        reason = re.search(r"# noqa: BLE001 - (.+)", lines[node.lineno - 1])
        return reason is None or len(reason[1].split()) < 3
    if isinstance(node, ast.Call) and _last_name(node.func) == "suppress":
        return bool({_last_name(arg) for arg in node.args} & _EVERYTHING)
    return False


def _last_name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def test_who_catches_everything_says_why_beside_it() -> None:
    silent = []
    for name, path in MODULES.items():
        lines = path.read_text(encoding="utf-8").splitlines()
        silent += [f"{name}:{node.lineno}" for node in nodes(path) if _hides(node, lines)]
    assert not silent, "these hide everything, or have no reason"


# -- hooks ------------------------------------------------------------------------------------


def _methods(addon: type) -> dict[str, object]:
    return {
        name: value
        for name, value in vars(addon).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }


@pytest.mark.parametrize("addon", HELPERS, ids=lambda addon: addon.__name__)
def test_a_public_method_of_an_addon_is_a_hook_of_mitmproxys_or_a_helper(addon: type) -> None:
    assert PassthroughSignHook.name in all_hooks
    methods = set(_methods(addon))
    unknown = methods - set(all_hooks) - {"load"} - HELPERS[addon]
    assert not unknown, f"no hook has such a name, nobody will call it: {unknown}"
    assert not HELPERS[addon] & set(all_hooks), "mitmproxy would call this helper"
    assert methods >= HELPERS[addon], "a helper of the table is gone"


@pytest.mark.parametrize("addon", HELPERS, ids=lambda addon: addon.__name__)
def test_a_hook_takes_what_mitmproxy_gives_it(addon: type) -> None:
    for name, method in _methods(addon).items():
        if name in all_hooks:
            given = [field.name for field in dataclasses.fields(all_hooks[name])]
            given = [field for field in given if field != "blocking"]
            assert callable(method)
            taken = list(inspect.signature(method).parameters)[1:]
            assert len(taken) == len(given), f"{addon.__name__}.{name}: {taken}, given {given}"


# -- no secrets -------------------------------------------------------------------------------

_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]*(PRIVATE KEY|CERTIFICATE|SECRET)" + rb"[A-Z ]*-----")
_KEYS = re.compile(
    rb"\bsk-[A-Za-z0-9_-]{24,}|\bAIza[A-Za-z0-9_-]{30,}|\bya29\.[A-Za-z0-9_-]{20,}"
    rb"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAKIA[A-Z0-9]{16}\b|\beyJ[A-Za-z0-9_-]{40,}\."
)
_MATERIAL = frozenset({".pem", ".key", ".crt", ".cer", ".p12", ".pfx", ".jks"})


def _repository() -> list[Path]:
    """The files that are, or would be, in the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    paths = (ROOT / name.decode() for name in listed.split(b"\0") if name)
    return [path for path in paths if path.is_file()]


def test_no_key_and_no_certificate_lies_in_the_repository() -> None:
    files = _repository()
    assert files
    found = [
        path.relative_to(ROOT)
        for path in files
        if path.suffix in _MATERIAL or _PEM.search(path.read_bytes())
    ]
    assert not found


def test_nothing_outside_the_tests_looks_like_a_key() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0][:12].decode()}..."
        for path in _repository()
        if path.relative_to(ROOT).parts[0] != "tests"
        for match in _KEYS.finditer(path.read_bytes())
    ]
    assert not found


def test_the_typed_package_says_so() -> None:
    assert (PACKAGE / "py.typed").is_file()
