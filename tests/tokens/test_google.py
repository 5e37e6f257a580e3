"""Google access tokens through the real google-auth, against endpoints with Google's shapes."""

import asyncio
import json
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt
from llm_passthrough.tokens.cache import EARLY, TokenError, TokenSource
from llm_passthrough.tokens.google import (
    SCOPES,
    check,
    default_credentials,
    from_info,
    installed,
)
from pydantic import SecretStr

from tokens.harness import Clock, Records, TokenServer

SECRET = "GOCSPX-SECRET-0123456789"
REFRESH = "1//REFRESH-TOKEN-0123456789"
ACCOUNT = "gateway@my-project-1.iam.gserviceaccount.com"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # a long one takes long
PRIVATE = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
PUBLIC = KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)

type Info = dict[str, Any]


def service_account(url: str) -> Info:
    return {
        "type": "service_account",
        "project_id": "my-project-1",
        "private_key_id": "k1",
        "private_key": PRIVATE,
        "client_email": ACCOUNT,
        "client_id": "1",
        "token_uri": f"{url}/token",
    }


def authorized_user() -> Info:
    """google-auth takes these to oauth2.googleapis.com, whatever their token_uri says."""
    return {
        "type": "authorized_user",
        "client_id": "client-id",
        "client_secret": SECRET,
        "refresh_token": REFRESH,
    }


def external_account(url: str, file: Path) -> Info:
    pool = "projects/123/locations/global/workloadIdentityPools/pool/providers/provider"
    return {
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{pool}",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{url}/v1/token",
        "credential_source": {"file": str(file)},
    }


def impersonated() -> Info:
    target = f"projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
    return {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": f"https://iamcredentials.googleapis.com/v1/{target}",
        "source_credentials": authorized_user(),
        "delegates": [],
    }


def source_of(info: Info, **options: Any) -> TokenSource:
    return TokenSource("vertex/main", from_info(SecretStr(json.dumps(info))), **options)


@pytest.fixture
def user(through_proxy: TokenServer) -> Info:
    return authorized_user()


async def text(source: TokenSource) -> str:
    return (await source.get()).get_secret_value()


async def renewed(source: TokenSource) -> None:
    async with asyncio.timeout(20):
        while source._pending is not None:
            await asyncio.sleep(0.005)


def test_google_auth_is_found() -> None:
    assert installed()


async def test_a_service_account_signs_for_its_token(server: TokenServer) -> None:
    assert await text(source_of(service_account(server.url))) == "google-access-token-1"
    (request,) = server.seen
    assert request.form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    claims = jwt.decode(
        request.form["assertion"], PUBLIC, audience="https://oauth2.googleapis.com/token"
    )
    assert (claims["iss"], claims["scope"]) == (ACCOUNT, SCOPES[0])


async def test_an_authorised_user_refreshes_without_asking_for_more_scopes(
    server: TokenServer, user: Info
) -> None:
    assert await text(source_of(user)) == "google-access-token-1"
    assert server.seen[0].form == {
        "grant_type": "refresh_token",
        "client_id": "client-id",
        "client_secret": SECRET,
        "refresh_token": REFRESH,
    }


async def test_an_external_account_exchanges_its_file_and_reads_it_each_time(
    through_proxy: TokenServer, tmp_path: Path
) -> None:
    file = tmp_path / "subject"
    file.write_text("subject-token-1")
    source = source_of(external_account("https://sts.googleapis.com", file))
    assert await text(source) == "sts-access-token-1"
    file.write_text("subject-token-2")
    assert source.drop(await source.get())
    assert await text(source) == "sts-access-token-2"
    # Nothing asks the resource manager for the project's name.
    assert [(seen.host, seen.path) for seen in through_proxy.seen] == [
        ("sts.googleapis.com", "/v1/token")
    ] * 2
    forms = [seen.form for seen in through_proxy.seen]
    assert [form["subject_token"] for form in forms] == ["subject-token-1", "subject-token-2"]
    assert {form["scope"] for form in forms} == {SCOPES[0]}


async def test_an_impersonated_account_is_asked_for_with_a_new_token_of_its_source(
    through_proxy: TokenServer,
) -> None:
    source = source_of(impersonated())
    assert await text(source) == "iam-token-2"
    # A revoked token may be the source's: that one is fetched anew too.
    assert source.drop(await source.get())
    assert await text(source) == "iam-token-4"
    calls = [(seen.host, seen.path.rpartition("/")[2]) for seen in through_proxy.seen]
    once = [
        ("oauth2.googleapis.com", "token"),
        ("iamcredentials.googleapis.com", f"{ACCOUNT}:generateAccessToken"),
    ]
    assert calls == once * 2
    asked = through_proxy.seen[1]
    assert asked.headers["authorization"] == "Bearer google-access-token-1"
    assert asked.form["scope"] == list(SCOPES)


async def test_the_scopes_are_the_given_ones(server: TokenServer) -> None:
    info = SecretStr(json.dumps(service_account(server.url)))
    scopes = ("https://www.googleapis.com/auth/cloud-platform.read-only",)
    await TokenSource("vertex/main", from_info(info, scopes)).get()
    claims = jwt.decode(
        server.seen[0].form["assertion"], PUBLIC, audience="https://oauth2.googleapis.com/token"
    )
    assert claims["scope"] == scopes[0]


