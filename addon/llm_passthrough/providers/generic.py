"""A provider from the configuration: any HTTP API in front of which a route was put."""

from llm_passthrough.errors import ErrorShape
from llm_passthrough.keyring import Key
from llm_passthrough.providers.base import Ask, Credential, Provider, as_it_is


def generic(name: str, upstream: str, shape: ErrorShape, header: str, form: str) -> Provider:
    """A provider that sends its key as `header: form`, where `{key}` stands for the key."""
    credential = Credential(header.encode(), form.encode())

    def sign(ask: Ask, key: Key) -> Credential:
        return credential

    return Provider(name, upstream, shape, as_it_is, sign)
