"""scripts/ and .ci/run, run as a person would, in copies that install a stub package."""

import ensurepip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPTS = [*sorted((REPOSITORY / "scripts").iterdir()), REPOSITORY / ".ci" / "run"]
TOOLS = "bash sh cat cksum dirname find head mkdir readlink rm sleep".split()
OLD_SDKS = {"openai": "2.8.1", "anthropic": "0.75.0", "google_genai": "1.52.0"}
EXTRAS = "azure google pages prices dev".split()

# Stands for the gateway and for each tool: prints how it was called, and fails when told to.
STUB = """
import json, os, pathlib, sys

def main():
    name = pathlib.Path(sys.argv[0]).name
    print(json.dumps([name, *sys.argv[1:]]), flush=True)
    fails, _, code = os.environ.get("STUB_FAILS", "").partition(":")
    sys.exit(int(code) if name == fails else 0)
"""

# Gives pip the finished wheel: no build tool, no network.
BACKEND = """
import os, pathlib, shutil, time

def build_editable(folder, config_settings=None, metadata_directory=None):
    with open("installs.log", "a") as log:
        log.write("install\\n")
    if os.environ.get("STUB_BREAKS"):
        raise RuntimeError("the stub does not build")
    time.sleep(float(os.environ.get("STUB_SECONDS", 0)))
    return pathlib.Path(shutil.copy("llm_passthrough-0.1-py3-none-any.whl", folder)).name
"""

# Stands for pip where a test is not about pip, which takes seconds: calls the same backend.
QUICK_PIP = r"""
import os, pathlib, sys, sysconfig, zipfile

if "--target" in sys.argv:
    for path in pathlib.Path(os.environ["PIP_FIND_LINKS"]).glob("*.whl"):
        zipfile.ZipFile(path).extractall(sys.argv[sys.argv.index("--target") + 1])
    sys.exit()

sys.path.insert(0, os.getcwd())
import backend

packages = pathlib.Path(sysconfig.get_path("purelib"))
with zipfile.ZipFile(backend.build_editable(packages)) as wheel:
    wheel.extractall(packages)
    (entries,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    for line in wheel.read(entries).decode().splitlines()[1:]:
        program = pathlib.Path(sys.executable).with_name(line.partition(" = ")[0])
        code = f"import sys, stub; sys.argv[0] = '{program.name}'; stub.main()"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
        program.chmod(0o755)
"""

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

SHIM = 'echo "pyenv: ${0##*/}: command not found" >&2; exit 127'
RUN = f'"{getattr(sys, "_base_executable", sys.executable)}"'
OLD = f"{RUN} -c 'import sys; sys.version_info = (3, 9, 18); exec(sys.argv[-1])' \"$@\""
BARE = f'{RUN} -c \'import sys; sys.modules["ensurepip"] = None; exec(sys.argv[-1])\' "$@"'


@dataclass
class Checkout:
    """A copy of the scripts, with the environment that they run in."""

    root: Path
    env: dict[str, str]
    said: list[str] = field(default_factory=list)

    def popen(self, script: str, *arguments: str, **env: str) -> "subprocess.Popen[str]":
        command = [str(self.root / script), *arguments]
        return subprocess.Popen(
            command,
            # A run in the background ignores SIGINT, and hands that down.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            env=self.env | env,
            cwd="/",
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, script: str, *arguments: str, **env: str) -> "Outcome":
        with self.popen(script, *arguments, **env) as process:
            out, err = process.communicate(timeout=120)
        return Outcome(process.returncode, [json.loads(line) for line in out.splitlines()], err)

    def installs(self) -> int:
        log = self.root / "installs.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def change_pyproject(self) -> None:
        with (self.root / "pyproject.toml").open("a") as file:
            file.write("# changed\n")


@dataclass(frozen=True)
class Outcome:
    code: int
    calls: list[list[str]]  # what stdout holds: the program's own lines and nothing else
    err: str


