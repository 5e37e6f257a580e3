"""Faults of our own and of other addons: the client is answered, and no request goes on unjudged.

Threat catalogue: H01 and H04 exceptions in every function that a hook calls, H14 other addons,
a second copy, a script that is reloaded or taken away.
"""

import mmap
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live import harness
from live.harness import CLIENT_KEY, KEYS, SCRIPT, Gateway, Provider, Web, config_for, running
from live.oracles import Heard, Listener, Oracles, found, talk
from live.test_secrets import CHAT, chat, until

# Loaded beside the addon: every function of these modules raises when the file `fault` names it
# and an error, and writes its name to the file `called` when that says `trace`.
INJECTOR = '''
import asyncio, functools, importlib, inspect, mmap, sys
from pathlib import Path
from mitmproxy import exceptions
HERE = Path(__file__).parent
MODULES = """admit bodies clients deadlines egress errors exchange failures gateway keep keyring
links replies routes splice status tee verdict wire providers.base providers.azure providers.google
providers.openai record redact recorder"""
ERRORS = {
    "OptionsError": exceptions.OptionsError, "AddonHalt": exceptions.AddonHalt,
    "CancelledError": asyncio.CancelledError, "TimeoutError": TimeoutError,
    "RecursionError": RecursionError, "MemoryError": MemoryError, "KeyError": KeyError,
    "GeneratorExit": GeneratorExit, "StopIteration": StopIteration, "OSError": OSError,
}
# Asked at each call of each function, a thousand times in a request: so it lies in memory.
with (HERE / "fault").open("rb") as file:
    FAULT = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

def wrapped(function, name):
    start = name.encode() + b" "

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        wanted = FAULT[:]
        if wanted.startswith(b"trace "):
            with (HERE / "called").open("a") as file:
                file.write(name + "\\n")
        if wanted.startswith(start):
            error = wanted.split()[1].strip(b"\\0").decode()
            raise ERRORS[error]("sk-TEXT-CANARY-0123456789")
        return function(*args, **kwargs)
    return wrapper

def everywhere(old, new):
    for name, module in list(sys.modules.items()):
        if name.startswith("llm_passthrough"):
            for key, value in list(vars(module).items()):
                if value is old:
                    setattr(module, key, new)

def load(loader):
    from llm_passthrough import attach
    for short in MODULES.split():
        try:
            module = importlib.import_module("llm_passthrough." + short)
        except ImportError:
            continue
        for key, value in list(vars(module).items()):
            if getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(value):
                everywhere(value, wrapped(value, f"{short}.{key}"))
            elif inspect.isclass(value) and not issubclass(value, BaseException):
                in_class(short, value)

def in_class(short, cls):
    for key, value in list(vars(cls).items()):
        if not inspect.isfunction(value) or key in ("__init__", "__bytes__", "__getattr__"):
            continue
        name = f"{short}.{cls.__name__}.{key}"
        inner = getattr(value, "__wrapped__", None)
        if inner is None:
            setattr(cls, key, wrapped(value, name))
        else:  # a guarded hook: the fault is inside the guard
            for cell in value.__closure__:
                if cell.cell_contents is inner:
                    cell.cell_contents = wrapped(inner, name)
'''
TEXT = "sk-TEXT-CANARY-0123456789"
GOOD = chat("good")


class Patient:
    """A gateway whose functions can be made to raise."""

    def __init__(self, folder: Path, provider: Provider) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.provider = provider
        (folder / "injector.py").write_text(INJECTOR)
        (folder / "fault").write_bytes(bytes(mmap.PAGESIZE))
        with (folder / "fault").open("r+b") as file:
            self._fault = mmap.mmap(file.fileno(), 0)
        args = ("-s", str(folder / "injector.py"))
        self.gateway = Gateway(folder / "gateway", config_for(provider.url), args=args)
        self.oracles = Oracles(self.gateway, (provider,), clients=(CLIENT_KEY, TEXT))
        self.tried: set[str] = set()

    def put(self, fault: str) -> None:
        """Let a fault be in force; no fault has no name."""
        self._fault[:] = fault.encode().ljust(mmap.PAGESIZE, b"\0")

    def ask(self, fault: str, data: bytes) -> tuple[Heard, list[Any]]:
        """What came of a request while `fault` (a function and an error) is in force."""
        self.oracles.mark()
        self.put(fault)
        try:
            heard = talk(self.gateway.port, data)
        finally:
            self.put("")
        return heard, self.oracles.new()

    def called(self, data: bytes) -> list[str]:
        """The functions that a request calls, in the order of their first call."""
        (self.folder / "called").write_text("")
        heard, _ = self.ask("trace -", data)
        assert heard.status is not None
        return list(dict.fromkeys((self.folder / "called").read_text().split()))


