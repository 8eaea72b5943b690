"""A small photo stream for everyone, and a local host that serves it, with the failures that a script asks for."""