def write_program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def write_wheel(folder: Path, name: str, version: str, metadata: str = "", **files: str) -> None:
    info = f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    contents = {
        f"{info}/METADATA": head + metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    for key, text in files.items():
        contents[f"{info}/{key}.txt" if key == "entry_points" else f"{key}.py"] = text
    record = "".join(f"{path},,\n" for path in [*contents, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**contents, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)


def make_checkout(base: Path, pythons: dict[str, str], name: str = "a checkout") -> Checkout:
    root, programs, wheels = base / name, base / "bin", base / "wheels"
    shutil.copytree(REPOSITORY / "scripts", root / "scripts")
    shutil.copytree(REPOSITORY / ".ci", root / ".ci")
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "backend.py").write_text(BACKEND)
    commands = ["llm-passthrough", "ruff", "mypy", "pytest", "coverage"]
    write_wheel(
        root,
        "llm_passthrough",
        "0.1",
        "".join(f"Provides-Extra: {extra}\n" for extra in EXTRAS),
        stub=STUB,
        entry_points="[console_scripts]\n" + "".join(f"{name} = stub:main\n" for name in commands),
    )
    wheels.mkdir()
    for sdk, version in OLD_SDKS.items():
        write_wheel(wheels, sdk, version, **{sdk: ""})
    programs.mkdir()
    for tool in TOOLS:
        path = shutil.which(tool)
        assert path, f"{tool} is not on the PATH"
        (programs / tool).symlink_to(path)
    for python, body in pythons.items():
        write_program(base / python if "/" in python else programs / python, body)
    env = {
        "PATH": str(programs),
        "HOME": str(base),
        "PYENV_ROOT": str(base / "pyenv"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
    }
    return Checkout(root, env)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python whose venvs borrow one pip: unpacking pip is most of what `-m venv` does."""
    lender = tmp_path_factory.mktemp("lender")
    wheels = sysconfig.get_config_var("WHEEL_PKG_DIR")  # Debian's place
    wheels = Path(wheels or Path(ensurepip.__file__).parent / "_bundled")
    with zipfile.ZipFile(next(wheels.glob("pip-*.whl"))) as wheel:
        wheel.extractall(lender / "real")
    (lender / "quick" / "pip").mkdir(parents=True)
    (lender / "quick" / "pip" / "__init__.py").touch()
    (lender / "quick" / "pip" / "__main__.py").write_text(QUICK_PIP)
    lend = f"import os, sys; sys.path.append({str(lender)!r} + '/' + os.environ.get('PIP', 'real'))"
    return f"""
case "$*" in
*"-m venv "*)
    for folder; do :; done
    {RUN} -m venv --without-pip "$folder"
    for packages in "$folder"/lib/python*/site-packages; do
        echo "{lend}" >"$packages/pip.pth"
    done
    ;;
*) {RUN} "$@" ;;
esac"""


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, good: str) -> Iterator[Checkout]:
    """A checkout that was set up once; its only good Python hides behind a dead pyenv shim."""
    pythons = {"python3.13": SHIM, "python3": OLD, "pyenv/versions/3.13.0/bin/python": good}
    checkout = make_checkout(tmp_path_factory.mktemp("ready"), pythons)
    first = checkout.run("scripts/start")
    assert first.code == 0, first.err
    checkout.said = first.err.splitlines()
    yield checkout
    assert not (checkout.root / ".venv.lock").exists()


def test_the_first_start_says_each_step_on_stderr(ready: Checkout) -> None:
    making, installing = ready.said
    assert making.startswith("==> making .venv with ")
    assert "installing llm-passthrough[azure,google,pages,prices,redis]" in installing


def test_an_unchanged_start_is_silent_and_quick(ready: Checkout) -> None:
    before, seconds = ready.installs(), []
    for _ in range(3):
        begun = time.monotonic()
        outcome = ready.run("scripts/start")
        seconds.append(time.monotonic() - begun)
        assert (outcome.code, outcome.err) == (0, "")
    assert ready.installs() == before
    assert min(seconds) < 1  # with the stub's own start; about 0.1 on an idle machine


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        pytest.param([], ["web"], id="none"),
        pytest.param(
            ["--config", "my file.yaml", ""], ["web", "--config", "my file.yaml", ""], id="spaces"
        ),
        pytest.param(
            ["--demo", "--headless", "--port", "1"],
            ["serve", "--demo", "--port", "1"],
            id="headless",
        ),
        pytest.param(["*", "$HOME", "a'b"], ["web", "*", "$HOME", "a'b"], id="nothing is expanded"),
    ],
)
def test_start_passes_its_arguments_on(
    ready: Checkout, arguments: list[str], received: list[str]
) -> None:
    assert ready.run("scripts/start", *arguments).calls == [["llm-passthrough", *received]]


def test_start_works_through_links(ready: Checkout, tmp_path: Path) -> None:
    (tmp_path / "folder").symlink_to(ready.root / "scripts")
    (tmp_path / "far").symlink_to("folder/start")
    (tmp_path / "go").symlink_to("far")
    linked = Checkout(tmp_path, ready.env).run("go", "x")
    assert (linked.calls, linked.err) == ([["llm-passthrough", "web", "x"]], "")


def test_test_runs_every_step_and_installs_the_older_sdks(ready: Checkout) -> None:
    outcome = ready.run("scripts/test", "-k", "two words")
    assert outcome.code == 0, outcome.err
    assert outcome.calls == [
        ["ruff", "format", "--check", "."],
        ["ruff", "check", "."],
        ["mypy"],
        ["pytest", "-k", "two words"],
    ]
    for step in ("ruff format --check .", "ruff check .", "mypy", "pytest -k two words"):
        assert f"==> {step}\n" in outcome.err
    assert {path.stem for path in (ready.root / ".venv/old-sdks").glob("*.py")} == set(OLD_SDKS)
    again = ready.run("scripts/test")
    assert "installing" not in again.err
    assert [call[:2] for call in again.calls[3:]] == [["pytest"], ["coverage", "report"]]
    assert ready.run("scripts/start").err == "", "what test installs is enough for start"


@pytest.mark.parametrize("script", ["scripts/test", ".ci/run"])
@pytest.mark.parametrize(
    ("program", "code", "calls"), [("ruff", 1, 1), ("mypy", 2, 3), ("pytest", 5, 4)]
)
def test_the_first_failing_step_stops_with_its_exit_code(
    ready: Checkout, script: str, program: str, code: int, calls: int
) -> None:
    outcome = ready.run(script, STUB_FAILS=f"{program}:{code}")
    assert (outcome.code, len(outcome.calls)) == (code, calls)
    assert outcome.calls[-1][0] == program


def test_check_mends_and_runs_no_test(ready: Checkout) -> None:
    calls = ready.run("scripts/check").calls
    assert calls == [["ruff", "format", "."], ["ruff", "check", "--fix", "."], ["mypy"]]


def test_a_failed_installation_shows_why_and_the_next_start_goes_on(ready: Checkout) -> None:
    ready.change_pyproject()
    failed = ready.run("scripts/start", STUB_BREAKS="1")
    assert (failed.code, failed.calls) == (1, [])
    assert "RuntimeError: the stub does not build" in failed.err
    assert failed.err.splitlines()[-1] == "start: the installation failed; see above"
    mended = ready.run("scripts/start", PIP="quick")
    assert (mended.code, len(mended.err.splitlines())) == (0, 1), mended.err


@pytest.mark.parametrize(
    ("how", "pip"),
    [
        pytest.param(signal.SIGINT, "real", id="SIGINT, to which pip has an answer"),
        pytest.param(signal.SIGKILL, "quick", id="SIGKILL"),
    ],
)
def test_an_interrupted_set_up_is_made_anew(ready: Checkout, how: signal.Signals, pip: str) -> None:
    ready.change_pyproject()
    before = ready.installs()
    with ready.popen("scripts/start", STUB_SECONDS="30", PIP=pip) as process:
        wait_until(lambda: ready.installs() > before)
        os.killpg(process.pid, how)
        out, _ = process.communicate(timeout=90)
    assert process.returncode in (-how, 128 + how)
    assert out == ""
    mended = ready.run("scripts/start", PIP="quick")
    assert mended.code == 0, mended.err
    assert "==> making .venv anew: the last set-up was interrupted" in mended.err


def test_a_venv_whose_python_is_gone_is_made_anew(ready: Checkout) -> None:
    for python in (ready.root / ".venv/bin").glob("python*"):
        python.unlink()
    mended = ready.run("scripts/start", PIP="quick")
    assert (mended.code, len(mended.calls)) == (0, 1), mended.err
    assert "==> making .venv anew: its Python does not run" in mended.err


def test_a_checkout_that_was_moved_gets_a_new_venv(ready: Checkout) -> None:
    moved = Checkout(ready.root.rename(ready.root.with_name("moved")), ready.env)
    try:
        outcome = moved.run("scripts/start", PIP="quick")
    finally:
        ready.root = moved.root
    assert (outcome.code, len(outcome.calls)) == (0, 1), outcome.err
    assert "==> making .venv anew: it was made in another folder" in outcome.err


def test_two_at_once_share_one_set_up(tmp_path: Path, good: str) -> None:
    checkout = make_checkout(tmp_path, {"python3.14": good})
    slow = {"STUB_SECONDS": "1", "PIP": "quick"}
    with (
        checkout.popen("scripts/start", **slow) as one,
        checkout.popen("scripts/test", **slow) as two,
    ):
        outs = one.communicate(timeout=120), two.communicate(timeout=120)
    said = outs[0][1] + outs[1][1]
    assert (one.returncode, two.returncode) == (0, 0), said
    assert said.count("==> making .venv") == 1
    assert said.count("==> waiting for another set-up") == 1


def test_uv_is_used_when_it_runs(tmp_path: Path, good: str) -> None:
    uv = """
