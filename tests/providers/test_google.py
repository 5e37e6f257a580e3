"""Gemini and Vertex AI: which of the two is meant, and how Vertex's URLs are made."""

import pytest
from llm_passthrough.errors import Refusal
from llm_passthrough.keyring import Key
from llm_passthrough.providers import Ask, Base, Credential
from llm_passthrough.providers.google import (
    GEMINI,
    VERTEX,
    by_path,
    host,
    is_google_token,
    is_project,
    is_region,
    names_vertex,
)
from pydantic import SecretStr

GEMINI_BASE = Base.parse("https://generativelanguage.googleapis.com")
VERTEX_BASE = Base.parse("https://aiplatform.googleapis.com")
SECRET = SecretStr("s")
EXPRESS = Key("express", "vertex", SECRET)
OAUTH = Key("oauth", "vertex", SECRET, bearer=True, project="ours", region="europe-west4")
MODEL = b"publishers/google/models/gemini-2.5-flash:generateContent"
RESOURCE = b"/projects/ours/locations/europe-west4/"


# -- which of the two ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "provider"),
    [
        # What the SDKs send (google-genai with an API key, a project, in both generations).
        pytest.param(b"/v1beta1/" + MODEL, "vertex", id="genai.Client(vertexai=True, api_key=)"),
        pytest.param(b"/v1beta1/projects/p/locations/us-central1/" + MODEL, "vertex", id="project"),
        pytest.param(
            b"/v1/projects/p/locations/l/publishers/anthropic/models/claude-4@1:rawPredict",
            "vertex",
            id="Claude on Vertex",
        ),
        pytest.param(
            b"/v1/projects/p/locations/global/endpoints/openapi/chat/completions",
            "vertex",
            id="OpenAI on Vertex",
        ),
        pytest.param(b"/v1beta/projects/p/locations/l/x", "vertex", id="any version"),
        pytest.param(b"/projects/p/locations/l/x", "vertex", id="no version"),
        pytest.param(b"/x/y/projects/p/locations/l/z", "vertex", id="anywhere"),
        pytest.param(b"/v1/projects/p/locations/l", "vertex", id="a location alone"),
        pytest.param(
            b"/v1beta1/projects/p/locations/us-central1:retrieveContexts",
            "vertex",
            id="a method of a location",
        ),
        pytest.param(b"/v1/projects/p", "vertex", id="projects behind the version"),
        pytest.param(b"/v1/publishers/google/models/m", "vertex", id="publishers"),
        pytest.param(b"/v1/publishers", "vertex", id="publishers alone"),
        pytest.param(b"/v1/reasoningEngines/1:query", "vertex", id="reasoning engines"),
        pytest.param(b"/upload/v1/projects/p/x", "vertex", id="under upload"),
        pytest.param(b"/upload/v1beta1/reasoningEngines", "vertex", id="reasoning engines, upload"),
        pytest.param(b"/v1beta1/models/m:generateContent", "vertex", id="v1beta1 is Vertex's"),
        pytest.param(b"/v1beta1", "vertex", id="v1beta1 alone"),
        pytest.param(
            b"/ws/google.cloud.aiplatform.v1.LlmBidiService/BidiGenerateContent",
            "vertex",
            id="live",
        ),
        pytest.param(
            b"//ws/google.cloud.aiplatform.v1.LlmBidiService/BidiGenerateContent",
            "vertex",
            id="a WebSocket of Vertex behind two slashes",
        ),
        pytest.param(b"/v1beta/files", "gemini", id="files"),
        pytest.param(b"/v1beta/files/abc:download", "gemini", id="a file"),
        pytest.param(b"/upload/v1beta/files", "gemini", id="upload"),
        pytest.param(b"/upload/files", "gemini", id="upload without a version"),
        pytest.param(b"/download/v1beta/files/abc:download", "gemini", id="download"),
        pytest.param(b"/v1beta/fileSearchStores/a", "gemini", id="file search stores"),
        pytest.param(b"/v1beta/corpora", "gemini", id="corpora"),
        pytest.param(b"/v1beta/tunedModels/m:generateContent", "gemini", id="tuned models"),
        pytest.param(b"/v1/interactions", "gemini", id="interactions"),
        pytest.param(b"/v1alpha/auth_tokens", "gemini", id="tokens"),
        pytest.param(
            b"/ws/google.ai.generativelanguage.v1beta.GenerativeService.Bidi",
            "gemini",
            id="live of Gemini",
        ),
        pytest.param(b"/v1/models/gemini-2.5-flash:generateContent", None, id="both have models"),
        pytest.param(b"/v1beta/models", None, id="the list of models"),
        pytest.param(b"/v1beta/cachedContents", None, id="both have caches"),
        pytest.param(b"/v1beta/openai/chat/completions", None, id="OpenAI's dialect"),
        pytest.param(b"/v1/projectsX/y", None, id="a segment that begins alike"),
        pytest.param(b"/v1beta/filesX", None, id="a segment that begins like files"),
        pytest.param(b"/v1beta10/models/m", None, id="a version that begins alike"),
        pytest.param(b"/v1/models/projects", None, id="projects is not behind the version"),
        pytest.param(b"/v1/Projects/p", None, id="another case"),
        pytest.param(b"/v1/projects%2Fp%2Flocations%2Fl/x", None, id="encoded slashes"),
        pytest.param(b"", None, id="empty"),
        pytest.param(b"/", None, id="a slash"),
        pytest.param(b"files", None, id="no slash"),
    ],
)
def test_the_path_says_which_api_is_meant(path: bytes, provider: str | None) -> None:
    assert by_path(path) == (None if provider is None else (provider, "path"))


