"""Sinks take records. All of them are called by one writer thread, never by the event loop."""
