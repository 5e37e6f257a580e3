"""Uploads with the real google-genai SDK through a gateway that has clients.

Its Python SDK begins an upload with its key and goes on at the URL of the answer without any.
"""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google import genai

from live.harness import KEYS, Gateway, Provider, config_for, request
from live.oracles import Heard, Oracles, talk

ALICE, BOB = "llmp_token-of-alice-0123456789", "llmp_token-of-bob-0123456789"
START = "/genai_passthrough/upload/v1beta/files"


class Scene:
    """A gateway with two clients in front of Gemini."""

    def __init__(self, folder: Path) -> None:
        self.provider = Provider()
        clients = [
            {"name": "alice", "tokens": [ALICE], "models": ["gemini-*"]},
            {"name": "bob", "tokens": [BOB]},
        ]
        self.gateway = Gateway(folder, config_for(self.provider.url, clients=clients))
        self.oracles = Oracles(self.gateway, (self.provider,), clients=(ALICE, BOB))

    def begin(self, token: str) -> str:
        """Begin an upload; the target at which it goes on."""
        headers = (
            f"x-goog-api-key: {token}",
            "X-Goog-Upload-Protocol: resumable",
            "X-Goog-Upload-Command: start",
            "X-Goog-Upload-Header-Content-Length: 4",
            "X-Goog-Upload-Header-Content-Type: text/plain",
        )
        body = b'{"file":{"displayName":"x"}}'
        told = len(self.gateway.records())
        heard = talk(self.gateway.port, request(START, body, headers=headers))
        assert heard.status == 200, heard.data
        self.gateway.records(told + 1)  # which is written a moment later
        return (heard.header("x-goog-upload-url") or "").removeprefix(self.gateway.url)

    def go_on(self, target: str, *headers: str) -> Heard:
        fields = ("X-Goog-Upload-Command: upload, finalize", "X-Goog-Upload-Offset: 0", *headers)
        return talk(self.gateway.port, request(target, b"data", headers=fields))

    def stop(self) -> None:
        self.gateway.stop()
        self.provider.stop()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = Scene(tmp_path_factory.mktemp("tickets"))
    yield scene
    scene.stop()


@pytest.mark.parametrize("size", [5, 9 << 20], ids=["in one piece", "in two, streamed"])
def test_the_sdk_uploads_a_file_of_its_client(scene: Scene, size: int) -> None:
    scene.oracles.mark()
    client = genai.Client(
        api_key=ALICE, http_options={"base_url": f"{scene.gateway.url}/genai_passthrough"}
    )
    data = bytes(size)
    made = client.files.upload(file=io.BytesIO(data), config={"mime_type": "video/mp4"})
    assert made.name
    sent = scene.oracles.new()
    assert b"".join(seen.body for seen in sent[1:]) == data
    assert all(dict(seen.headers)["x-goog-api-key"] == KEYS["gemini"] for seen in sent)
    records = scene.oracles.new_records(len(sent))
    assert {record["client"] for record in records} == {"alice"}
    (upload,) = set(re.findall(r"upload_id=([\w-]+)", sent[-1].target))
    assert upload not in json.dumps(records), "who reads records could go on with the upload"
    scene.oracles.check()


def test_an_upload_goes_on_for_who_began_it_alone(scene: Scene) -> None:
    target = scene.begin(ALICE)
    scene.oracles.mark()
    foreign = scene.go_on(target, f"x-goog-api-key: {BOB}")
    assert (foreign.status, foreign.header("x-passthrough-error")) == (403, "foreign_upload")
    elsewhere = scene.go_on(target.replace("/upload/v1beta/files", "/v1beta/models"))
    assert elsewhere.status == 401
    unknown = scene.go_on(f"{START}?upload_id=nobody-handed-it-out")
    assert unknown.status == 401
    assert not scene.oracles.new()
    records = scene.oracles.new_records(3)
    assert [record["client"] for record in records] == ["bob", "default", "default"]
    assert scene.go_on(target).status == 200
    assert scene.oracles.new_records(4)[-1]["client"] == "alice"


def test_with_a_token_of_its_own_too_it_goes_on(scene: Scene) -> None:
    assert scene.go_on(scene.begin(BOB), f"x-goog-api-key: {BOB}").status == 200
