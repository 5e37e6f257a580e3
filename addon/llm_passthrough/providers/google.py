"""Google's two APIs behind one prefix: Gemini (AI Studio) and Vertex AI, and which is meant.

Gemini: https://ai.google.dev/api, Vertex: https://cloud.google.com/vertex-ai/docs/reference/rest.
Paths are raw bytes; what is not named here goes on byte for byte.
"""

import re

from llm_passthrough.errors import Refusal
from llm_passthrough.keyring import Key
from llm_passthrough.providers.base import Ask, Base, Credential, Origin, Provider, Target
from llm_passthrough.splice import resources

_VERSION = re.compile(
    rb"(?P<media>/(?:upload|download))?(?P<version>/v[0-9]\w*)(?P<rest>/.*|)", re.S
)
_UNVERSIONED = re.compile(rb"(?P<media>/(?:upload|download))?(?P<rest>/.*|)", re.S)
_RESOURCE = re.compile(rb"/projects/(?P<project>[^/]+)/locations/(?P<region>[^/:]+)(?=[/:]|$)")
_OWNER = re.compile(rb"/projects/(?P<project>[^/:]+)")
_VERTEX_ROOTS = re.compile(rb"/(projects|publishers|reasoningEngines)(/|$)")
_GEMINI_ROOTS = re.compile(
    rb"/(files|fileSearchStores|corpora|tunedModels|interactions|auth_tokens)([/:]|$)"
)
# google-genai puts two slashes before it where its base URL ends in one.
_SOCKET = re.compile(rb"//?ws/google\.(?:(?P<cloud>cloud\.aiplatform)|ai\.generativelanguage)\.")
_REGION = re.compile(r"[a-z]+(-[a-z]+[0-9]+)?")
_PROJECT = re.compile(rb"[A-Za-z0-9][A-Za-z0-9.:_-]*")
_GLOBAL = Origin("https", "aiplatform.googleapis.com", 443)
_MODEL_NAME = re.compile(r"(projects/[^/]+/locations/[^/]+/.+|publishers/.+)")


def by_path(path: bytes) -> tuple[str, str] | None:
    """The provider and the rule, when the path alone says it (Vertex before Gemini)."""
    if match := _SOCKET.match(path):
        return "vertex" if match["cloud"] else "gemini", "path"
    version, rest = _split(path)[1:]
    if _RESOURCE.search(path) or _VERTEX_ROOTS.match(rest) or version == b"/v1beta1":
        return "vertex", "path"
    if _GEMINI_ROOTS.match(rest):
        return "gemini", "path"
    return None


def is_region(text: str) -> bool:
    """Whether a text may become part of a host name as a Vertex location."""
    return _REGION.fullmatch(text) is not None


def is_project(text: str) -> bool:
    """Whether a text may be a Google Cloud project's id or number."""
    return _PROJECT.fullmatch(text.encode()) is not None


def names_vertex(model: object) -> bool:
    """Whether a body's `model` is a Vertex resource path."""
    return isinstance(model, str) and _MODEL_NAME.fullmatch(model) is not None


def is_google_token(authorization: str) -> bool:
    """Whether an Authorization header holds a Google OAuth access token."""
    scheme, _, token = authorization.strip().partition(" ")
    return scheme.lower() == "bearer" and token.strip().startswith("ya29.")


def locate_gemini(ask: Ask, key: Key, base: Base) -> Target:
    """The client's path; `v1beta` is put in where there is no version."""
    return ask.target(base, ask.path if ask.exact else _with_version(ask.path, b"/v1beta"))


def sign_gemini(ask: Ask, key: Key) -> Credential:
    """`x-goog-api-key` (https://ai.google.dev/gemini-api/docs/api-key)."""
    return Credential(b"x-goog-api-key")


def locate_vertex(ask: Ask, key: Key, base: Base) -> Target:
    """Vertex's host by region, the key's project, the client's region where it names one."""
    asked = _asked_region(ask)
    path = ask.path
    if not _SOCKET.match(path):
        path = _project(ask, _vertex_shaped(_with_version(path, b"/v1beta1")), key, asked)
    if base.origin != _GLOBAL:
        return ask.target(base, path)
    region = asked or (None if _is_express(key) else key.region)
    return ask.target(Base(Origin("https", host(region or "global"), 443)), path)