@pytest.fixture(scope="module")
def patient(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    patient = Patient(tmp_path_factory.mktemp("faults"), provider)
    yield patient
    patient.gateway.stop()


KINDS = {
    "a chat": (GOOD, 200),
    "vertex": (chat("good", "/genai_passthrough/v1beta/models/m:generateContent"), 200),
    "a refusal": (chat("good", "/nowhere"), 404),
    "a page": (b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200),
}


# What is called between these two decides about a request: it comes, and it may leave. Before the
# first of them others may still be at work, such as for the connection that was there before.
COMES, LEAVES = "gateway.Gateway.requestheaders", "egress.Egress.allow"
# Called by the clock and not by a hook; and the guard of the tee itself.
NOT_OURS = (
    "gateway.Gateway.watch",
    "gateway.Gateway.end_overdue",
    "egress.Egress.close_late",
    "egress.Egress._sign",
    "deadlines.",
    "tee.Tee.__call__",
)
# Hooks that only take notice: without them a request goes on as it should.
TELLING = frozenset(
    ("egress.Egress.server_connected", "egress.Egress._connected",
     "egress.Egress.client_connected", "egress.Egress.server_connect", "clients.is_loopback",
     "egress.Egress.client_disconnected", "egress.Egress.next_layer", "exchange.Exchange.wait_for")
)  # fmt: skip
# Of the writer's thread, which may still be at the request before.
WRITING = ("redact.", "record.", "recorder.", "bodies.")


def judge(patient: Patient, fault: str, data: bytes, right: int, before: bool) -> list[str]:
    """What is wrong with the outcome of a fault; nothing where it is as it should be."""
    wrong = []
    try:
        heard, seen = patient.ask(fault, data)
    except AssertionError as error:
        return [f"{fault}: {error}"[:200]]
    if heard.status not in (None, right) and heard.status < 500:
        wrong.append(f"{fault}: status {heard.status}")
    if heard.status is not None and heard.status >= 500:
        if heard.header("content-type") != "application/json":
            wrong.append(f"{fault}: no JSON: {heard.data[:80]!r}")
        if before and seen:
            wrong.append(f"{fault}: sent all the same")
    if before and heard.status == right == 200 and b"good" in data:
        wrong.append(f"{fault}: went on as if nothing had happened")
    for each in seen:
        if found([CLIENT_KEY, TEXT], each.head + each.body):
            wrong.append(f"{fault}: the client's credential went upstream")
    if found([TEXT, CLIENT_KEY, *KEYS.values()], heard.data):
        wrong.append(f"{fault}: a secret in the answer")
    if talk(patient.gateway.port, GOOD).status != 200:
        wrong.append(f"{fault}: the next request fails")
    try:
        patient.oracles.check(heard.data, alive=False)
    except AssertionError as error:
        words = str(error).splitlines()
        wrong.append(f"{fault}: {' | '.join(words)[:300]}")
    return wrong


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_in_any_function_answers_the_client_and_sends_nothing(
    patient: Patient, kind: str
) -> None:
    """F07, H01: one function after the other, with a secret in the error's text."""
    data, right = KINDS[kind]
    called = patient.called(data)
    begun = called.index(COMES)
    sent = called.index(LEAVES) if LEAVES in called else 0
    wrong: list[str] = []
    for number, name in enumerate(called):
        if name in patient.tried or name.startswith(NOT_OURS):
            continue
        patient.tried.add(name)
        before = begun <= number < sent and name not in TELLING
        before = before and not name.startswith(WRITING)
        wrong += judge(patient, f"{name} KeyError", data, right, before)
    assert not wrong, "\n".join(wrong)


CORE = (
    "clients.Door.check",
    "routes.Routes.choose",
    "verdict.decide",
    "wire.strip",
    "wire.clean_answer",
    "gateway.Gateway.requestheaders",
    "gateway.Gateway.passthrough_sign",
    "gateway.Gateway.responseheaders",
    "gateway.Gateway.response",
)
ERRORS = (
    "OptionsError", "AddonHalt", "CancelledError", "TimeoutError", "RecursionError",
    "MemoryError", "GeneratorExit", "StopIteration", "OSError",
)  # fmt: skip


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_of_any_kind_answers_the_client(patient: Patient, error: str) -> None:
    """H04."""
    wrong: list[str] = []
    for name in CORE:
        before = "answer" not in name and "response" not in name
        wrong += judge(patient, f"{name} {error}", GOOD, 200, before)
    assert not wrong, "\n".join(wrong)


# -- other addons ----------------------------------------------------------------------------------


# Does in a hook what the file `how` says: a deed and the hook's name.
OTHER = """
from pathlib import Path
from mitmproxy import exceptions, http
HERE = Path(__file__).parent

def act(hook, flow):
    deed, _, hooks = (HERE / "how").read_text().partition(" ")
    if hook not in hooks.split():
        return
    if deed == "raise":
        raise RuntimeError("an error of the other's")
    if deed == "halt":
        raise exceptions.AddonHalt
    if deed.startswith("move"):
        flow.request.host, flow.request.port = "127.0.0.66", int(deed[4:])
    if deed == "replace":
        flow.request.headers = http.Headers(flow.request.headers.fields)
        flow.request.path = "/v1/x"
    if deed == "answer":
        flow.response = http.Response.make(418, b"other")
    if deed == "stream":
        flow.request.stream = True

def requestheaders(flow):
    act("requestheaders", flow)

def request(flow):
    act("request", flow)

def responseheaders(flow):
    act("responseheaders", flow)

def response(flow):
    act("response", flow)
"""
EVERY = "requestheaders request responseheaders response"
DEEDS = [
    pytest.param(f"raise {EVERY}", (200,), id="raises"),
    pytest.param(f"halt {EVERY}", (200,), id="halts"),
    pytest.param("move{EV} requestheaders", (403, 421), id="moves-it-early"),
    pytest.param("move{EV} request", (403, 421), id="moves-it-late"),
    pytest.param("replace request", (404,), id="replaces-the-headers-and-the-path"),
    pytest.param("answer request", (418,), id="answers"),
    pytest.param("answer requestheaders", (418,), id="answers-early"),
    pytest.param("stream requestheaders", (200,), id="streams"),
]


@pytest.fixture(scope="module", params=["before ours", "after ours"])
def beside(
    request: pytest.FixtureRequest, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Oracles]]:
    """A gateway with another addon, loaded before or after ours."""
    folder = tmp_path_factory.mktemp("other")
    other, evil = folder / "other.py", Listener("127.0.0.66")
    other.write_text(OTHER)
    (folder / "how").write_text("nothing")
    ours, theirs = (other, SCRIPT) if request.param == "before ours" else (SCRIPT, other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "SCRIPT", ours)
        gateway = Gateway(folder / "gateway", config_for(provider.url), args=("-s", str(theirs)))
    yield folder / "how", Oracles(gateway, (provider,), evil)
    gateway.stop()
    evil.stop()


