"""Entra ID tokens through the real azure-identity, against an endpoint with Entra's shapes."""

import asyncio
import re
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from llm_passthrough.tokens.azure_entra import (
    SCOPE,
    default_chain,
    installed,
    service_principal,
)
from llm_passthrough.tokens.cache import EARLY, Fetch, TokenError, TokenSource
from pydantic import SecretStr

from tokens.harness import TENANT, Clock, Records, TokenServer

CLIENT = "11111111-2222-4333-8444-555555555555"
SECRET = "client~SECRET-0123456789"
LEAKED = "REFRESH-TOKEN-0123456789"
TOKEN_PATH = f"/{TENANT}/oauth2/v2.0/token"


@pytest.fixture
def authority(server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> TokenServer:
    """The endpoint as the authority that the environment names."""
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", server.url)
    return server


@pytest.fixture
def nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """No metadata service and no command-line tool on this machine."""
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("PATH", "/nowhere")


def principal(*scopes: str) -> Fetch:
    return service_principal(TENANT, CLIENT, SecretStr(SECRET), scopes or (SCOPE,))


async def text(source: TokenSource) -> str:
    return (await source.get()).get_secret_value()


async def renewed(source: TokenSource) -> None:
    async with asyncio.timeout(20):
        while source._pending is not None:
            await asyncio.sleep(0.005)


def test_azure_identity_is_found() -> None:
    assert installed()


async def test_a_service_principal_gets_a_token_for_the_default_scope(
    authority: TokenServer,
) -> None:
    assert await text(TokenSource("azure/main", principal())) == "entra-access-token-1"
    (request,) = authority.token_requests
    assert request.path == TOKEN_PATH
    assert request.form["grant_type"] == "client_credentials"
    assert request.form["scope"] == SCOPE
    assert (request.form["client_id"], request.form["client_secret"]) == (CLIENT, SECRET)


async def test_the_scope_is_the_configured_one(authority: TokenServer) -> None:
    await TokenSource("azure/main", principal("api://gateway/.default")).get()
    assert authority.token_requests[0].form["scope"] == "api://gateway/.default"


@pytest.mark.parametrize(
    ("authority_host", "host"),
    [
        pytest.param(None, "login.microsoftonline.com", id="the public cloud by default"),
        pytest.param(
            "https://login.microsoftonline.us", "login.microsoftonline.us", id="a sovereign cloud"
        ),
        pytest.param("login.microsoftonline.us", "login.microsoftonline.us", id="without https://"),
    ],
)
async def test_no_host_but_the_authority_is_dialled(
    through_proxy: TokenServer,
    monkeypatch: pytest.MonkeyPatch,
    authority_host: str | None,
    host: str,
) -> None:
    if authority_host:
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", authority_host)
    assert await text(TokenSource("azure/main", principal())) == "entra-access-token-1"
    assert {seen.host for seen in through_proxy.seen} == {host}


async def test_a_token_is_renewed_early_and_the_old_one_serves_meanwhile(
    authority: TokenServer,
) -> None:
    clock = Clock()
    source = TokenSource("azure/main", principal(), clock=clock)
    assert await text(source) == "entra-access-token-1"
    clock.now += 3600 - EARLY - 5
    assert await text(source) == "entra-access-token-1"
    assert len(authority.token_requests) == 1
    authority.lifetime = 7200
    authority.gate.clear()
    clock.now += 10
    assert [await text(source) for _ in range(3)] == ["entra-access-token-1"] * 3
    authority.gate.set()
    await renewed(source)
    assert await text(source) == "entra-access-token-2"
    assert len(authority.token_requests) == 2


async def test_an_expired_token_is_replaced_before_the_request_goes_on(
    authority: TokenServer,
) -> None:
    clock = Clock()
    source = TokenSource("azure/main", principal(), clock=clock)
    await source.get()
    clock.now += 3600
    assert await text(source) == "entra-access-token-2"


async def test_fifty_requests_make_one_call(authority: TokenServer) -> None:
    source = TokenSource("azure/main", principal())
    tokens = await asyncio.gather(*(text(source) for _ in range(50)))
    assert set(tokens) == {"entra-access-token-1"}
    assert len(authority.token_requests) == 1


async def test_a_revoked_token_is_not_given_out_again_by_the_library(
    authority: TokenServer,
) -> None:
    source = TokenSource("azure/main", principal())
    assert source.drop(await source.get())
    assert await asyncio.gather(*(text(source) for _ in range(5))) == ["entra-access-token-2"] * 5
    assert len(authority.token_requests) == 2


async def test_a_renewal_that_fails_is_not_taken_for_a_new_token(authority: TokenServer) -> None:
    clock = Clock()
    source = TokenSource("azure/main", principal(), clock=clock)
    await source.get()
    authority.failure = (503, "text/plain", "down")
    clock.now += 3600 - EARLY + 5
    assert await text(source) == "entra-access-token-1"
    await renewed(source)
    assert await text(source) == "entra-access-token-1"
    await renewed(source)
    assert len(authority.token_requests) == 2


_LEAK = f"secret {SECRET} refresh_token={LEAKED}"
FAILURES = [
    pytest.param(
        (
            401,
            "application/json",
            '{"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client '
            f'secret provided. {_LEAK}", "error_codes": [7000215]}}',
        ),
        r"AADSTS7000215|invalid_client",
        id="401 with a description",
    ),
    pytest.param(
        (400, "application/json", f'{{"refresh_token": "x", "debug": {{"got": "{_LEAK}"}}}}'),
        r"",
        id="400 in a shape of its own",
    ),
    pytest.param((500, "text/html", f"<h1>{_LEAK}</h1>"), r"", id="500 with a page"),
    pytest.param((503, "application/json", f'"{_LEAK}"'), r"", id="503 with a string"),
    pytest.param((429, "application/json", f'{{"error": "{_LEAK}"}}'), r"", id="429"),
    pytest.param(
        (200, "application/json", f'{{"oops": "{_LEAK}"}}'), r"", id="200 without a token"
    ),
    pytest.param((200, "application/json", f"not JSON {_LEAK}"), r"", id="200 that is no JSON"),
    pytest.param((302, "text/plain", _LEAK), r"", id="a redirection"),
]


@pytest.mark.parametrize(("failure", "said"), FAILURES)
@pytest.mark.parametrize("chain", [False, True], ids=["service principal", "default chain"])
async def test_a_failing_endpoint_is_told_without_its_answer(
    authority: TokenServer,
    nothing_else: None,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    failure: tuple[int, str, str],
    said: str,
    chain: bool,
) -> None:
    """F17."""
    authority.failure = failure
    authority.extra_headers = (("Retry-After", "3600"), ("Location", f"{authority.url}/x"))
    for name, value in (("CLIENT_ID", CLIENT), ("CLIENT_SECRET", SECRET), ("TENANT_ID", TENANT)):
        monkeypatch.setenv(f"AZURE_{name}", value)
    source = TokenSource("azure/main", default_chain() if chain else principal())
    with pytest.raises(TokenError) as caught:
        await source.get()
    # A `Retry-After` of an hour is not slept through: the answer is there at once.
    assert caught.value.late is False
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for secret in (SECRET, LEAKED):
        assert secret not in shown
        assert secret not in "".join(records.texts)
    assert re.search(said, str(caught.value))
    assert "azure/main: no token" in "".join(records.texts)
    assert len(authority.token_requests) == 1


async def test_a_token_stands_in_no_log_record(authority: TokenServer, records: Records) -> None:
    await TokenSource("azure/main", principal()).get()
    logged = "".join(records.texts)
    assert "entra-access-token" not in logged
    assert SECRET not in logged
    assert not [name for name in records.names if name.startswith(("azure", "msal", "urllib3"))]


async def test_a_slow_endpoint_holds_up_nobody_else(authority: TokenServer) -> None:
    source = TokenSource("azure/main", principal())
    authority.gate.clear()
    beats = 0
    waiting = asyncio.create_task(source.get(0.05))
    async with asyncio.timeout(20):
        while beats < 20 or not authority.asked.is_set():
            await asyncio.sleep(0.005)
            beats += 1
    with pytest.raises(TokenError) as caught:
        await waiting
    assert caught.value.late is True
    # The loop opens the gate itself: a fetch on the loop would wait for it for ever.
    authority.gate.set()
    await renewed(source)
    assert await text(source) == "entra-access-token-1"
    assert len(authority.token_requests) == 1


async def test_an_unreachable_authority_is_said(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://localhost:1")
    with pytest.raises(TokenError, match="Connection refused"):
        await TokenSource("azure/main", principal()).get()


async def test_an_authority_with_a_foreign_certificate_gets_no_secret(
    authority: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    with pytest.raises(TokenError, match="CERTIFICATE_VERIFY_FAILED"):
        await TokenSource("azure/main", principal()).get()
    assert authority.seen == []


# -- the default chain --------------------------------------------------------------------------


async def test_the_default_chain_takes_a_service_principal_from_the_environment(
    authority: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("CLIENT_ID", CLIENT), ("CLIENT_SECRET", SECRET), ("TENANT_ID", TENANT)):
        monkeypatch.setenv(f"AZURE_{name}", value)
    source = TokenSource("azure/main", default_chain())
    assert await text(source) == "entra-access-token-1"
    assert authority.token_requests[0].form["client_secret"] == SECRET
    assert source.drop(await source.get())
    assert await text(source) == "entra-access-token-2"


async def test_the_default_chain_takes_a_workload_identity_and_reads_its_file_each_time(
    authority: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "federated"
    file.write_text("projected-token-1")
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(file))
    source = TokenSource("azure/main", default_chain(("api://other/.default",)))
    assert await text(source) == "entra-access-token-1"
    file.write_text("projected-token-2")
    source.drop(await source.get())
    assert await text(source) == "entra-access-token-2"
    forms = [seen.form for seen in authority.token_requests]
    assert [form["client_assertion"] for form in forms] == [
        "projected-token-1",
        "projected-token-2",
    ]
    assert {form["scope"] for form in forms} == {"api://other/.default"}


async def test_the_default_chain_takes_a_managed_identity(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{server.plain_url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "header-0123456789")
    source = TokenSource("azure/main", default_chain())
    assert await text(source) == "managed-access-token-1"
    (request,) = server.token_requests
    assert request.form["resource"] == "https://cognitiveservices.azure.com"
    assert request.headers["x-identity-header"] == "header-0123456789"
    assert source.drop(await source.get())
    assert await text(source) == "managed-access-token-2"


async def test_a_machine_without_any_identity_is_said(
    server: TokenServer, nothing_else: None, records: Records
) -> None:
    with pytest.raises(TokenError, match="ClientAuthenticationError"):
        await TokenSource("azure/main", default_chain()).get()
    assert server.seen == []
    assert {name for name in records.names if name != "asyncio"} == {"llm_passthrough.tokens.cache"}


# -- what is wrong at start, and the process around ---------------------------------------------


@pytest.mark.parametrize(
    ("tenant", "client", "secret", "scopes", "said"),
    [
        pytest.param("", CLIENT, SECRET, (SCOPE,), "tenant_id", id="no tenant"),
        pytest.param("a/../b", CLIENT, SECRET, (SCOPE,), "tenant_id", id="a tenant that is a path"),
        pytest.param(TENANT, "", SECRET, (SCOPE,), "client_id", id="no client"),
        pytest.param(TENANT, CLIENT, "", (SCOPE,), "client_secret", id="no secret"),
        pytest.param(TENANT, CLIENT, SECRET, (), "scopes", id="no scope"),
        pytest.param(TENANT, CLIENT, SECRET, ("",), "scopes", id="an empty scope"),
        pytest.param(TENANT, CLIENT, SECRET, (f"{SCOPE} x",), "scopes", id="two in one"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_request(
    tenant: str, client: str, secret: str, scopes: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        service_principal(tenant, client, SecretStr(secret), scopes)
    assert SECRET not in str(caught.value)


def test_nothing_is_imported_before_the_first_fetch() -> None:
    code = (
        "import sys\n"
        "from pydantic import SecretStr\n"
        "from llm_passthrough.tokens import azure_entra, google\n"
        "azure_entra.service_principal('t', 'c', SecretStr('s'), ('https://a/.default',))\n"
        "azure_entra.default_chain(), google.default_credentials()\n"
        "azure_entra.installed(), google.installed()\n"
        "names = {'azure.identity', 'azure.core', 'msal', 'google.auth', 'requests', 'urllib3'}\n"
        "print(names & set(sys.modules))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (result.stdout, result.stderr) == (b"set()\n", b"")


def test_an_endpoint_that_never_answers_does_not_hold_up_the_end_of_the_process(
    authority: TokenServer,
) -> None:
    code = (
        "import asyncio\n"
        "from pydantic import SecretStr\n"
        "from llm_passthrough.tokens import TokenError, TokenSource, azure_entra\n"
        f"fetch = azure_entra.service_principal({TENANT!r}, 'c', SecretStr('s'))\n"
        "async def main():\n"
        "    source = TokenSource('azure/main', fetch)\n"
        "    waiting = asyncio.create_task(source.get(1000))\n"
        "    await asyncio.to_thread(input)\n"
        "    print('waiting', not waiting.done(), flush=True)\n"
        "asyncio.run(main())\n"
    )
    authority.gate.clear()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert authority.asked.wait(60)
        # It is asked and will not answer: the gate is opened only after the process has ended.
        output, _ = process.communicate(b"\n", timeout=15)
        assert (output, process.returncode) == (b"waiting True\n", 0)
    finally:
        process.kill()
        authority.gate.set()