@pytest.mark.parametrize(
    ("model", "is_one"),
    [
        ("projects/p/locations/l/publishers/google/models/m", True),
        ("projects/p/locations/l/endpoints/1", True),
        ("publishers/google/models/m", True),
        ("models/gemini-2.5-flash", False),
        ("gemini-2.5-flash", False),
        ("projects/p/locations/l", False),
        ("projects//locations/l/x", False),
        ("publishers/", False),
        ("xprojects/p/locations/l/x", False),
        (None, False),
        (["publishers/google/models/m"], False),
        ({"publishers/a": 1}, False),
    ],
)
def test_a_model_may_be_a_resource_of_vertex(model: object, is_one: bool) -> None:
    assert names_vertex(model) is is_one


@pytest.mark.parametrize(
    ("authorization", "is_one"),
    [
        ("Bearer ya29.abc", True),
        ("bearer ya29.abc", True),
        (" Bearer  ya29.abc", True),
        ("ya29.abc", False),
        ("Bearer AIza-ya29.", False),
        ("Basic ya29.abc", False),
        ("Bearer", False),
        ("", False),
    ],
)
def test_a_google_token_is_known_by_its_beginning(authorization: str, is_one: bool) -> None:
    assert is_google_token(authorization) is is_one


# -- Gemini --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        (b"/v1/models/m:generateContent", b"/v1/models/m:generateContent"),
        (b"/v1beta/models/m:x", b"/v1beta/models/m:x"),
        (b"/v1alpha/models/m:x", b"/v1alpha/models/m:x"),
        (b"/models/m:generateContent", b"/v1beta/models/m:generateContent"),
        (b"/files", b"/v1beta/files"),
        (b"/upload/v1beta/files", b"/upload/v1beta/files"),
        (b"/upload/v1/files", b"/upload/v1/files"),
        (b"/upload/files", b"/upload/v1beta/files"),
        (b"/upload", b"/upload/v1beta"),
        (b"/uploads/x", b"/v1beta/uploads/x"),
        (b"/vx/models", b"/v1beta/vx/models"),
        (b"//models/a%2Fb/", b"/v1beta//models/a%2Fb/"),
        (
            b"/ws/google.ai.generativelanguage.v1beta.X",
            b"/ws/google.ai.generativelanguage.v1beta.X",
        ),
    ],
)
def test_gemini_keeps_the_clients_version_and_gets_one_where_there_is_none(
    path: bytes, sent: bytes
) -> None:
    target = GEMINI.locate(Ask("POST", path, b"alt=sse&$x=%24"), EXPRESS, GEMINI_BASE)
    assert target.path == sent + b"?alt=sse&$x=%24"
    assert str(target.origin) == "https://generativelanguage.googleapis.com"


def test_gemini_is_signed_with_its_own_header() -> None:
    assert GEMINI.sign(Ask("POST", b"/", None), EXPRESS) == Credential(b"x-goog-api-key")


# -- Vertex: the host ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "name"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("us-central1", "us-central1-aiplatform.googleapis.com"),
        ("northamerica-northeast10", "northamerica-northeast10-aiplatform.googleapis.com"),
    ],
)
def test_each_region_has_its_host(region: str, name: str) -> None:
    assert host(region) == name
    target = VERTEX.locate(
        Ask("POST", f"/v1/projects/p/locations/{region}/x".encode(), None), OAUTH, VERTEX_BASE
    )
    assert str(target.origin) == f"https://{name}"


NO_REGIONS = [
    "", "evil.test", "evil.test%2f", "us-central1.evil.test", "us_central1", "US-CENTRAL1", "us-",
    "-us", "us-central", "us-central1-a", "us-central1@evil.test", "us central1", "1", "ü", "us%2e",
]  # fmt: skip