@pytest.mark.parametrize("kind", ["service_account", "authorized_user", "external_account"])
async def test_default_credentials_come_from_the_file_that_the_environment_names(
    through_proxy: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "subject").write_text("subject-token-1")
    infos = {
        "service_account": service_account("https://oauth2.googleapis.com"),
        "authorized_user": authorized_user(),
        "external_account": external_account("https://sts.googleapis.com", tmp_path / "subject"),
    }
    file = tmp_path / "adc.json"
    file.write_text(json.dumps(infos[kind]))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    source = TokenSource("vertex/main", default_credentials())
    assert (await text(source)).endswith("-access-token-1")
    assert len(through_proxy.seen) == 1
    source.drop(await source.get())
    assert (await text(source)).endswith("-access-token-2")


def child(code: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """google-auth reads where the metadata server is when it is imported: a process of its own."""
    head = (
        "import asyncio, logging\n"
        "from llm_passthrough.tokens import TokenError, TokenSource, google\n"
        "logging.basicConfig(level=logging.DEBUG)\n"
        "source = TokenSource('vertex/main', google.default_credentials())\n"
    )
    return subprocess.run(
        [sys.executable, "-c", head + code],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | env,
    )


def test_default_credentials_come_from_the_metadata_server(server: TokenServer) -> None:
    host = f"127.0.0.1:{server.port}"
    env = {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}
    result = child("print(asyncio.run(source.get()).get_secret_value())", env)
    assert result.stdout == "metadata-token-1\n"
    assert "metadata-token" not in result.stderr
    assert {seen.headers["metadata-flavor"] for seen in server.token_requests} == {"Google"}


def test_a_machine_without_credentials_is_said(server: TokenServer) -> None:
    code = (
        "try:\n"
        "    asyncio.run(source.get())\n"
        "except TokenError as error:\n"
        "    print(error, error.late)\n"
    )
    result = child(code, {"NO_GCE_CHECK": "true", "CLOUDSDK_CONFIG": "/nowhere"})
    assert result.stdout == "DefaultCredentialsError False\n"
    lines = [line for line in result.stderr.splitlines() if ":asyncio:" not in line]
    assert lines == [
        "WARNING:llm_passthrough.tokens.cache:vertex/main: no token: DefaultCredentialsError"
    ]


async def test_a_token_is_renewed_early_and_the_old_one_serves_meanwhile(
    server: TokenServer, user: Info
) -> None:
    clock = Clock()
    source = source_of(user, clock=clock)
    assert await text(source) == "google-access-token-1"
    clock.now += 3600 - EARLY - 5
    assert await text(source) == "google-access-token-1"
    assert len(server.seen) == 1
    server.lifetime = 7200
    server.gate.clear()
    clock.now += 10
    assert [await text(source) for _ in range(3)] == ["google-access-token-1"] * 3
    server.gate.set()
    await renewed(source)
    assert await text(source) == "google-access-token-2"
    assert len(server.seen) == 2


async def test_an_expired_token_is_replaced_before_the_request_goes_on(
    server: TokenServer, user: Info
) -> None:
    clock = Clock()
    source = source_of(user, clock=clock)
    await source.get()
    clock.now += 3600
    assert await text(source) == "google-access-token-2"


async def test_fifty_requests_make_one_call(server: TokenServer, user: Info) -> None:
    source = source_of(user)
    tokens = await asyncio.gather(*(text(source) for _ in range(50)))
    assert set(tokens) == {"google-access-token-1"}
    assert len(server.seen) == 1


_LEAK = f"{SECRET} refresh_token={REFRESH}"


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        pytest.param(
            (
                400,
                "application/json",
                f'{{"error": "invalid_grant", "error_description": "Token revoked. {_LEAK}"}}',
            ),
            r"RefreshError \(invalid_grant\)",
            id="400 with a description",
        ),
        pytest.param((401, "application/json", f'{{"x": "{_LEAK}"}}'), r"", id="401 of another"),
        pytest.param((403, "text/html", f"<h1>{_LEAK}</h1>"), r"", id="403 with a page"),
        pytest.param((200, "application/json", f'{{"x": "{_LEAK}"}}'), r"", id="200, no token"),
        pytest.param((200, "text/plain", _LEAK), r"", id="200 that is no JSON"),
        pytest.param(
            (200, "application/json", f'{{"access_token": "{_LEAK}"}}'),
            r"did not say when it ends",
            id="a token without an end",
        ),
        pytest.param(
            (200, "application/json", f'{{"access_token": "x", "expires_in": "{_LEAK}"}}'),
            r"",
            id="an end that is none",
        ),
    ],
)
async def test_a_failing_endpoint_is_told_without_its_answer(
    server: TokenServer, user: Info, records: Records, failure: tuple[int, str, str], said: str
) -> None:
    """F17."""
    server.failure = failure
    with pytest.raises(TokenError) as caught:
        await source_of(user).get()
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for secret in (SECRET, REFRESH):
        assert secret not in shown
        assert secret not in "".join(records.texts)
    assert re.search(said, str(caught.value))
    assert "vertex/main: no token" in "".join(records.texts)


