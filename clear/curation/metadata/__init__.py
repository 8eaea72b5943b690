"""Metadata of photo streams in every public form, as typed tables."""