@pytest.mark.parametrize("region", NO_REGIONS)
def test_what_is_no_region_never_becomes_part_of_a_host(region: str) -> None:
    assert not is_region(region)
    with pytest.raises(Refusal) as caught:
        host(region)
    assert caught.value.code == "bad_region"
    if region:
        with pytest.raises(Refusal) as caught:
            VERTEX.locate(
                Ask("POST", f"/v1/projects/p/locations/{region}/x".encode(), None),
                OAUTH,
                VERTEX_BASE,
            )
        assert (caught.value.code, caught.value.status) == ("bad_region", 400)


@pytest.mark.parametrize("project", ["p%2f", "p@x", "..", "-p", "p p", "ü"])
def test_what_is_no_project_is_refused(project: str) -> None:
    assert not is_project(project)
    ask = Ask("POST", f"/v1/projects/{project}/locations/us-central1/x".encode(), None)
    with pytest.raises(Refusal) as caught:
        VERTEX.locate(ask, OAUTH, VERTEX_BASE)
    assert (caught.value.code, caught.value.status) == ("bad_target", 400)


@pytest.mark.parametrize("project", ["my-project-1", "example.com:legacy", "123456789012"])
def test_projects_have_ids_and_numbers(project: str) -> None:
    assert is_project(project)


# -- Vertex: the path ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "sent", "origin"),
    [
        pytest.param(
            b"/v1/projects/theirs/locations/us-central1/" + MODEL,
            b"/v1/projects/ours/locations/us-central1/" + MODEL,
            "us-central1-aiplatform",
            id="the key's project, the client's region",
        ),
        pytest.param(
            b"/projects/theirs/locations/us-central1/x",
            b"/v1beta1/projects/ours/locations/us-central1/x",
            "us-central1-aiplatform",
            id="a version where there is none",
        ),
        pytest.param(
            b"/v1beta1/projects/theirs/locations/us-central1:retrieveContexts",
            b"/v1beta1/projects/ours/locations/us-central1:retrieveContexts",
            "us-central1-aiplatform",
            id="a method of the location stays",
        ),
        pytest.param(
            b"/v1/projects/theirs/locations/global/a%2Fb//c/",
            b"/v1/projects/ours/locations/global/a%2Fb//c/",
            "aiplatform",
            id="what is behind the location stays",
        ),
        pytest.param(
            b"/v1/projects/theirs/locations/us-central1/x/projects/other",
            b"/v1/projects/ours/locations/us-central1/x/projects/other",
            "us-central1-aiplatform",
            id="only the first project",
        ),
        pytest.param(
            b"/upload/v1/projects/theirs/locations/us-central1/ragCorpora/1/ragFiles:upload",
            b"/upload/v1/projects/ours/locations/us-central1/ragCorpora/1/ragFiles:upload",
            "us-central1-aiplatform",
            id="under upload",
        ),
        pytest.param(
            b"/v1/projects/theirs/locations",
            b"/v1/projects/ours/locations",
            "europe-west4-aiplatform",
            id="a project without a location",
        ),
        pytest.param(
            b"/v1/projects/theirs:method",
            b"/v1/projects/ours:method",
            "europe-west4-aiplatform",
            id="a method of a project",
        ),
        pytest.param(
            b"/v1/projects", b"/v1/projects", "europe-west4-aiplatform", id="the list of projects"
        ),
        pytest.param(
            b"/v1beta1/" + MODEL,
            b"/v1beta1" + RESOURCE + MODEL,
            "europe-west4-aiplatform",
            id="no project: the key's, behind the version",
        ),
        pytest.param(
            b"/publishers/google/models/m:predict",
            b"/v1beta1" + RESOURCE + b"publishers/google/models/m:predict",
            "europe-west4-aiplatform",
            id="neither project nor version",
        ),
        pytest.param(
            b"/v1beta1/reasoningEngines/1:query",
            b"/v1beta1" + RESOURCE + b"reasoningEngines/1:query",
            "europe-west4-aiplatform",
            id="another collection",
        ),
        pytest.param(
            b"/v1/models/gemini-2.5-flash:generateContent",
            b"/v1" + RESOURCE + MODEL,
            "europe-west4-aiplatform",
            id="Gemini's shape gets a publisher",
        ),
        pytest.param(
            b"/v1/openai/chat/completions",
            b"/v1" + RESOURCE + b"endpoints/openapi/chat/completions",
            "europe-west4-aiplatform",
            id="OpenAI's dialect gets its endpoint",
        ),
        pytest.param(
            b"/ws/google.cloud.aiplatform.v1.LlmBidiService/BidiGenerateContent",
            b"/ws/google.cloud.aiplatform.v1.LlmBidiService/BidiGenerateContent",
            "europe-west4-aiplatform",
            id="a WebSocket goes to the key's region",
        ),
    ],
)
def test_an_oauth_key_has_its_project_in_the_path(path: bytes, sent: bytes, origin: str) -> None:
    target = VERTEX.locate(Ask("POST", path, b"alt=sse"), OAUTH, VERTEX_BASE)
    assert target.path == sent + b"?alt=sse"
    assert str(target.origin) == f"https://{origin}.googleapis.com"