case "$1 ${2-}" in
"--version ") ;;
"venv "*)
    echo "uv $*" >&2
    for folder; do :; done
    base_python -m venv "$folder"
    ;;
"pip install")
    python=$4
    shift 4
    "$python" -m pip install "$@"
    ;;
esac"""
    checkout = make_checkout(tmp_path, {"uv": uv, "python3.13": SHIM, "base_python": good})
    (checkout.root / ".python-version").write_text("3.13\n")
    outcome = checkout.run("scripts/start", PIP="quick")
    assert (outcome.code, len(outcome.calls)) == (0, 1), outcome.err
    assert re.search(r"^uv venv .*--python 3\.13 ", outcome.err, re.MULTILINE)


@pytest.mark.parametrize(
    ("pythons", "message"),
    [
        pytest.param({}, "start: Python 3.12 or newer is needed: install", id="none at all"),
        pytest.param(
            {"python3.13": SHIM, "python3.12": SHIM, "python3": SHIM, "uv": SHIM},
            "start: Python 3.12 or newer is needed: install",
            id="shims with nothing behind",
        ),
        pytest.param(
            {"python3.13": SHIM, "python3": OLD},
            "start: Python 3.12 or newer is needed; found only 3.9: install",
            id="too old",
        ),
        pytest.param(
            {"python3": BARE},
            "start: Python {0} has no venv and ensurepip: install the package python{0}-venv",
            id="no venv module",
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    tmp_path: Path, pythons: dict[str, str], message: str
) -> None:
    checkout = make_checkout(tmp_path, pythons)
    outcome = checkout.run("scripts/start")
    assert (outcome.code, outcome.calls) == (1, [])
    version = "{}.{}".format(*sys.version_info)
    assert outcome.err.startswith(message.format(version))
    assert outcome.err.count("\n") == 1
    assert not list(checkout.root.glob(".venv*"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_names_a_host_or_asks_for_more_rights(script: Path) -> None:
    assert not re.search(r"://|\bsudo\b|--index-url", script.read_text())


def wait_until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
