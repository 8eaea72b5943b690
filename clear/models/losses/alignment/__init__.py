"""Losses of image-text alignment, one a file."""
