"""The providers that we know by name: one row each."""

from llm_passthrough.providers.anthropic import ANTHROPIC
from llm_passthrough.providers.azure import AZURE
from llm_passthrough.providers.base import Ask, Base, Credential, Origin, Provider, Target
from llm_passthrough.providers.generic import generic
from llm_passthrough.providers.google import GEMINI, VERTEX
from llm_passthrough.providers.openai import OPENAI

PROVIDERS = {provider.name: provider for provider in (OPENAI, ANTHROPIC, AZURE, GEMINI, VERTEX)}

__all__ = ["PROVIDERS", "Ask", "Base", "Credential", "Origin", "Provider", "Target", "generic"]
