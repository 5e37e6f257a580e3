"""Tests of the pages inside of mitmweb."""