@pytest.mark.parametrize(
    ("path", "sent", "origin"),
    [
        pytest.param(b"/v1beta1/" + MODEL, b"/v1beta1/" + MODEL, "aiplatform", id="as it is"),
        pytest.param(
            b"/v1beta1/projects/p/locations/us-central1/" + MODEL,
            b"/v1beta1/projects/p/locations/us-central1/" + MODEL,
            "us-central1-aiplatform",
            id="a project of the client's, and his region",
        ),
        pytest.param(
            b"/v1/models/gemini-2.5-flash:generateContent",
            b"/v1/" + MODEL,
            "aiplatform",
            id="Gemini's shape gets a publisher",
        ),
        pytest.param(
            b"/publishers/google/models/m", b"/v1beta1/publishers/google/models/m", "aiplatform",
            id="a version where there is none",
        ),
    ],
)  # fmt: skip
def test_an_express_key_needs_no_project(path: bytes, sent: bytes, origin: str) -> None:
    target = VERTEX.locate(Ask("POST", path, None), EXPRESS, VERTEX_BASE)
    assert target.path == sent
    assert str(target.origin) == f"https://{origin}.googleapis.com"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "path", [b"/v1beta1/publishers/google/models", b"/v1beta1/publishers/google/models/m"]
)
def test_the_list_of_publishers_models_never_names_a_project(method: str, path: bytes) -> None:
    assert VERTEX.locate(Ask(method, path, None), OAUTH, VERTEX_BASE).path == path


@pytest.mark.parametrize(
    ("hint", "region"),
    [
        pytest.param("projects/theirs/locations/us-central1/x/m", b"us-central1", id="a region"),
        pytest.param("publishers/google/models/m", b"europe-west4", id="none: the key's"),
        pytest.param(None, b"europe-west4", id="nothing: the key's"),
    ],
)
def test_the_bodys_model_names_the_region_where_the_path_does_not(
    hint: str | None, region: bytes
) -> None:
    ask = Ask("POST", b"/v1/models/m:x", None, hint=hint)
    target = VERTEX.locate(ask, OAUTH, VERTEX_BASE)
    assert (
        target.path == b"/v1/projects/ours/locations/" + region + b"/publishers/google/models/m:x"
    )
    assert target.origin.host == f"{region.decode()}-aiplatform.googleapis.com"


@pytest.mark.parametrize("hint", ["projects/p/locations/évil/x", "projects/p/locations/a.b/x"])
def test_a_region_of_the_body_is_checked_too(hint: str) -> None:
    with pytest.raises(Refusal) as caught:
        VERTEX.locate(Ask("POST", b"/v1/models/m:x", None, hint=hint), OAUTH, VERTEX_BASE)
    assert caught.value.code == "bad_region"


@pytest.mark.parametrize(
    ("project", "region"), [(None, None), (None, "us-central1"), ("ours", None)]
)
def test_an_oauth_key_without_project_or_region_says_what_to_set(
    project: str | None, region: str | None
) -> None:
    key = Key("prod", "vertex", SECRET, bearer=True, project=project, region=region)
    with pytest.raises(Refusal) as caught:
        VERTEX.locate(Ask("POST", b"/v1beta1/" + MODEL, None), key, VERTEX_BASE)
    assert (caught.value.code, caught.value.status) == ("no_project", 503)
    for mend in ("prod", "vertex_key_config.project_id", "GOOGLE_CLOUD_PROJECT"):
        assert mend in caught.value.message


def test_a_base_url_of_the_configuration_is_used_for_every_region() -> None:
    ask = Ask("POST", b"/v1/projects/p/locations/us-central1/x", None)
    target = VERTEX.locate(ask, OAUTH, Base.parse("http://127.0.0.1:9/base"))
    assert str(target.origin) == "http://127.0.0.1:9"
    assert target.path == b"/base/v1/projects/ours/locations/us-central1/x"


@pytest.mark.parametrize(
    ("bearer", "header", "form"),
    [(True, b"Authorization", b"Bearer {key}"), (False, b"x-goog-api-key", b"{key}")],
)
def test_vertex_is_signed_with_a_token_or_an_express_key(
    bearer: bool, header: bytes, form: bytes
) -> None:
    account = ((b"x-goog-user-project", b"p"),)
    key = Key("k", "vertex", SECRET, bearer=bearer, account_headers=account)
    assert VERTEX.sign(Ask("POST", b"/", None), key) == Credential(header, form, account)
