"""llm-passthrough: a gateway for LLM APIs that you can see through."""

__version__ = "0.1.0"