async def test_an_endpoint_in_trouble_is_asked_three_times_at_most(
    server: TokenServer, user: Info, records: Records
) -> None:
    server.failure = (503, "application/json", f'{{"error": "{_LEAK}"}}')
    with pytest.raises(TokenError, match="RefreshError"):
        await source_of(user).get()
    assert len(server.seen) <= 3
    assert SECRET not in "".join(records.texts)


@pytest.mark.parametrize("status", [302, 307, 308])
async def test_a_redirection_takes_the_secret_nowhere(
    server: TokenServer, user: Info, status: int
) -> None:
    server.failure = (status, "text/plain", "elsewhere")
    server.extra_headers = (("Location", f"{server.url}/elsewhere"),)
    with pytest.raises(TokenError, match="RefreshError"):
        await source_of(user).get()
    assert [seen.path for seen in server.seen] == ["/token"]


@pytest.mark.parametrize("kind", ["service_account", "authorized_user"])
async def test_neither_secret_nor_token_stands_in_a_log_record(
    server: TokenServer, user: Info, records: Records, kind: str
) -> None:
    await source_of(user if kind == "authorized_user" else service_account(server.url)).get()
    logged = "".join(records.texts)
    assert not re.search(f"access-token|PRIVATE KEY|{SECRET}|{REFRESH}", logged)
    assert not [name for name in records.names if name.startswith(("google", "urllib3"))]


async def test_a_slow_endpoint_holds_up_nobody_else(server: TokenServer, user: Info) -> None:
    source = source_of(user)
    server.gate.clear()
    beats = 0
    waiting = asyncio.create_task(source.get(0.05))
    async with asyncio.timeout(20):
        while beats < 20 or not server.asked.is_set():
            await asyncio.sleep(0.005)
            beats += 1
    with pytest.raises(TokenError) as caught:
        await waiting
    assert caught.value.late is True
    # The loop opens the gate itself: a fetch on the loop would wait for it for ever.
    server.gate.set()
    await renewed(source)
    assert await text(source) == "google-access-token-1"
    assert len(server.seen) == 1


def test_an_endpoint_that_never_answers_does_not_hold_up_the_end_of_the_process(
    server: TokenServer, tmp_path: Path, user: Info
) -> None:
    (tmp_path / "adc.json").write_text(json.dumps(user))
    code = (
        "import asyncio\n"
        "from llm_passthrough.tokens import TokenSource, google\n"
        "async def main():\n"
        "    source = TokenSource('vertex/main', google.default_credentials())\n"
        "    waiting = asyncio.create_task(source.get(1000))\n"
        "    await asyncio.to_thread(input)\n"
        "    print('waiting', not waiting.done(), flush=True)\n"
        "asyncio.run(main())\n"
    )
    server.gate.clear()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "adc.json")},
    )
    try:
        assert server.asked.wait(60)
        # It is asked and will not answer: the gate is opened only after the process has ended.
        output, _ = process.communicate(b"\n", timeout=15)
        assert (output, process.returncode) == (b"waiting True\n", 0)
    finally:
        process.kill()
        server.gate.set()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("", "no JSON", id="empty"),
        pytest.param(f"{{'key': '{SECRET}'}}", "no JSON", id="not JSON"),
        pytest.param("[" * 100_000, "no JSON", id="nested without end"),
        pytest.param("[]", "no known `type`", id="a list"),
        pytest.param('{"type": []}', "no known `type`", id="a type that is no text"),
        pytest.param(f'{{"type": "{SECRET}"}}', "no known `type`", id="an unknown type"),
        pytest.param(
            '{"type": "gdch_service_account"}', "no known `type`", id="a type that is not Vertex's"
        ),
        pytest.param(
            f'{{"type": "authorized_user", "client_secret": "{SECRET}"}}',
            "lacks client_id, refresh_token",
            id="a field is missing",
        ),
        pytest.param(
            json.dumps(service_account("https://x") | {"private_key": f"{SECRET}"}),
            "private_key that is no PEM",
            id="no private key",
        ),
        pytest.param(
            json.dumps(
                service_account("https://x") | {"private_key": PRIVATE.replace("\n", "\\n")}
            ),
            "its line breaks",
            id="line breaks escaped twice, as environment variables often have them",
        ),
    ],
)
def test_what_is_wrong_with_credentials_is_said_before_the_first_request(
    content: str, said: str
) -> None:
    for use in (check, from_info):
        with pytest.raises(ValueError, match=said) as caught:
            use(SecretStr(content))
        assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "info",
    [
        pytest.param(service_account("https://x"), id="service account"),
        pytest.param(authorized_user(), id="authorised user"),
        pytest.param(external_account("https://x", Path("/subject")), id="external account"),
        pytest.param(impersonated(), id="impersonated account"),
    ],
)
def test_whole_credentials_are_taken(info: Info) -> None:
    assert check(SecretStr(json.dumps(info))) == info
