"""Tests of the providers: where a request goes, and how it is signed."""
