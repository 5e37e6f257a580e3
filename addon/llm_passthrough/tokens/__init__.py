"""Short-lived keys: where they come from (one file a cloud) and the cache in front of them."""

from llm_passthrough.tokens.cache import Token, TokenError, TokenSource

__all__ = ["Token", "TokenError", "TokenSource"]
