"""Tar shards of pairs: what they hold, and reading it."""
