"""Readers of images with captions: tables with a column `caption`, a text or a list of texts per image."""
