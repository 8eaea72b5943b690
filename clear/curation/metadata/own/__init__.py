"""Streams of one's own: tables with an address or path and a time, and folders of photos."""