def sign_vertex(ask: Ask, key: Key) -> Credential:
    """`Authorization: Bearer` for an OAuth token, `x-goog-api-key` for an express key."""
    if key.bearer:
        return Credential(b"Authorization", b"Bearer {key}", key.account_headers)
    return Credential(b"x-goog-api-key", extra=key.account_headers)


def rewrite_vertex(ask: Ask, key: Key, target: Target, body: bytes) -> bytes:
    """Top-level resource names of the body under the key's project and the target's region."""
    if key.project is None:
        return body
    match = _RESOURCE.search(target.path)
    return resources(body, key.project, match["region"].decode("latin-1") if match else None)


def host(region: str) -> str:
    """The host of a region (https://cloud.google.com/vertex-ai/docs/general/locations).

    Raises Refusal (bad_region) before text that is no region becomes part of a host name.
    """
    if not is_region(region):
        raise Refusal("bad_region", "the Vertex location is not valid; such as us-central1, global")
    if region == "global":
        return _GLOBAL.host
    if region in ("us", "eu"):
        return f"aiplatform.{region}.rep.googleapis.com"
    return f"{region}-aiplatform.googleapis.com"


def is_vertex_host(name: str) -> bool:
    """Whether a host is Vertex's in some region; see `host`."""
    region = name.removesuffix("-aiplatform.googleapis.com")
    if region == name:
        region = name.removeprefix("aiplatform.").removesuffix(".rep.googleapis.com")
    return is_region(region) and host(region) == name


def _split(path: bytes) -> tuple[bytes, bytes, bytes]:
    """`/upload` or nothing, `/v1...` or nothing, the rest."""
    match = _VERSION.fullmatch(path) or _UNVERSIONED.fullmatch(path)
    if match is None:
        return b"", b"", path
    parts = match.groupdict()
    return parts["media"] or b"", parts.get("version") or b"", parts["rest"]


def _with_version(path: bytes, version: bytes) -> bytes:
    if _SOCKET.match(path):
        return path
    media, own, rest = _split(path)
    return media + (own or version) + rest


def _vertex_shaped(path: bytes) -> bytes:
    """A Gemini-shaped path, as Vertex names the same thing."""
    media, version, rest = _split(path)
    if rest.startswith(b"/models/"):
        return media + version + b"/publishers/google" + rest
    if rest.startswith(b"/openai/"):
        return media + version + b"/endpoints/openapi" + rest.removeprefix(b"/openai")
    return path


def _asked_region(ask: Ask) -> str | None:
    """The region that the client named, in the path or else in the body's model."""
    match = _RESOURCE.search(ask.path) or _RESOURCE.match(b"/" + (ask.hint or "").encode())
    if match is None:
        return None
    region = match["region"].decode("latin-1")
    if not is_region(region):
        raise Refusal("bad_region", "the Vertex location is not valid; such as us-central1, global")
    if not _PROJECT.fullmatch(match["project"]):
        raise Refusal("bad_target", "the Vertex project in the path is not valid")
    return region


def _project(ask: Ask, path: bytes, key: Key, asked: str | None) -> bytes:
    """The path with the key's project in it, where a project belongs."""
    media, version, rest = _split(path)
    if match := _RESOURCE.search(path) or _OWNER.match(path, len(media + version)):
        project = key.project.encode() if key.project else match["project"]
        return path[: match.start("project")] + project + path[match.end("project") :]
    if _is_express(key):
        return path
    # The list of publishers' models belongs to nobody, so its path never names a project.
    if ask.method in ("GET", "HEAD") and rest.startswith(b"/publishers/"):
        return path
    if rest.startswith(b"/projects"):
        return path
    region = asked or key.region
    if not key.project or not region:
        raise Refusal(
            "no_project",
            f"the vertex key {key.name} needs vertex_key_config.project_id and .region "
            "(or set GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION)",
        )
    return media + version + f"/projects/{key.project}/locations/{region}".encode() + rest


def _is_express(key: Key) -> bool:
    return not key.bearer


GEMINI = Provider(
    "gemini",
    "https://generativelanguage.googleapis.com",
    "google",
    locate_gemini,
    sign_gemini,
    b"/v1beta/models",
)
VERTEX = Provider(
    "vertex",
    str(_GLOBAL),
    "google",
    locate_vertex,
    sign_vertex,
    b"/v1beta1/publishers/google/models",
    rewrite_vertex,
    is_vertex_host,
)