@pytest.mark.parametrize(("deed", "right"), DEEDS)
def test_another_addon_moves_no_key(
    beside: tuple[Path, Oracles], deed: str, right: tuple[int, ...]
) -> None:
    """H14: whichever was loaded first, ours sees a request first and has the last word."""
    how, oracles = beside
    assert oracles.evil is not None
    oracles.mark()
    how.write_text(deed.replace("{EV}", str(oracles.evil.port)))
    try:
        heard = talk(oracles.gateway.port, chat())
    finally:
        how.write_text("nothing")
    assert heard.status in right, heard.data
    assert oracles.evil.connections == 0
    for seen in oracles.new():
        assert found([CLIENT_KEY, *KEYS.values()], seen.head) == [KEYS["openai"]]
    assert len(oracles.new()) == (right == (200,))
    oracles.new_records(1)
    assert not found([CLIENT_KEY, *KEYS.values()], oracles.gateway.output.encode())


def test_a_second_copy_of_the_addon_changes_nothing(tmp_path: Path, provider: Provider) -> None:
    """H14: one key, one record."""
    copy = tmp_path / "copy.py"
    shutil.copy(SCRIPT, copy)
    config = config_for(provider.url)
    with running(tmp_path / "gateway", config, args=("-s", str(copy))) as gateway:
        oracles = Oracles(gateway, (provider,))
        oracles.mark()
        heard = talk(gateway.port, chat())
        assert heard.status == 200
        assert len(oracles.new()) == 1
        oracles.check(heard.data, 1)


def test_a_script_that_is_reloaded_keeps_guarding_and_serving(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of a request, and when the new script is broken."""
    script = tmp_path / "passthrough.py"
    shutil.copy(SCRIPT, script)
    monkeypatch.setattr(harness, "SCRIPT", script)
    with running(tmp_path / "gateway", config_for(provider.url), script=True) as gateway:
        oracles = Oracles(gateway, (provider,))
        loads = gateway.output.count("Loading script")
        oracles.mark()
        later = time.time() + 5
        script.touch()
        os.utime(script, (later, later))
        until(lambda: gateway.output.count("Loading script") > loads)
        heard = talk(gateway.port, chat())
        assert heard.status == 200
        oracles.check(heard.data, 1)
        script.write_text("raise RuntimeError('broken')\n")
        os.utime(script, (later + 5, later + 5))
        # mitmproxy tells of the broken script with a traceback of its own, which is not ours.
        until(lambda: "RuntimeError: broken" in gateway.output)
        oracles.mark()
        for data, right in ((chat(), 200), (chat("hi", CHAT, "Origin: https://evil.test"), 403)):
            assert talk(gateway.port, data).status == right
        oracles.check(records=2)


def test_a_script_that_is_taken_away_at_run_time_leaves_the_gateway(
    tmp_path: Path, provider: Provider
) -> None:
    """G06."""
    with running(tmp_path / "gateway", config_for(provider.url), program="mitmweb") as gateway:
        oracles = Oracles(gateway, (provider,))
        web = Web(gateway)
        for scripts in ([], ["/nowhere/x.py"], [str(SCRIPT)]):
            web.set(scripts=scripts)
            oracles.mark()
            heard = talk(gateway.port, chat())
            assert heard.status == 200
            assert talk(gateway.port, chat("hi", CHAT, "Origin: https://evil.test")).status == 403
            absolute = b"GET http://127.0.0.66/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            assert talk(gateway.port, absolute).status == 403
            oracles.check(heard.data, 3)
