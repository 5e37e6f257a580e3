"""The lock file fits pyproject.toml, has a hash for everything, and says nothing of where from."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN = ("azure", "google", "pages", "prices", "redis")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
# Put together here, as no such name may stand in any file.
HOSTS = tuple(
    ".".join(parts)
    for parts in (("pypi", "org"), ("pythonhosted", "org"), ("registry", "npm" + "js"))
)
SYSTEMS = [
    {"sys_platform": system, "os_name": os_name, "platform_system": name, "python_version": python}
    | {"python_full_version": f"{python}.0"}
    for system, os_name, name in (
        ("linux", "posix", "Linux"),
        ("darwin", "posix", "Darwin"),
        ("win32", "nt", "Windows"),
    )
    for python in ("3.12", "3.13", "3.14")
]


def entries() -> list[tuple[Requirement, str]]:
    """Each locked requirement, and what stands under it."""
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", LOCK)[1:]
    return [(Requirement(block.split("\\")[0].strip()), block) for block in blocks]


ENTRIES = entries()


def test_everything_is_pinned_and_has_its_hashes() -> None:
    for requirement, block in ENTRIES:
        (pin,) = requirement.specifier
        assert pin.operator == "==", requirement
        assert HASH.search(block), requirement


@pytest.mark.parametrize(
    "system", SYSTEMS, ids=lambda s: f"{s['sys_platform']}-{s['python_version']}"
)
def test_it_has_all_that_a_gateway_needs_on_each_system(system: dict[str, str]) -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(each for name in RUN for each in extras[name])]
    locked = {
        canonicalize_name(requirement.name): Version(next(iter(requirement.specifier)).version)
        for requirement, _ in ENTRIES
        if requirement.marker is None or requirement.marker.evaluate(system)
    }
    for each in map(Requirement, wanted):
        if each.marker is None or each.marker.evaluate(system):
            assert each.specifier.contains(locked[canonicalize_name(each.name)]), each


def test_every_extra_that_a_gateway_uses_is_locked() -> None:
    assert {*PROJECT["optional-dependencies"]} == {*RUN, "dev"}, "scripts/lock names them too"
    script = (ROOT / "scripts" / "lock").read_text()
    assert all(f'--extra "{name}"' in script for name in RUN)


def test_no_registry_is_named_in_any_file() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False
    ).stdout.decode()
    files = [ROOT / name for name in listed.split("\0") if name] or [ROOT / "requirements.lock"]
    for file in files:
        text = file.read_bytes() if file.is_file() else b""
        assert not [host for host in HOSTS if host.encode() in text.lower()], file


# -- the audit ------------------------------------------------------------------------------------


def audit(folder: Path, answers: dict[str, object]) -> "subprocess.CompletedProcess[str]":
    """scripts/audit.py with a pip-audit that says this about each service."""
    (folder / "pip_audit.py").write_text(
        "import json, sys\n"
        f"answers = json.loads({json.dumps(json.dumps(answers))})\n"
        "answer = answers[sys.argv[-1]]\n"
        "sys.exit('no route to host') if answer is None else print(json.dumps(answer))\n"
    )
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "audit.py")],
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


CLEAN = {"name": "one", "version": "1.0", "vulns": []}
SKIPPED = {"name": "two", "skip_reason": "it is not known"}
BAD = {
    "name": "bad",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}, {"id": "PYSEC-2", "fix_versions": []}],
}


@pytest.mark.parametrize(
    ("first", "second", "code", "said"),
    [
        pytest.param([CLEAN], None, 0, "no advisory is known for any of the 1", id="clean"),
        pytest.param([BAD, CLEAN], None, 1, "bad 2.0: PYSEC-1; mended in 2.1", id="a fault"),
        pytest.param(None, [CLEAN], 0, "no advisory is known", id="the second service answers"),
        pytest.param(None, None, 3, "NOT AUDITED: no advisory service", id="nobody answers"),
        pytest.param([SKIPPED], None, 3, "NOT AUDITED: no advisory service", id="none is known"),
        pytest.param(
            [SKIPPED, CLEAN], [SKIPPED, CLEAN], 3, "NOT AUDITED: 1 of 2 packages: two", id="some"
        ),
    ],
)
def test_an_audit_says_plainly_what_is_known_and_what_was_not_asked(
    tmp_path: Path, first: object, second: object, code: int, said: str
) -> None:
    answers = {
        service: None if packages is None else {"dependencies": packages}
        for service, packages in (("pypi", first), ("osv", second))
    }
    run = audit(tmp_path, answers)
    assert (run.returncode, said in run.stdout) == (code, True), run
